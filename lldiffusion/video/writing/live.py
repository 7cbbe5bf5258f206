"""Frames sent on as they come, each with its time: to an address, or to standard output as NUT or MPEG-TS."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, BinaryIO

from lldiffusion.errors import LLDiffusionError, choose

from ..frame import Frame
from ..orientation import swaps_axes, upright
from ..planes import Origin, convert_layout, output_pixels, planar_format, rgb_to_frame
from ..video_info import VideoInfo
from .encoding import Encoding, codec_name, encoding_of
from .quality import Pace

# FFmpeg's muxer by what an address begins with.
SCHEMES = {
    **dict.fromkeys(("udp", "tcp", "srt", "http", "https"), "mpegts"),
    **{"rtp": "rtp_mpegts", "rtmp": "flv", "rtmps": "flv", "rtsp": "rtsp", "rtsps": "rtsp"},
}
PIPES = ("nut", "mpegts")
_ON_TRIAL = {"rtsp": "matroska", "rtp_mpegts": "mpegts"}  # in which an encoder is tried: these exist on a network only
_KEY_SECONDS = 2  # between two pictures that a viewer can begin with
_TIMEOUT = 15.0  # seconds in which the other side must answer


def is_address(target: str) -> bool:
    """Whether OUT is sent over a network."""
    return "://" in target


class LiveWriter:
    """Writes frames to `target`, without delay; pictures are upright and of a standard range.

    Args:
        target: an address of one of SCHEMES, or "-" for `stream`.
        kind: of a pipe: "nut" (pictures as they are) or "mpegts" (H.264).
        codec, crf, preset: as of a file; H.264, fast and without looking ahead, where nothing is said.
        stream: default: standard output.
    Raises LLDiffusionError for an address of another kind, one that cannot be written to, and when the reader has gone.
    """

    def __init__(
        self,
        info: VideoInfo,
        target: str = "-",
        kind: str = "nut",
        codec: str | None = None,
        crf: float | None = None,
        preset: str | None = None,
        stream: BinaryIO | None = None,
    ) -> None:
        if info.colour.hdr and info.keep_hdr:
            raise LLDiffusionError("what is sent on live is SDR: leave --hdr keep out, or name a video file as OUT")
        self._info, self._target = info, target
        self._file = None if is_address(target) else stream or sys.stdout.buffer
        container = choose(kind, PIPES, "pipe format") if self._file else _muxer(target)
        raw = container == "nut" and codec is None
        pace = Pace(preset, fast=preset is None, prompt=True)
        name = "rawvideo" if raw else codec_name(codec) if codec else "libx264"
        self._encoding = encoding_of(
            _shown(info, deep=raw), _ON_TRIAL.get(container, container), name, crf, pace=Pace() if raw else pace
        )
        self._planar = self._encoding.pixel_format if raw else _planar(self._encoding)
        self._first: int | None = None
        self._output, self._stream = self._open(container)

    def notes(self) -> list[str]:
        """What of the video will not be sent."""
        return ["alpha is not sent: it is dropped"] if self._info.alpha else []

    def add(self, frame: Frame) -> None:
        """Send one frame."""
        pixels = output_pixels(frame.pixels, frame.origin, self._encoding.colour)
        pixels = upright(pixels, self._info.display_matrix)
        picture = rgb_to_frame(pixels, Origin(), self._planar, self._encoding.colour)
        if self._planar != self._encoding.pixel_format:
            picture = convert_layout(picture, self._encoding.pixel_format)
        self._first = frame.pts if self._first is None else self._first
        picture.pts, picture.time_base = frame.pts - self._first, frame.time_base
        with _problems_named(self._target):
            self._send(self._stream.encode(picture))

    def close(self) -> None:
        """Finish the stream."""
        with _problems_named(self._target):
            self._send(self._stream.encode(None))
            self._output.close()
            if self._file is not None:
                self._file.flush()

    def abandon(self) -> None:
        """Let go of it, whatever state it is in."""
        with suppress(Exception):
            self._output.close()

    def _open(self, container: str) -> tuple[Any, Any]:
        import av

        options = {"flush_packets": "1", "muxdelay": "0"}
        where = self._file or self._target
        with _problems_named(self._target):
            output = av.open(where, "w", format=container, container_options=options, timeout=_TIMEOUT)
            stream = self._encoding.add_stream(output)
            if self._encoding.codec != "rawvideo":
                stream.codec_context.gop_size = max(1, round(_KEY_SECONDS * self._encoding.frame_rate))
            output.start_encoding()
        return output, stream

    def _send(self, packets: list[Any]) -> None:
        self._output.mux(packets)
        if self._file is not None:
            self._file.flush()


@contextmanager
def _problems_named(target: str) -> Iterator[None]:
    """What goes wrong while something is sent, in one line."""
    from av.error import FFmpegError

    try:
        yield
    except (FFmpegError, OSError) as error:
        if isinstance(error, BrokenPipeError) and target == "-":
            raise LLDiffusionError("the program that reads this one's output has ended") from error
        reason = " ".join((getattr(error, "strerror", None) or str(error)).split())
        raise LLDiffusionError(f"cannot write to '{target}': {reason}") from error


def _muxer(address: str) -> str:
    scheme = address.partition("://")[0].lower()
    if scheme not in SCHEMES:
        raise LLDiffusionError(
            f"cannot write to '{address}': accepted are {', '.join(f'{name}://' for name in SCHEMES)}, a file and -"
        )
    return SCHEMES[scheme]


def _shown(info: VideoInfo, deep: bool) -> VideoInfo:
    """The video as it is sent: upright, opaque, and of 8 bits but where samples are sent as they are."""
    info = info.of_results()
    width, height = (info.height, info.width) if swaps_axes(info.display_matrix) else (info.width, info.height)
    info = replace(info, width=width, height=height, display_matrix=None, alpha=False, field_order="")
    return info if deep else replace(info, bits=8, pixel_format="yuv420p")


def _planar(encoding: Encoding) -> str:
    import av

    return planar_format(av.VideoFormat(encoding.pixel_format))
