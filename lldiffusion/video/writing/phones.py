"""What every phone, browser and messenger plays: H.264 of 8 bits and 4:2:0 with even sizes, and AAC, in MP4 or MOV."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lldiffusion.errors import LLDiffusionError

from ..colour import LIMITED
from ..video_info import VideoInfo

if TYPE_CHECKING:
    from .encoding import Encoding

CONTAINERS = ("mp4", "mov")
PIXELS = "yuv420p"
_H264 = ("libx264", "h264_")  # how FFmpeg's encoders begin
_COMMON = (*_H264, "libx265", "hevc_", "libsvtav1", "av1_", "libvpx")
_PLAIN = ("yuv420p", "yuvj420p", "nv12")
_DEEP = ("yuv420p10le", "p010le")  # which H.265, AV1 and VP9 may have


def compatible(info: VideoInfo, container: str, codec: str) -> VideoInfo:
    """The same video as `--compatible` writes it.  Raises LLDiffusionError where something else was asked for."""
    problem = None
    if container not in CONTAINERS:
        problem = "is for .mp4, .m4v and .mov: name such an output"
    elif not codec.startswith(_H264):
        problem = f"means H.264, not {codec}: leave --codec out"
    elif info.colour.hdr:
        problem = "means SDR: leave --hdr keep out"
    elif info.field_order:
        problem = "means whole pictures: leave --deinterlace off out"
    if problem:
        raise LLDiffusionError(f"--compatible {problem}")
    width, height = (size + size % 2 for size in (info.width, info.height))
    colour = replace(info.colour, range=LIMITED)
    return replace(info, width=width, height=height, bits=8, pixel_format=PIXELS, colour=colour, alpha=False)


def phone_notes(encoding: Encoding) -> list[str]:
    """One line where a phone may not play the video."""
    h264, usual = encoding.codec.startswith(_H264), encoding.codec.startswith(_COMMON)
    reasons = [] if usual or encoding.container not in CONTAINERS else [f"{encoding.codec} is an unusual codec"]
    if usual and encoding.pixel_format not in (_PLAIN if h264 else _PLAIN + _DEEP + ("yuva420p",)):
        reasons.append(f"its pixel format is {encoding.pixel_format}")
    if encoding.width % 2 or encoding.height % 2:
        reasons.append(f"{encoding.width}x{encoding.height} is an odd size")
    if not reasons:
        return []
    return [f"may not play on phones: {', '.join(reasons)} (--compatible writes what plays everywhere)"]
