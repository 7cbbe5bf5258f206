"""Reading a video with FFmpeg's libraries: a file, a URL, a camera or standard input."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

from lldiffusion.buffers import Buffers
from lldiffusion.errors import LLDiffusionError

from ..colour import UNSPECIFIED
from ..frame import Frame
from ..mastering import DOLBY_VISION, read_mastering
from ..orientation import display_matrix
from ..planes import Origin, alpha_of, bit_depth, colour_tags, frame_to_rgb, has_alpha
from ..video_info import VideoInfo, exact_seconds
from .animation import plays_of
from .clock import DecodedFrame, PresentationClock
from .damage import DamageReport, LostFrames
from .deinterlace import deinterlace, field_order
from .inputs import alpha_decoder, codec_name, first_video, is_rereadable, open_input, stream_name
from .spool import PacketSpool

_SOMETIMES = ("gif", "apng", "png")  # codecs whose pictures have an alpha channel whether it is used or not
_MISSING = 0.5  # seconds that may lack at the end without being called damage


class VideoSource:
    """The frames of the first video stream, in order, each with its own timestamp.

    Args:
        name: a file, a URL, `-` for standard input, or `v4l2:/dev/video0` and the like for a camera.
        options: for FFmpeg's reader, e.g. {"video_size": "640x480"}; `format` names the container.
        hwaccel: "cuda", "vaapi", "qsv" ...: decode there where the codec allows it, else on the CPU.
        fields: keep the fields of interlaced video as they are; otherwise they become whole pictures (bwdif).
        keep_hdr: results shall be HDR where the video is; otherwise they are tone-mapped.
        spool: file for the packets of the other streams, where the input cannot be read again.
        live: give each frame as soon as it is there, without threads that decode several at a time; nothing can be
            read again.
    Raises LLDiffusionError for what is no video, has no frames, or has colours that are not supported.
    """

    def __init__(
        self,
        name: str,
        options: dict[str, str] | None = None,
        hwaccel: str | None = None,
        *,
        fields: bool = False,
        keep_hdr: bool = False,
        spool: Path | None = None,
        live: bool = False,
    ) -> None:
        self._name = name
        self._options = dict(options or {})
        self._hwaccel = hwaccel
        self._fields = fields
        self._spool_path = spool
        self._live = live
        self.spool: PacketSpool | None = None
        self.damage = DamageReport()
        self._buffers = Buffers()
        self._open()
        first = next(self._decoded, None)
        if first is None:
            why = " (its packets are damaged)" if self.damage.errors else ""
            raise LLDiffusionError(f"'{name}' holds no video frame that can be decoded{why}")
        self._first = first
        self.info = replace(_read_info(self._container, self._stream, first, name), keep_hdr=keep_hdr)
        self.info.colour.check(name)
        if DOLBY_VISION in self.info.mastering.changing and self.info.colour.matrix == UNSPECIFIED:
            raise LLDiffusionError(
                f"'{name}' is Dolby Vision without a picture for other players (profile 5): give a version in HDR10, "
                "HLG or SDR"
            )

    def frames(self, start: float = 0.0, end: float | None = None, skip: int = 0) -> Iterator[Frame]:
        """The frames shown from `start` until before `end` (seconds after the first), less the first `skip` of them.

        What is skipped is decoded, so that the rest is what it would have been.  Call this once.
        """
        return map(self.picture, self.decoded(start, end, skip))

    def decoded(self, start: float = 0.0, end: float | None = None, skip: int = 0) -> Iterator[DecodedFrame]:
        """The same before `picture`, for who does not want to see them all."""
        if self.spool is not None:
            self.spool.begin()
        unit, zero = self.info.time_base, self.info.start * self.info.time_base
        last = None
        for last in self._decoded_from(-int(-(zero + exact_seconds(start)) // unit)):
            if end is not None and last.pts * unit >= zero + exact_seconds(end):
                return
            self.damage.concealed += bool(last.frame.is_corrupt) and not last.repeated
            self.damage.deinterlaced += last.deinterlaced and not self.info.deinterlaced
            if skip > 0:
                skip -= 1
                continue
            yield last
        if last is not None and not self.damage.early_end:
            self._compare_with_duration(last)

    def close(self) -> None:
        """Let go of the file."""
        if self.spool is not None:
            self.spool.close()
        self._container.close()

    def _open(self) -> None:
        self._container = open_input(self._name, self._options, self._hwaccel, self._live)
        self._stream = first_video(self._container, self._name)
        self._stream.thread_type = "SLICE" if self._live else "AUTO"
        if self._spool_path is not None and (self._live or not is_rereadable(self._name)):
            self._keep_other_streams(self._spool_path)
        self._decoded = self._decode_pictures()

    def _keep_other_streams(self, path: Path) -> None:
        others = [stream for stream in self._container.streams if stream.index != self._stream.index]
        known = [stream for stream in others if codec_name(stream) is not None]
        for stream in others:
            if stream not in known:
                self.damage.left_out.append(f"{stream_name(stream)} is left out: FFmpeg does not know its codec")
        if known:
            self.spool = PacketSpool(known, path)

    def picture(self, decoded: DecodedFrame) -> Frame:
        """A decoded frame in R'G'B'.  Raises LLDiffusionError where its size is not that of the first."""
        width, height = decoded.frame.width, decoded.frame.height
        if (width, height) != (self.info.width, self.info.height):
            raise LLDiffusionError(
                f"'{self._name}' changes its size from {self.info.width}x{self.info.height} to {width}x{height} at "
                f"{float((decoded.pts - self.info.start) * self.info.time_base):.2f} s: split it there first"
            )
        pixels, outside = frame_to_rgb(decoded.frame, self._buffers)
        alpha = alpha_of(decoded.frame)
        self.damage.transparent += alpha is not None and not self.info.alpha
        origin = Origin(
            colour=colour_tags(decoded.frame),
            duration=decoded.duration,
            outside=outside,
            repeated=decoded.repeated,
            alpha=alpha,
            peak=self.info.peak,
        )
        return Frame(pixels, decoded.pts, self.info.time_base, origin)

    def _decoded_from(self, first: int) -> Iterator[DecodedFrame]:
        """Decoded frames from timestamp `first` on; seeks where that leads to a frame before it."""
        head = self._first
        if first > self.info.start and self.info.rereadable:
            self._container.seek(first, stream=self._stream, backward=True)
            self._decoded = self._decode_pictures()
            landed = next(self._decoded, None)
            if landed is None or landed.pts > first:  # no index, or a wrong one: read from the beginning
                self._container.close()
                self._open()
                landed = next(self._decoded, None)
            head = landed or head
        yield from (decoded for decoded in chain([head], self._decoded) if decoded.pts >= first)

    def _decode_pictures(self) -> Iterator[DecodedFrame]:
        decoded = self._decode()
        return decoded if self._fields else deinterlace(decoded)

    def _decode(self) -> Iterator[DecodedFrame]:
        """Decoded frames, timestamps rising, lost ones stood in for."""
        from av.error import FFmpegError

        lost = LostFrames()
        clock = PresentationClock()
        decoder = alpha_decoder(self._stream) or self._stream.codec_context
        last = None
        for packet in self._read_packets():
            lost.add_packet(packet)
            try:
                frames = decoder.decode(packet)
            except FFmpegError:
                lost.packet_failed()
                self.damage.errors += 1
                continue
            for frame in frames:
                decoded = self._with_timestamp(frame, clock)
                if last is not None:
                    yield from self._repeats(last, lost.lost_before(decoded.pts, frame.key_frame))
                yield decoded
                last = decoded
        if last is not None:
            yield from self._repeats(last, lost.lost_at_end())

    def _read_packets(self) -> Iterator[Any]:
        """The packets of the stream and a last empty one; reading that fails is the end, and is reported."""
        import av

        try:
            if self.spool is None:
                yield from self._container.demux(self._stream)
                return
            for packet in self._container.demux():
                if packet.stream.index == self._stream.index:
                    yield packet
                elif codec_name(packet.stream) is not None:
                    self.spool.add(packet)
        except (av.error.FFmpegError, OSError) as error:
            self.damage.early_end = f"the input stopped early: {getattr(error, 'strerror', None) or error}"
            flush = av.Packet()
            flush.stream = self._stream
            yield flush

    def _with_timestamp(self, frame: Any, clock: PresentationClock) -> DecodedFrame:
        """The frame with a time that is there and rises."""
        duration = int(frame.duration or 0)
        rate = self._stream.average_rate or Fraction(25)
        pts = clock.timestamp(frame, duration or max(1, round(1 / (rate * self._stream.time_base))))
        self.damage.corrected = clock.corrected
        return DecodedFrame(frame, pts, duration)

    def _repeats(self, last: DecodedFrame, missing: list[int]) -> Iterator[DecodedFrame]:
        """The last frame again, at the times of those that were lost."""
        for pts in missing:
            if pts > last.pts:
                self.damage.repeated.append(float((pts - self._first.pts) * self._stream.time_base))
                yield DecodedFrame(last.frame, pts, 0, repeated=True)

    def _compare_with_duration(self, last: DecodedFrame) -> None:
        """Say when the stream is shorter than its header says."""
        duration = self.info.duration
        reached = float((last.pts + last.duration - self.info.start) * self.info.time_base)
        if duration is not None and duration - reached > max(_MISSING, 3 * self.info.frame_duration):
            self.damage.early_end = f"the input ends early: {reached:.1f} of {duration:.1f} s are there"


