"""A video, a sequence of pictures or an animation, whichever a name means."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from .animation import AnimatedWebpSource, is_animated_webp
from .image_sequence import ImageSequenceSource, is_image_sequence
from .live import OPTIONS, LiveSource
from .source import VideoSource

AnySource = VideoSource | ImageSequenceSource | AnimatedWebpSource | LiveSource


def open_source(
    name: str,
    *,
    raw: dict[str, str] | None = None,
    hwaccel: str | None = None,
    deinterlace: str = "auto",
    hdr: str = "sdr",
    fps: float | None = None,
    spool: Path | None = None,
    live: bool = False,
) -> AnySource:
    """Open what `lldiff video` takes as IN, with its options of the same names.

    Args:
        raw: of raw video, for FFmpeg's reader.
        fps: of pictures; None: 25.
        spool, live: as of `VideoSource`.
    Raises LLDiffusionError as the sources do.
    """
    if is_image_sequence(name):
        return ImageSequenceSource(name, Fraction(fps or 25).limit_denominator(100_000))
    if is_animated_webp(Path(name)):
        return AnimatedWebpSource(name)
    fields, keep_hdr = deinterlace == "off", hdr == "keep"
    options = (raw or {}) | (OPTIONS if live else {})
    source = VideoSource(name, options, hwaccel, fields=fields, keep_hdr=keep_hdr, spool=spool, live=live)
    return LiveSource(source) if live else source
