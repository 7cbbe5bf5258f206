"""The folder of a long job: its finished pieces, and a journal that says which are.

Each piece is on the disk under its own name before the journal names it, and the journal is replaced as a whole, so a
job killed at any moment is found as it was after its last finished piece.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lldiffusion.atomic import new_path, remove, write_text
from lldiffusion.errors import LLDiffusionError

from ..writing.segment import Segment

VERSION = 1
_NAME = "journal.json"
State = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Journal:
    """What a job was asked for and how far it is."""

    asked: dict[str, Any]  # everything that decides the result; a resumed job must ask for the same
    threads: int  # of the encoder: its output depends on it
    segments: tuple[Segment, ...] = ()
    tile: str | int = "auto"  # smaller than asked for, once memory ran out
    folder: Path = field(default=Path(), compare=False)

    @classmethod
    def open(cls, folder: Path) -> Journal:
        """The journal in `folder`.  Raises LLDiffusionError when there is none, or none that can be read."""
        try:
            held = json.loads((folder / _NAME).read_text(encoding="utf-8"))
            if held.pop("version") != VERSION:
                raise ValueError("another version of lldiffusion wrote it")
            segments = tuple(Segment(**segment) for segment in held.pop("segments"))
            return cls(**held, segments=segments, folder=folder)
        except FileNotFoundError:
            raise LLDiffusionError(f"nothing to resume: there is no '{folder}'; start without --resume") from None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise LLDiffusionError(f"the journal in '{folder}' is damaged ({error}): start again with -y") from error

    def start(self) -> None:
        """Make the folder with nothing in it but this journal; what was there is dropped."""
        remove(self.folder)
        self.folder.mkdir(parents=True)
        self._written()

    @property
    def frames(self) -> int:
        """Frames in the finished pieces."""
        return sum(segment.frames for segment in self.segments)

    def check(self, asked: dict[str, Any]) -> None:
        """Raises LLDiffusionError naming what a resumed job asks for differently."""
        for name in sorted({*self.asked, *asked}):
            before, now = self.asked.get(name), asked.get(name)
            if before != now:
                raise LLDiffusionError(
                    f"cannot resume '{self.folder}': {name} was {before} and is {now}; "
                    "ask for the same, or start again with -y"
                )

    def add(self, segment: Segment, state: State, tile: str | int) -> Journal:
        """The journal with one more piece, and the enhancer's state after it, on the disk."""
        number = len(self.segments) + 1
        with new_path(self._state(number)) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **state)
        grown = replace(self, segments=(*self.segments, segment), tile=tile)._written()
        self._state(number - 1).unlink(missing_ok=True)
        return grown

    def state(self) -> State:
        """The enhancer's state after the last finished piece; empty before the first."""
        if not self.segments:
            return {}
        try:
            with np.load(self._state(len(self.segments)), allow_pickle=False) as held:
                return dict(held)
        except (OSError, ValueError) as error:
            raise LLDiffusionError(f"cannot resume '{self.folder}': {error}; start again with -y") from error

    def _state(self, number: int) -> Path:
        return self.folder / f"state-{number:05d}.npz"

    def _written(self) -> Journal:
        held = asdict(replace(self, folder=Path()))
        del held["folder"]
        write_text(self.folder / _NAME, json.dumps({"version": VERSION, **held}, indent=1))
        return self
