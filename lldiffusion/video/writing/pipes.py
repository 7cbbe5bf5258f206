"""Standard output as a video: Y4M or raw frames, for another program to read."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from typing import Any, BinaryIO

from lldiffusion.errors import LLDiffusionError, choose

from ..frame import Frame
from ..orientation import swaps_axes, upright
from ..planes import Origin, opaque, output_pixels, planar_format, rgb_to_frame
from ..video_info import VideoInfo
from .encoding import FIELD_ORDERS, output_colour

FORMATS = {"y4m": "yuv4mpegpipe", "rawvideo": "rawvideo"}
_RAW = re.compile(r"^(\d+)x(\d+),(\w+),([\d./]+)$")


def raw_options(text: str) -> dict[str, str]:
    """FFmpeg's options to read raw frames of "WIDTHxHEIGHT,PIXELFORMAT,RATE", e.g. 640x480,yuv420p,25."""
    given = _RAW.match(text)
    if not given:
        raise LLDiffusionError(f"raw video '{text}': give WIDTHxHEIGHT,PIXELFORMAT,RATE such as 640x480,yuv420p,25")
    width, height, pixels, rate = given.groups()
    _check_format(pixels)
    return {"format": "rawvideo", "video_size": f"{width}x{height}", "pixel_format": pixels, "framerate": rate}


def _check_format(name: str) -> None:
    import av

    try:
        av.VideoFormat(name)
    except ValueError as error:
        raise LLDiffusionError(f"unknown pixel format '{name}': give FFmpeg's name, such as yuv420p") from error


class PipeWriter:
    """Writes frames as they come; a pipe knows no segments, and no timestamps: frames follow at a fixed rate.

    Raises LLDiffusionError when the reader has gone.
    """

    def __init__(self, info: VideoInfo, kind: str, stream: BinaryIO | None = None) -> None:
        import av

        if info.colour.hdr and info.keep_hdr:
            raise LLDiffusionError("a pipe says nothing of HDR: leave --hdr keep out, or name a video file as OUT")
        info = info.of_results()
        width, height = (info.height, info.width) if swaps_axes(info.display_matrix) else (info.width, info.height)
        self._info = info
        self._pixel_format = _pipe_format(info)
        self._colour = output_colour(info.colour, info.rgb, self._pixel_format)
        self._count = 0
        self._file = stream or sys.stdout.buffer
        container = FORMATS[choose(kind, FORMATS, "pipe format")]
        self._output = av.open(self._file, "w", format=container, container_options={"strict": "-1"})
        self._stream = self._output.add_stream(
            "wrapped_avframe" if kind == "y4m" else "rawvideo", rate=info.frame_rate, width=width, height=height
        )
        self._stream.pix_fmt = self._pixel_format
        self._stream.time_base = 1 / info.frame_rate
        self._stream.codec_context.time_base = 1 / info.frame_rate
        self._stream.codec_context.color_range = self._colour.range
        if info.field_order:
            self._stream.codec_context.field_order = FIELD_ORDERS[info.field_order]

    def notes(self) -> list[str]:
        """What of the video will not be written."""
        return ["a pipe has no alpha channel: it is dropped"] if self._info.alpha else []

    def add(self, frame: Frame) -> None:
        """Write one frame, upright."""
        pixels = upright(output_pixels(frame.pixels, frame.origin, self._colour), self._info.display_matrix)
        picture = rgb_to_frame(pixels, Origin(), self._pixel_format, self._colour)
        picture.pts, picture.time_base = self._count, 1 / self._info.frame_rate
        self._count += 1
        self._write(self._stream.encode(picture))

    def close(self) -> None:
        """Finish the stream."""
        self._write(self._stream.encode(None))
        self._output.close()
        self._file.flush()

    def abandon(self) -> None:
        """Let go of it, whatever state it is in."""
        with suppress(Exception):
            self._output.close()

    def _write(self, packets: list[Any]) -> None:
        try:
            self._output.mux(packets)
            self._file.flush()
        except BrokenPipeError as error:
            raise LLDiffusionError("the program that reads this one's output has ended") from error


def _pipe_format(info: VideoInfo) -> str:
    """The source's own pixel format where Y4M has it, else 4:4:4 of the same depth."""
    import av

    own = opaque(planar_format(av.VideoFormat(info.pixel_format)))
    if own[:6] in ("yuv420", "yuv422", "yuv444"):
        return own
    return "yuv444p" if info.bits == 8 else "yuv444p10le"
