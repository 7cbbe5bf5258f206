"""A segment of the output: some seconds, encoded for themselves, kept in a file until the whole is put together.

A segment starts with a key frame and needs nothing of its neighbours, so a job that is killed loses one at most,
and segments made in two runs make the same file as segments made in one.  They are NUT files, FFmpeg's own container,
which takes nearly any codec and any time base.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from lldiffusion.atomic import flush
from lldiffusion.errors import LLDiffusionError

from ..frame import Frame
from ..planes import Origin, convert_layout, output_pixels, planar_format, rgb_to_frame, with_field_order
from ..reading.inputs import file_url
from .encoding import Encoding

_CONTAINERS = {"nut": "nut", "mov": "mov", "mkv": "matroska"}  # by the kind of a segment
_MILLISECOND = Fraction(1, 1000)
DEEPEST = 64  # frames by which any encoder reorders; H.264 and H.265 allow 16
LATEST = 1 << 60  # timestamps lie before
_ZERO = 1 << 24  # where a segment's first frame lies in its file: NUT has no negative timestamps, an encoder may


def segment_kind(encoding: Encoding) -> str:
    """The suffix of a segment's file: "nut", or what holds that which NUT does not."""
    if encoding.codec == "prores_ks":
        return "mov"
    return "mkv" if encoding.alpha and encoding.codec == "libvpx-vp9" else "nut"  # alpha lies beside the packets


@dataclass(frozen=True)
class Segment:
    """A finished segment, as the journal records it."""

    name: str  # of the file, or of the folder of pictures
    frames: int
    first_pts: int  # timestamp of its first frame
    last_pts: int  # of its last
    last_duration: int = 0  # of its last frame; 0: unknown
    reorder_depth: int = 0  # by how many frames the encoder reorders at most
    size: int = 0  # bytes of the file

    def __post_init__(self) -> None:
        if self.frames < 1 or self.size < 0 or self.name in ("", ".", "..") or set("/\\") & set(self.name):
            raise LLDiffusionError(f"'{self.name:.80}' of {self.frames} frames and {self.size} bytes is no segment")
        times = (self.first_pts, self.last_pts, self.last_duration)
        if not 0 <= self.reorder_depth <= min(self.frames, DEEPEST) or any(abs(time) >= LATEST for time in times):
            raise LLDiffusionError(f"'{self.name:.80}' has times or an order of frames that no encoder makes")


class VideoSegmentWriter:
    """Encodes frames into `folder/name`, which appears when it is closed."""

    def __init__(self, folder: Path, name: str, encoding: Encoding) -> None:
        import av

        self._path = folder / name
        self._part = folder / f"{name}.part"
        self._encoding = encoding
        options = {"avoid_negative_ts": "disabled", "fflags": "+bitexact"}
        self._ticks = counts_ticks(self._path)
        container = _CONTAINERS[segment_kind(encoding)]
        self._output = av.open(file_url(self._part), "w", format=container, container_options=options)
        self._stream = encoding.add_stream(self._output)
        self._planar = planar_format(av.VideoFormat(encoding.pixel_format))
        self._frame_times: list[int] = []  # timestamps in the order of the frames
        self._packet_times: list[int] = []  # in the order of the packets
        self._last_duration = 0

    def add(self, frame: Frame) -> None:
        """Encode one frame; timestamps must rise."""
        picture = self._picture(frame)
        if self._planar != self._encoding.pixel_format:
            picture = convert_layout(picture, self._encoding.pixel_format)
        if self._encoding.field_order:
            picture = with_field_order(picture, self._encoding.field_order)
        picture.pts = self._time_in_file(frame.pts)
        picture.time_base = self._encoding.time_base
        self._last_duration = picture.duration = frame.origin.duration
        self._frame_times.append(frame.pts)
        if len(self._frame_times) == 1:
            picture.pts = _ZERO
        self._write(self._stream.encode(picture))

    def _picture(self, frame: Frame) -> Any:
        colour, pixels, origin = self._encoding.colour, frame.pixels, frame.origin
        below, right = self._encoding.height - pixels.shape[0], self._encoding.width - pixels.shape[1]
        if below or right:  # to even sizes: the last line or column again
            pixels = np.pad(output_pixels(pixels, origin, colour), ((0, below), (0, right), (0, 0)), mode="edge")
            origin = Origin()
        return rgb_to_frame(pixels, origin, self._planar, colour)

    def close(self) -> Segment:
        """Finish the file, bring it to the disk and give it its name."""
        self._write(self._stream.encode(None))
        self._output.close()
        flush(self._part)
        os.replace(self._part, self._path)
        packets, frames = len(self._packet_times), len(self._frame_times)
        if packets != frames:
            raise LLDiffusionError(
                f"codec {self._encoding.codec} made {packets} packets of {frames} frames: choose another with --codec"
            )
        return Segment(
            name=self._path.name,
            frames=frames,
            first_pts=self._frame_times[0],
            last_pts=self._frame_times[-1],
            last_duration=self._last_duration,
            reorder_depth=reorder_depth(self._packet_times),
            size=self._path.stat().st_size,
        )

    def abandon(self) -> None:
        """Drop what was written."""
        with suppress(Exception):  # a full disk, a broken encoder: whatever it is, it has been reported already
            self._output.close()
        self._part.unlink(missing_ok=True)

    def _time_in_file(self, pts: int) -> int:
        return pts - (self._frame_times[0] if self._frame_times else pts) + _ZERO

    def _write(self, packets: list[Any]) -> None:
        for packet in packets:
            self._packet_times.append(packet.pts)
            if self._ticks:
                packet.time_base = _MILLISECOND
            self._output.mux(packet)