def _read_info(container: Any, stream: Any, first: DecodedFrame, name: str) -> VideoInfo:
    """Of the stream's header and its first frame, which knows more."""
    frame = first.frame
    rate = stream.average_rate or stream.guessed_rate or Fraction(25)
    duration = float(stream.duration * stream.time_base) if stream.duration else None
    if duration is None and container.duration and len(container.streams) == 1:
        duration = container.duration / 1e6
    length = duration or (container.duration or 0) / 1e6  # of the longest stream: good enough for an estimate
    known = stream.frames or round(length * rate)
    return VideoInfo(
        name=name,
        width=frame.width,
        height=frame.height,
        pixel_format=frame.format.name,
        bits=bit_depth(frame.format.name),
        colour=colour_tags(frame),
        time_base=stream.time_base,
        frame_rate=Fraction(rate),
        start=first.pts,
        frames=known or None,
        duration=duration,
        sample_aspect=stream.sample_aspect_ratio or None,
        display_matrix=display_matrix(frame),
        field_order=field_order(frame),
        deinterlaced=first.deinterlaced,
        rereadable=is_rereadable(name),
        rgb=bool(frame.format.is_rgb),
        alpha=has_alpha(frame.format) and (stream.codec_context.name not in _SOMETIMES or alpha_of(frame) is not None),
        mastering=read_mastering(frame),
        plays=plays_of(Path(name)) if container.format.name in ("gif", "apng") and is_rereadable(name) else None,
    )
