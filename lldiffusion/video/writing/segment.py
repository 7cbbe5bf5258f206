"""A piece of the output: some seconds, encoded for themselves, kept in a file until the whole is put together.

A piece starts with a key frame and needs nothing of its neighbours, so a job that is killed loses one piece at most,
and pieces made in two runs make the same file as pieces made in one.  They are NUT files, FFmpeg's own container,
which takes any codec and any time base.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from lldiffusion.atomic import flush
from lldiffusion.errors import LLDiffusionError

from ..frame import Frame
from ..planes import join, planar_name, repacked
from .encoding import Encoding

_ZERO = 1 << 24  # where the piece's first frame lies in its file: NUT has no negative timestamps, an encoder may


@dataclass(frozen=True)
class Segment:
    """A finished piece, as the journal records it."""

    name: str  # of the file
    frames: int
    first: int  # timestamp of its first frame
    last: int  # of its last
    duration: int  # of its last frame, 0 where unknown
    depth: int  # by how many frames the encoder reorders at most
    bytes: int


class SegmentWriter:
    """Encodes frames into `folder/name`, which appears when it is closed."""

    def __init__(self, folder: Path, name: str, encoding: Encoding) -> None:
        import av

        self._path, self._part, self._encoding = folder / name, folder / f"{name}.part", encoding
        options = {"avoid_negative_ts": "disabled", "fflags": "+bitexact"}
        self._output = av.open(str(self._part), "w", format="nut", container_options=options)
        self._stream = encoding.add_stream(self._output)
        self._planar = planar_name(av.VideoFormat(encoding.format))
        self._shown: list[int] = []  # timestamps in the order of the frames
        self._coded: list[int] = []  # in the order of the packets
        self._duration = 0

    def add(self, frame: Frame) -> None:
        """Encode one frame; timestamps must rise."""
        picture = join(frame.pixels, frame.origin, self._planar, self._encoding.colour)
        if self._planar != self._encoding.format:
            picture = repacked(picture, self._encoding.format)
        picture.pts, picture.time_base = self._shift(frame.pts), self._encoding.time_base
        self._duration = picture.duration = frame.origin.duration
        self._shown.append(frame.pts)
        if len(self._shown) == 1:
            picture.pts = _ZERO
        self._write(self._stream.encode(picture))

    def close(self) -> Segment:
        """Finish the file, bring it to the disk and give it its name."""
        self._write(self._stream.encode(None))
        self._output.close()
        flush(self._part)
        os.replace(self._part, self._path)
        if len(self._coded) != len(self._shown):
            raise LLDiffusionError(
                f"codec {self._encoding.codec} made {len(self._coded)} packets of {len(self._shown)} frames: "
                "choose another with --codec"
            )
        depth = reorder_depth(self._coded)
        size = self._path.stat().st_size
        return Segment(self._path.name, len(self._shown), self._shown[0], self._shown[-1], self._duration, depth, size)

    def abandon(self) -> None:
        """Drop what was written."""
        with suppress(Exception):  # a full disk, a broken encoder: whatever it is, it has been reported already
            self._output.close()
        self._part.unlink(missing_ok=True)

    def _shift(self, pts: int) -> int:
        return pts - (self._shown[0] if self._shown else pts) + _ZERO

    def _write(self, packets: list[Any]) -> None:
        for packet in packets:
            self._coded.append(packet.pts)
            self._output.mux(packet)


def reorder_depth(coded: list[int]) -> int:
    """By how many places packets come before frames that are shown earlier: decoding time is shown time less that."""
    place = {pts: i for i, pts in enumerate(sorted(coded))}
    return max((i - place[pts] for i, pts in enumerate(coded)), default=0)


def packets(folder: Path, segments: list[Segment], unit: Fraction) -> Iterator[Any]:
    """The packets of all pieces in decoding order, with the timestamps of one uninterrupted stream.

    Decoding timestamps are the sorted presentation timestamps, `depth` places back: the smallest delay that works for
    every piece.
    """
    depth = max(segment.depth for segment in segments)
    earlier: list[int] | None = None
    for number, segment in enumerate(segments):
        held = list(_read(folder / segment.name, segment, unit))
        order = sorted(packet.pts for packet in held)
        if earlier is None:
            step = order[1] - order[0] if len(order) > 1 else max(segment.duration, 1)
            earlier = [order[0] - step * back for back in range(depth, 0, -1)]
        following = segments[number + 1].first if number + 1 < len(segments) else segment.last + _last(segment, order)
        ends = dict(zip(order, [*order[1:], following]))
        line = earlier + order
        for place, packet in enumerate(held):
            packet.dts, packet.duration = line[place], ends[packet.pts] - packet.pts
            yield packet
        earlier = line[len(line) - depth :] if depth else []


def _last(segment: Segment, order: list[int]) -> int:
    """Duration of the last frame of all: as the source says, else like the one before."""
    before = order[-1] - order[-2] if len(order) > 1 else 1
    return segment.duration or before


def _read(path: Path, segment: Segment, unit: Fraction) -> Iterator[Any]:
    """A piece's packets, at their own time again.  Raises LLDiffusionError if it is not what was written."""
    import av

    count = 0
    if path.is_file() and path.stat().st_size == segment.bytes:
        with av.open(str(path), format="nut") as held:
            for packet in held.demux(held.streams.video[0]):
                if packet.size:
                    count += 1
                    ticks = packet.pts * packet.time_base / unit  # NUT refines the time base by a whole factor
                    packet.time_base = unit
                    packet.pts = int(ticks) - _ZERO + segment.first
                    yield packet
    if count != segment.frames:
        raise LLDiffusionError(f"'{path}' was changed since it was written: start again with -y")