def counts_ticks(path: Path) -> bool:
    """Whether a segment's file has the source's ticks as if they were milliseconds: Matroska knows no other unit."""
    return path.suffix == ".mkv"


def reorder_depth(packet_times: list[int]) -> int:
    """By how many places packets come before frames that are shown earlier: decoding time is shown time less that."""
    place = {pts: i for i, pts in enumerate(sorted(packet_times))}
    return max((i - place[pts] for i, pts in enumerate(packet_times)), default=0)


def packets(folder: Path, segments: list[Segment], unit: Fraction) -> Iterator[Any]:
    """The packets of all segments in decoding order, with the timestamps of one uninterrupted stream.

    Decoding timestamps are the sorted presentation timestamps, `depth` places back: the smallest delay that works for
    every segment.
    """
    depth = max(segment.reorder_depth for segment in segments)
    earlier: list[int] | None = None
    for number, segment in enumerate(segments):
        in_file = list(_read_packets(folder / segment.name, segment, unit))
        order = sorted(packet.pts for packet in in_file)
        if earlier is None:
            step = order[1] - order[0] if len(order) > 1 else max(segment.last_duration, 1)
            earlier = [order[0] - step * back for back in range(depth, 0, -1)]
        is_last = number + 1 == len(segments)
        following = segment.last_pts + _duration_at_end(segment, order) if is_last else segments[number + 1].first_pts
        ends = dict(zip(order, [*order[1:], following]))
        decoding_times = earlier + order
        for place, packet in enumerate(in_file):
            packet.dts, packet.duration = decoding_times[place], ends[packet.pts] - packet.pts
            yield packet
        earlier = decoding_times[len(decoding_times) - depth :] if depth else []


def pictures(folder: Path, segments: list[Segment], unit: Fraction) -> Iterator[tuple[Any, int]]:
    """The PyAV frames of all segments, each with its timestamp.  Raises as `packets` does."""
    import av

    for segment in segments:
        path, count = folder / segment.name, 0
        if path.is_file() and path.stat().st_size == segment.size:
            with av.open(file_url(path)) as container:
                for frame in container.decode(video=0):
                    count += 1
                    yield frame, int(frame.pts * frame.time_base / unit) - _ZERO + segment.first_pts
        if count != segment.frames:
            raise LLDiffusionError(f"'{path}' was changed since it was written: start again with -y")


def _duration_at_end(segment: Segment, order: list[int]) -> int:
    """Duration of the last frame of all: as the source says, else like the one before."""
    before = order[-1] - order[-2] if len(order) > 1 else 1
    return segment.last_duration or before


def _read_packets(path: Path, segment: Segment, unit: Fraction) -> Iterator[Any]:
    """A segment's packets, at their own time again.  Raises LLDiffusionError if it is not what was written."""
    import av

    count, in_ticks = 0, counts_ticks(path)
    with suppress(av.FFmpegError, IndexError, TypeError):  # no header, no stream, no timestamp: it is counted below
        if path.is_file() and path.stat().st_size == segment.size:
            with av.open(file_url(path)) as container:
                for packet in container.demux(container.streams.video[0]):
                    if packet.size:
                        count += 1
                        ticks = packet.pts * (1 if in_ticks else packet.time_base / unit)  # NUT: a whole factor finer
                        packet.time_base = unit
                        packet.pts = int(ticks) - _ZERO + segment.first_pts
                        yield packet
    if count != segment.frames:
        raise LLDiffusionError(f"'{path}' was changed since it was written: start again with -y")
