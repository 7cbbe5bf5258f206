"""Where a job's segments go: into a video file, or into a folder of pictures."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lldiffusion.atomic import remove
from lldiffusion.errors import LLDiffusionError
from lldiffusion.images import FORMATS, list_images

from ..frame import Frame
from ..mastering import keeps_mastering
from ..reading.animation import FOREVER
from ..reading.image_sequence import is_image_sequence
from ..reading.inputs import open_input
from ..video_info import VideoInfo, exact_seconds
from .encoding import CONTAINERS, Encoding
from .image_sequence import ImageSegmentWriter, filename_pattern, images_folder, move_images
from .mux import assemble, stream_notes
from .phones import phone_notes
from .segment import Segment, VideoSegmentWriter, segment_kind
from .streams import TimeRange

ANIMATIONS = {".gif": "gif", ".apng": "apng", ".webp": "webp"}  # FFmpeg's muxers
VIDEO_OUTPUTS = (*CONTAINERS, *ANIMATIONS)
SPOOL = "others.nut"  # in a job's folder: the other streams of an input that cannot be read twice


class SegmentWriter(Protocol):
    """Some seconds of output on their way to the disk: `VideoSegmentWriter` or `ImageSegmentWriter`."""

    def add(self, frame: Frame) -> None:
        """Write a frame."""

    def close(self) -> Segment:
        """Finish the segment."""

    def abandon(self) -> None:
        """Drop it."""


class VideoOutput(Protocol):
    """`VideoFileOutput` or `ImageSequenceOutput`."""

    def stream_notes(self) -> list[str]:
        """What of the input will be converted or left out, one line each, said before the work begins."""

    def open_segment(self, folder: Path, number: int, before: int) -> SegmentWriter:
        """The writer of a segment: how many segments, and how many frames, come before it."""

    def finish(self, folder: Path, segments: tuple[Segment, ...]) -> list[str]:
        """Put the whole in its place; returns what was found out by then, one line each."""


@dataclass(frozen=True)
class VideoFileOutput:
    """A video file: the new video beside everything else of the input."""

    target: Path
    info: VideoInfo
    encoding: Encoding
    streams: str | None = None  # where the input's other streams are read; None: there are none
    start: float = 0.0  # of the part that is kept, in seconds after the first frame
    end: float | None = None
    live: bool = False  # the file begins with the first frame, not when the camera was switched on

    def stream_notes(self) -> list[str]:
        """As `VideoOutput.stream_notes`."""
        notes = [] if self.streams is None else self._notes_of(self.streams)
        if self.info.alpha and not self.encoding.alpha:
            notes.append(
                f"alpha channel dropped: {self.encoding.codec} in {self.encoding.container} has none (.webm, .mov and "
                ".mkv keep it with their usual codecs)"
            )
        if self.encoding.colour.hdr and self.info.mastering.told and not keeps_mastering(self.encoding.codec):
            notes.append(f"HDR10's static metadata is dropped: {self.encoding.codec} does not write it (libx265 does)")
        if self.info.plays not in (None, 1):
            often = "for ever" if self.info.plays == FOREVER else f"{self.info.plays} times"
            notes.append(f"'{self.info.name}' plays {often}: {self.encoding.container} plays once")
        return notes + phone_notes(self.encoding)

    def _notes_of(self, streams: str) -> list[str]:
        with open_input(streams, {}, None) as source:
            return stream_notes(self.encoding, source)

    def open_segment(self, folder: Path, number: int, before: int) -> SegmentWriter:
        """As `VideoOutput.open_segment`."""
        return VideoSegmentWriter(folder, f"segment-{number:05d}.{segment_kind(self.encoding)}", self.encoding)

    def finish(self, folder: Path, segments: tuple[Segment, ...]) -> list[str]:
        """As `VideoOutput.finish`."""
        remove_stale(self.target)
        time_range = self._time_range(segments[0])
        spool = folder / SPOOL
        streams, notes = self.streams, []
        if spool.exists():
            streams = str(spool)
            notes = self._notes_of(streams)
        return notes + assemble(self.target, folder, list(segments), self.encoding, streams, time_range)

    def _time_range(self, first: Segment) -> TimeRange:
        """The whole keeps its timestamps; a part begins at 0 with its first frame."""
        unit = self.info.time_base
        end = None if self.end is None else self.info.start * unit + exact_seconds(self.end)
        from_zero = self.start > 0 or self.live or self.encoding.container == "avi"
        return TimeRange(first.first_pts * unit if from_zero else None, end)


@dataclass(frozen=True)
class ImageSequenceOutput:
    """Numbered pictures; `target` is a folder or a pattern such as frames/%06d.png."""

    target: str
    info: VideoInfo

    def __post_init__(self) -> None:
        suffix = Path(filename_pattern(self.target)).suffix.lower()
        if suffix not in FORMATS:
            raise LLDiffusionError(f"cannot write pictures '{self.target}': accepted are {', '.join(FORMATS)}")
        if self.info.colour.hdr and self.info.keep_hdr:
            raise LLDiffusionError("pictures are written in SDR: leave --hdr keep out, or name a video file as OUT")

    def stream_notes(self) -> list[str]:
        """As `VideoOutput.stream_notes`."""
        return ["pictures have no timestamps and no sound: only the frames are kept"]

    def open_segment(self, folder: Path, number: int, before: int) -> SegmentWriter:
        """As `VideoOutput.open_segment`."""
        return ImageSegmentWriter(folder, f"segment-{number:05d}", self.target, self.info, before)

    def finish(self, folder: Path, segments: tuple[Segment, ...]) -> list[str]:
        """As `VideoOutput.finish`."""
        move_images(self.target, folder, list(segments))
        return []


def remove_stale(target: Path) -> None:
    """Remove what a run left that was killed while it put the file together."""
    for stale in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
        remove(stale)


def check_target(target: str, source: str, overwrite: bool) -> None:
    """Refuse what must not be written.  Raises LLDiffusionError saying what to do."""
    path = Path(target)
    pictures = is_image_sequence(target)
    home = images_folder(target) if pictures else path.parent
    if not (home.is_dir() or (pictures and home.parent.is_dir())):
        missing = home.parent if pictures else home
        raise LLDiffusionError(f"cannot write '{target}': the folder '{missing}' does not exist; make it first")
    if pictures and home.is_dir() and Path(source).is_dir() and home.samefile(source):
        raise LLDiffusionError(f"the output would replace the input '{source}': name another folder")
    if path.is_file() and Path(source).exists() and path.samefile(source):
        raise LLDiffusionError(f"the output would replace the input '{source}': name another file")
    existing = list_images(home) if pictures and home.is_dir() else [path] if path.exists() and not pictures else []
    if existing and not overwrite:
        raise LLDiffusionError(f"already there: '{existing[0]}'; replace it with -y, or name another output")


def parts_folder(target: str) -> Path:
    """Where the segments of `target` lie until the whole is there: beside it."""
    path = images_folder(target) if is_image_sequence(target) else Path(target)
    return path.with_name(f"{path.name}.parts")
