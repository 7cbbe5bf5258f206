"""The folder of a long job: its finished segments, and a journal that says which are.

Each segment is on the disk under its own name before the journal names it, and the journal is replaced as a whole, so a
job killed at any moment is found as it was after its last finished segment.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from lldiffusion.atomic import new_path, remove, write_text
from lldiffusion.documents import read_json
from lldiffusion.errors import LLDiffusionError
from lldiffusion.tables import build

from ..stability.frame_state import StateArrays
from ..writing.segment import Segment

VERSION = 2  # of the folder's files
_NAME = "journal.json"
_AHEAD = "ahead-{}.json"


@dataclass(frozen=True)
class Ahead:
    """A finished segment, and the hash of everything that decided it."""

    key: str
    segment: Segment


@dataclass(frozen=True)
class JobJournal:
    """What a job was asked for and how far it is."""

    request: dict[str, Any]  # everything that decides the result; a resumed job must ask for the same
    encoder_threads: int  # the encoder's output depends on it
    segments: tuple[Segment, ...] = ()
    tile: str | int = "auto"  # smaller than asked for, once memory ran out
    folder: Path = field(default=Path(), compare=False)

    @classmethod
    def open(cls, folder: Path) -> JobJournal:
        """The journal in `folder`.  Raises LLDiffusionError when there is none, or none that can be read."""
        try:
            table = read_json(folder / _NAME)
            if table.pop("version", None) != VERSION:
                raise LLDiffusionError("another version of lldiffusion wrote it")
            return replace(build(cls, table, "", "journal"), folder=folder)
        except FileNotFoundError:
            raise LLDiffusionError(f"nothing to resume: there is no '{folder}'; start without --resume") from None
        except LLDiffusionError as error:
            raise LLDiffusionError(f"the journal in '{folder}' is damaged ({error}): start again with -y") from error

    def start(self) -> None:
        """Make the folder with nothing in it but this journal; what was there is dropped."""
        remove(self.folder)
        self.folder.mkdir(parents=True)
        self._save()

    @property
    def frames(self) -> int:
        """Frames in the finished segments."""
        return sum(segment.frames for segment in self.segments)

    @property
    def kept(self) -> int:
        """The same, with those of the segments that are ahead."""
        return self.frames + sum(each.segment.frames for each in self.ahead().values())

    def ahead(self) -> dict[int, Ahead]:
        """By number: segments that are finished though one before them is not; a cluster makes them in any order."""
        found: dict[int, Ahead] = {}
        for note in self.folder.glob(_AHEAD.format("*")):
            with suppress(LLDiffusionError, OSError, ValueError):  # damaged: it is made again
                number = int(note.stem.rpartition("-")[2])
                found |= {number: build(Ahead, read_json(note), "", "note")} if number >= len(self.segments) else {}
        return found

    def keep_ahead(self, number: int, ahead: Ahead) -> None:
        """Note that a segment, whose file is in the folder, is finished."""
        write_text(self._note(number), json.dumps(asdict(ahead)))

    def forget_ahead(self) -> None:
        """Drop all such notes."""
        for number in self.ahead():
            self._note(number).unlink(missing_ok=True)

    def check_request(self, request: dict[str, Any]) -> None:
        """Raises LLDiffusionError naming what a resumed job asks for differently."""
        for name in sorted({*self.request, *request}):
            before, now = self.request.get(name), request.get(name)
            if before != now:
                raise LLDiffusionError(
                    f"cannot resume '{self.folder}': {name} was {before} and is {now}; "
                    "ask for the same, or start again with -y"
                )

    def add(self, segment: Segment, state: StateArrays, tile: str | int) -> JobJournal:
        """The journal with one more segment, and the enhancer's state after it, on the disk."""
        number = len(self.segments) + 1
        with new_path(self._state_file(number)) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **state)
        grown = replace(self, segments=(*self.segments, segment), tile=tile)
        grown._save()
        self._state_file(number - 1).unlink(missing_ok=True)
        self._note(number - 1).unlink(missing_ok=True)
        return grown

    def load_state(self) -> StateArrays:
        """The enhancer's state after the last finished segment; empty before the first."""
        if not self.segments:
            return {}
        try:
            with np.load(self._state_file(len(self.segments)), allow_pickle=False) as arrays:
                return dict(arrays)
        except Exception as error:  # NumPy's readers raise a dozen kinds for a damaged archive
            reason = str(error) or "the enhancer's state is damaged"
            raise LLDiffusionError(f"cannot resume '{self.folder}': {reason}; start again with -y") from error

    def _note(self, number: int) -> Path:
        return self.folder / _AHEAD.format(f"{number:05d}")

    def _state_file(self, number: int) -> Path:
        return self.folder / f"state-{number:05d}.npz"

    def _save(self) -> None:
        table = asdict(replace(self, folder=Path()))
        del table["folder"]
        write_text(self.folder / _NAME, json.dumps({"version": VERSION, **table}, indent=1))
