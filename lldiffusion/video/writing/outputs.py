"""Where a job's pieces go: into a video file, or into a folder of pictures."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lldiffusion.atomic import remove
from lldiffusion.errors import LLDiffusionError
from lldiffusion.images import FORMATS, list_images

from ..frame import Frame
from ..reading.inputs import open_input
from ..reading.stills import StillsWriter, folder_of, gather, is_stills, pattern_of
from ..video_info import Facts, as_written
from .encoding import Encoding
from .mux import Cut, assemble, unkept
from .segment import Segment, SegmentWriter

SPOOL = "others.nut"  # in a job's folder: the other streams of an input that cannot be read twice


class Piece(Protocol):
    """Some seconds of output on their way to the disk: `SegmentWriter` or `StillsWriter`."""

    def add(self, frame: Frame) -> None:
        """Write a frame."""

    def close(self) -> Segment:
        """Finish the piece."""

    def abandon(self) -> None:
        """Drop it."""


class Output(Protocol):
    """`FileOutput` or `FolderOutput`."""

    def lost(self) -> list[str]:
        """What of the input cannot be kept, one line each, said before the work begins."""

    def piece(self, folder: Path, segments: tuple[Segment, ...]) -> Piece:
        """The piece that follows `segments`."""

    def finish(self, folder: Path, segments: tuple[Segment, ...]) -> list[str]:
        """Put the whole in its place; returns what of the input could not be kept."""


@dataclass(frozen=True)
class FileOutput:
    """A video file: the new video beside everything else of the input."""

    target: Path
    facts: Facts
    encoding: Encoding
    streams: str | None = None  # where the input's other streams are read; None: there are none
    start: float = 0.0  # of the part that is kept, in seconds after the first frame
    end: float | None = None

    def lost(self) -> list[str]:
        """As `Output.lost`."""
        if self.streams is None:
            return []
        with open_input(self.streams, {}, None) as other:
            return unkept(self.encoding, other)

    def piece(self, folder: Path, segments: tuple[Segment, ...]) -> Piece:
        """As `Output.piece`."""
        return SegmentWriter(folder, f"piece-{len(segments):05d}.nut", self.encoding)

    def finish(self, folder: Path, segments: tuple[Segment, ...]) -> list[str]:
        """As `Output.finish`."""
        for stale in self.target.parent.glob(f".{glob.escape(self.target.name)}.*.tmp"):
            remove(stale)  # of a run that was killed while it put the file together
        cut, spool = self._cut(segments[0]), folder / SPOOL
        streams = str(spool) if spool.exists() else self.streams
        if streams is None:
            return assemble(self.target, folder, list(segments), self.encoding, None, cut)
        with open_input(streams, {}, None) as other:
            return assemble(self.target, folder, list(segments), self.encoding, other, cut)

    def _cut(self, first: Segment) -> Cut:
        """The whole keeps its timestamps; a part begins at 0 with its first frame."""
        unit = self.facts.time_base
        end = None if self.end is None else self.facts.start * unit + as_written(self.end)
        return Cut(first.first * unit if self.start > 0 else None, end)


@dataclass(frozen=True)
class FolderOutput:
    """Numbered pictures; `target` is a folder or a pattern such as frames/%06d.png."""

    target: str
    facts: Facts

    def __post_init__(self) -> None:
        suffix = Path(pattern_of(self.target)).suffix.lower()
        if suffix not in FORMATS:
            raise LLDiffusionError(f"cannot write pictures '{self.target}': accepted are {', '.join(FORMATS)}")

    def lost(self) -> list[str]:
        """As `Output.lost`."""
        return ["pictures have no timestamps and no sound: only the frames are kept"]

    def piece(self, folder: Path, segments: tuple[Segment, ...]) -> Piece:
        """As `Output.piece`."""
        number = sum(segment.frames for segment in segments)
        return StillsWriter(folder, f"piece-{len(segments):05d}", self.target, self.facts, number)

    def finish(self, folder: Path, segments: tuple[Segment, ...]) -> list[str]:
        """As `Output.finish`."""
        gather(self.target, folder, list(segments))
        return []


def check_target(target: str, source: str, overwrite: bool) -> None:
    """Refuse what must not be written.  Raises LLDiffusionError saying what to do."""
    path, stills = Path(target), is_stills(target)
    home = folder_of(target) if stills else path.parent
    if not (home.is_dir() or (stills and home.parent.is_dir())):
        missing = home.parent if stills else home
        raise LLDiffusionError(f"cannot write '{target}': the folder '{missing}' does not exist; make it first")
    if stills and home.is_dir() and Path(source).is_dir() and home.samefile(source):
        raise LLDiffusionError(f"the output would replace the input '{source}': name another folder")
    if path.is_file() and Path(source).exists() and path.samefile(source):
        raise LLDiffusionError(f"the output would replace the input '{source}': name another file")
    there = list_images(home) if stills and home.is_dir() else [path] if path.exists() and not stills else []
    if there and not overwrite:
        raise LLDiffusionError(f"already there: '{there[0]}'; replace it with -y, or name another output")


def parts_folder(target: str) -> Path:
    """Where the pieces of `target` lie until the whole is there: beside it."""
    path = folder_of(target) if is_stills(target) else Path(target)
    return path.with_name(f"{path.name}.parts")
