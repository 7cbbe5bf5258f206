"""Reading a video with FFmpeg's libraries: a file, a URL, a camera or standard input."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

from lldiffusion.errors import LLDiffusionError

from ..frame import Frame
from ..planes import Origin, bits_of, colour_of, matrix_of, split
from ..video_info import Facts, as_written
from .clock import Clock
from .damage import Damage, Lost
from .inputs import first_video, may_be_read_again, open_input
from .spool import Spool

_MISSING = 0.5  # seconds that may lack at the end without being called damage


@dataclass(frozen=True)
class Shown:
    """A decoded frame and its place in time."""

    picture: Any  # PyAV's frame
    pts: int
    duration: int  # 0: unknown
    repeated: bool = False  # stands for a frame that was lost


class VideoSource:
    """The frames of the first video stream, in order, each with its own timestamp.

    Args:
        name: a file, a URL, `-` for standard input, or `v4l2:/dev/video0` and the like for a camera.
        options: for FFmpeg's reader, e.g. {"video_size": "640x480"}; `format` names the container.
        hwaccel: "cuda", "vaapi", "qsv" ...: decode there where the codec allows it, else on the CPU.
        spool: file for the packets of the other streams, where the input cannot be read again.
    Raises LLDiffusionError for what is no video, has no frames, or has colours that are not supported.
    """

    def __init__(
        self, name: str, options: dict[str, str] | None = None, hwaccel: str | None = None, spool: Path | None = None
    ) -> None:
        self._name, self._how = name, (dict(options or {}), hwaccel)
        self._spool_path = spool
        self.spool: Spool | None = None
        self.damage = Damage()
        self._open()
        first = next(self._decoded, None)
        if first is None:
            why = " (its packets are damaged)" if self.damage.errors else ""
            raise LLDiffusionError(f"'{name}' holds no video frame that can be decoded{why}")
        self._first = first
        self.facts = _facts(self._container, self._stream, first, name)
        self.facts.colour.check(name)

    def frames(self, start: float = 0.0, end: float | None = None, skip: int = 0) -> Iterator[Frame]:
        """The frames shown from `start` until before `end` (seconds after the first), less the first `skip` of them.

        What is skipped is decoded, so that the rest is what it would have been.  Call this once.
        """
        if self.spool is not None:
            self.spool.begin()
        unit, zero = self.facts.time_base, self.facts.start * self.facts.time_base
        last = None
        for last in self._from(-int(-(zero + as_written(start)) // unit)):
            if end is not None and last.pts * unit >= zero + as_written(end):
                return
            self.damage.patched += bool(last.picture.is_corrupt) and not last.repeated
            if skip > 0:
                skip -= 1
                continue
            yield self._frame(last)
        if last is not None and not self.damage.ended:
            self._compare_with_duration(last)

    def close(self) -> None:
        """Let go of the file."""
        if self.spool is not None:
            self.spool.close()
        self._container.close()

    def _open(self) -> None:
        self._container = open_input(self._name, *self._how)
        self._stream = first_video(self._container, self._name)
        self._stream.thread_type = "AUTO"
        others = [stream for stream in self._container.streams if stream.index != self._stream.index]
        if others and self._spool_path is not None and not may_be_read_again(self._name):
            self.spool = Spool(others, self._spool_path)
        self._decoded = self._decode()

    def _frame(self, shown: Shown) -> Frame:
        width, height = shown.picture.width, shown.picture.height
        if (width, height) != (self.facts.width, self.facts.height):
            raise LLDiffusionError(
                f"'{self._name}' changes its size from {self.facts.width}x{self.facts.height} to {width}x{height} at "
                f"{float((shown.pts - self.facts.start) * self.facts.time_base):.2f} s: split it there first"
            )
        pixels, outside = split(shown.picture)
        origin = Origin(colour_of(shown.picture), shown.duration, outside, shown.repeated)
        return Frame(pixels, shown.pts, self.facts.time_base, origin)

    def _from(self, first: int) -> Iterator[Shown]:
        """Decoded frames from timestamp `first` on; seeks where that leads to a frame before it."""
        head = self._first
        if first > self.facts.start and self.facts.again:
            self._container.seek(first, stream=self._stream, backward=True)
            self._decoded = self._decode()
            landed = next(self._decoded, None)
            if landed is None or landed.pts > first:  # no index, or a wrong one: read from the beginning
                self._container.close()
                self._open()
                landed = next(self._decoded, None)
            head = landed or head
        yield from (shown for shown in chain([head], self._decoded) if shown.pts >= first)

    def _decode(self) -> Iterator[Shown]:
        """Decoded frames, timestamps rising, lost ones stood in for."""
        from av.error import FFmpegError

        lost, clock, last = Lost(), Clock(), None
        for packet in self._packets():
            lost.sent(packet)
            try:
                pictures = packet.decode()
            except FFmpegError:
                lost.failed()
                self.damage.errors += 1
                continue
            for picture in pictures:
                shown = self._dated(picture, clock)
                if last is not None:
                    yield from self._stand_ins(last, lost.before(shown.pts, picture.key_frame))
                yield shown
                last = shown
        if last is not None:
            yield from self._stand_ins(last, lost.rest())

    def _packets(self) -> Iterator[Any]:
        """The packets of the stream and a last empty one; reading that fails is the end, and is reported."""
        import av

        try:
            if self.spool is None:
                yield from self._container.demux(self._stream)
                return
            for packet in self._container.demux():
                if packet.stream.index == self._stream.index:
                    yield packet
                else:
                    self.spool.add(packet)
        except (av.error.FFmpegError, OSError) as error:
            self.damage.ended = f"the input stopped early: {getattr(error, 'strerror', None) or error}"
            flush = av.Packet()
            flush.stream = self._stream
            yield flush

    def _dated(self, picture: Any, clock: Clock) -> Shown:
        """The frame with a time that is there and rises."""
        duration = int(picture.duration or 0)
        rate, unit = self._stream.average_rate or Fraction(25), self._stream.time_base
        pts = clock.date(picture, duration or max(1, round(1 / (rate * unit))))
        self.damage.moved = clock.moved
        return Shown(picture, pts, duration)

    def _stand_ins(self, last: Shown, missing: list[int]) -> Iterator[Shown]:
        for pts in missing:
            if pts > last.pts:
                self.damage.repeated.append(float((pts - self._first.pts) * self._stream.time_base))
                yield Shown(last.picture, pts, 0, repeated=True)

    def _compare_with_duration(self, last: Shown) -> None:
        """Say when the stream is shorter than its header says."""
        duration = self.facts.duration
        reached = float((last.pts + last.duration - self.facts.start) * self.facts.time_base)
        if duration is not None and duration - reached > max(_MISSING, 3 * self.facts.seconds_a_frame):
            self.damage.ended = f"the input ends early: {reached:.1f} of {duration:.1f} s are there"


def _facts(container: Any, stream: Any, first: Shown, name: str) -> Facts:
    """Of the stream's header and its first frame, which knows more."""
    picture, rate = first.picture, stream.average_rate or stream.guessed_rate or Fraction(25)
    duration = float(stream.duration * stream.time_base) if stream.duration else None
    if duration is None and container.duration and len(container.streams) == 1:
        duration = container.duration / 1e6
    length = duration or (container.duration or 0) / 1e6  # of the longest stream: good enough for an estimate
    known = stream.frames or round(length * rate)
    return Facts(
        name=name,
        width=picture.width,
        height=picture.height,
        format=picture.format.name,
        bits=bits_of(picture.format.name),
        colour=colour_of(picture),
        time_base=stream.time_base,
        rate=Fraction(rate),
        start=first.pts,
        frames=known or None,
        duration=duration,
        sample_aspect=stream.sample_aspect_ratio or None,
        matrix=matrix_of(picture),
        interlaced=bool(picture.interlaced_frame),
        again=may_be_read_again(name),
        rgb=bool(picture.format.is_rgb),
    )
