"""How the output is encoded: container, codec, pixel format, quality; from the source and what the user asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from lldiffusion.errors import LLDiffusionError, choose, require
from lldiffusion.limits import processors

from ..colour import BT709, BT2020, FULL, LIMITED, RGB, UNSPECIFIED, Colour
from ..mastering import encoder_options
from ..video_info import VideoInfo
from . import phones
from .avi import IN_ORDER, check_avi
from .repeatable import repeatable_options

CONTAINERS = {
    **{".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm", ".avi": "avi"},
    ".ts": "mpegts",
}
ALIASES = {"h264": "libx264", "h265": "libx265", "hevc": "libx265", "av1": "libsvtav1", "vp9": "libvpx-vp9"}
SOFTWARE = ("libx264", "libx265", "libsvtav1", "libvpx-vp9", "ffv1", "prores_ks")
ALPHA = ("ffv1", "prores_ks", "libvpx-vp9")  # encoders that keep an alpha channel
_TRANSPARENT = {"matroska": "ffv1", "mov": "prores_ks"}  # the usual one of these, by container
INTERLACED = ("libx264", "ffv1", "prores_ks")  # encoders that say which field of a picture comes first
HARDWARE = ("_nvenc", "_qsv", "_amf", "_vaapi", "_videotoolbox")  # how FFmpeg's hardware encoders end
# The option that keeps the quality constant, and its value: hard to tell from the source.
_QUALITY = {
    "libx264": ("crf", 18),
    "libx265": ("crf", 20),
    "libsvtav1": ("crf", 26),
    "libvpx-vp9": ("crf", 24),
    "_nvenc": ("cq", 21),
    "_qsv": ("global_quality", 21),
    "_amf": ("qp_i", 21),
    "_vaapi": ("qp", 21),
    "_videotoolbox": ("global_quality", 21),
}
_FIXED = {
    "libx265": {"x265-params": "log-level=none"},
    "libsvtav1": {"preset": "7", "svtav1-params": "fast-decode=0"},
    "libvpx-vp9": {"deadline": "good", "cpu-used": "3", "row-mt": "1"},
    "ffv1": {"level": "3", "slices": "4", "slicecrc": "1"},
    "_nvenc": {"preset": "p5", "rc": "vbr"},
}
_LOSSLESS = {"libx264": {"qp": "0"}, "libx265": {"x265-params": "lossless=1:log-level=none"}}  # crf 0

FIELD_ORDERS = {"top": 4, "bottom": 5}  # FFmpeg's numbers of interleaved fields, as its own program writes them


@dataclass(frozen=True)
class Encoding:
    """Everything an encoder is opened with; the same for every segment and for the final file."""

    container: str  # FFmpeg's muxer
    codec: str  # FFmpeg's encoder
    pixel_format: str
    options: dict[str, str]
    colour: Colour
    width: int
    height: int
    time_base: Fraction
    frame_rate: Fraction
    sample_aspect: Fraction | None
    display_matrix: tuple[int, ...] | None
    threads: int
    field_order: str = ""  # of interlaced pictures, "top" or "bottom" first
    compatible: bool = False  # with every phone; then sound is AAC too

    @property
    def alpha(self) -> bool:
        """Whether pixels may be transparent."""
        return self.pixel_format.startswith(("yuva", "gbrap", "bgra"))

    def add_stream(self, output: Any) -> Any:
        """A stream of this encoding in a PyAV output container; the encoder opens with the first packet."""
        from av.codec.context import Flags
        from av.format import ContainerFormat
        from av.format import Flags as FormatFlags

        stream = output.add_stream(self.codec, rate=self.frame_rate, options=dict(self.options))
        context, unit = stream.codec_context, 1 / self.frame_rate if output.format.name == "avi" else self.time_base
        stream.time_base = context.time_base = unit
        context.pix_fmt, context.thread_count = self.pixel_format, self.threads
        context.width, context.height = self.width, self.height
        context.color_range, context.colorspace = self.colour.range, self.colour.matrix
        context.color_trc, context.color_primaries = self.colour.transfer, self.colour.primaries
        if self.sample_aspect:
            context.sample_aspect_ratio = self.sample_aspect
        if self.codec.startswith(("libx265", "hevc")) and output.format.name in ("mp4", "mov"):
            context.codec_tag = "hvc1"  # what QuickTime plays
        container_flags: Any = ContainerFormat(self.container, "w").flags  # an int, whatever PyAV's types say
        separate_header = bool(container_flags & FormatFlags.global_header.value)
        flag = int(Flags.global_header)
        context.flags = context.flags | flag if separate_header else context.flags & ~flag
        if self.field_order:
            context.flags |= int(Flags.interlaced_dct | Flags.interlaced_me)
            context.field_order = FIELD_ORDERS[self.field_order]
        if self.display_matrix is not None:
            stream.set_display_matrix(self.display_matrix)
        return stream


def choose_encoding(
    info: VideoInfo,
    target: Path,
    codec: str | None = None,
    crf: float | None = None,
    threads: int = 0,
    compatible: bool = False,
) -> Encoding:
    """The encoding of `target`: the source's size, timing, depth, subsampling and colours, in the wanted codec.

    Args:
        codec: FFmpeg's name of an encoder or one of ALIASES; None: H.264 for 8 bits, H.265 for more, VP9 in WebM.
        crf: quality, lower is better, 0 lossless for H.264 and H.265; None: hard to tell from the source.
        threads: of the encoder; 0: one for each core.
        compatible: what every phone plays (see `phones`).
    Raises LLDiffusionError for an unknown suffix or codec, and for one that cannot be used here, saying why.
    """
    require("av", "video", "writing video")
    info = info.of_results()
    if info.colour.hdr:
        info = replace(info, bits=max(info.bits, 10))  # 8 bits of HDR show bands
    os.environ.setdefault("SVT_LOG", "1")  # errors only; it would print its settings on the terminal
    container = container_of(target)
    name = codec_name(codec) if codec else _default_codec(container, info)
    if compatible:
        name = name if codec else "libx264"
        info = phones.compatible(info, container, name)
    if container == "avi":
        check_avi(name)
    if info.field_order and name not in INTERLACED:
        raise LLDiffusionError(
            f"codec {name} cannot write interlaced video: leave --deinterlace off out, or choose another with --codec "
            f"({', '.join(INTERLACED)})"
        )
    return encoding_of(info, container, name, crf, threads, compatible)


def encoding_of(
    info: VideoInfo, container: str, codec: str, crf: float | None = None, threads: int = 0, compatible: bool = False
) -> Encoding:
    """The encoding of a video in FFmpeg's muxer and encoder of these names; as `choose_encoding`."""
    without_format = Encoding(
        container=container,
        codec=codec,
        pixel_format="",
        options=_options(codec, crf, info) | (IN_ORDER if container == "avi" else {}),
        colour=info.colour,
        width=info.width,
        height=info.height,
        time_base=info.time_base,
        frame_rate=info.frame_rate,
        sample_aspect=info.sample_aspect,
        display_matrix=info.display_matrix,
        threads=threads or processors(),
        field_order=info.field_order,
        compatible=compatible,
    )
    return _first_that_opens(without_format, info)


def container_of(target: Path) -> str:
    """FFmpeg's muxer for the suffix of `target`."""
    suffix = target.suffix.lower()
    if suffix not in CONTAINERS:
        raise LLDiffusionError(
            f"cannot write a video to '{target}': accepted are {', '.join(CONTAINERS)}, .gif, .apng, .webp, "
            "a folder or a pattern such as frames/%06d.png for images, and - for standard output"
        )
    return CONTAINERS[suffix]


def codec_name(given: str) -> str:
    """The encoder that `given` names.  Raises LLDiffusionError naming near ones."""
    import av

    candidates = {name for name in av.codecs_available if name.endswith(HARDWARE)} | set(SOFTWARE)
    usable = sorted(name for name in candidates if _encodes(name))
    return choose(ALIASES.get(given, given), [*usable, *ALIASES], "codec")


def _encodes(name: str) -> bool:
    import av

    try:
        return bool(av.Codec(name, "w").type == "video")
    except (av.error.FFmpegError, ValueError):
        return False


def _default_codec(container: str, info: VideoInfo) -> str:
    if container == "webm":
        return "libvpx-vp9"
    if info.alpha and container in _TRANSPARENT:
        return _TRANSPARENT[container]
    return "libx264" if info.bits <= 8 or container == "avi" else "libx265"


def _codec_entry(table: dict[str, Any], codec: str) -> Any:
    """The entry of a codec, or of its kind of hardware."""
    return table.get(codec) or next((entry for end, entry in table.items() if codec.endswith(end)), None)


def _codec_options(codec: str, crf: float | None) -> dict[str, str]:
    quality = _codec_entry(_QUALITY, codec)
    options = (_codec_entry(_FIXED, codec) or {}) | repeatable_options(codec)
    if quality is None:
        if crf is not None:
            raise LLDiffusionError(f"codec {codec} has no quality setting: leave --crf out, or choose another codec")
        return options
    if crf == 0 and codec in _LOSSLESS:
        return options | _LOSSLESS[codec]
    return options | {quality[0]: f"{quality[1] if crf is None else crf:g}"}


def _options(codec: str, crf: float | None, info: VideoInfo) -> dict[str, str]:
    options = _codec_options(codec, crf)
    if info.alpha and codec == "libvpx-vp9":
        options["auto-alt-ref"] = "0"  # which has no alpha
    return encoder_options(codec, info.mastering, options) if info.colour.hdr else options


def _first_that_opens(without_format: Encoding, info: VideoInfo) -> Encoding:
    reasons = []
    for format_ in [phones.PIXELS] if without_format.compatible else _pixel_formats(without_format.codec, info):
        encoding = replace(without_format, pixel_format=format_, colour=output_colour(info.colour, info.rgb, format_))
        reason = _reason_to_refuse(encoding)
        if reason is None:
            return encoding
        reasons.append(reason)
    why = "; ".join(dict.fromkeys(reasons)) or ("HDR needs 10 bits" if info.colour.hdr else "no fitting pixel format")
    codec, container = without_format.codec, without_format.container
    needs = "; it needs its own hardware and driver" if codec.endswith(HARDWARE) else ""
    raise LLDiffusionError(
        f"codec {codec} cannot write {info.width}x{info.height} to {container} here ({why}{needs}): "
        "choose another with --codec"
    )


def _pixel_formats(codec: str, info: VideoInfo) -> Iterator[str]:
    """Pixel formats to try: the source's own, else its depth, else 8 bits; a hardware encoder's by its own names."""
    import av

    from ..planes import bit_depth, opaque, planar_format, with_alpha

    offered = av.Codec(codec, "w").video_formats
    supported = None if offered is None else {format_.name for format_ in offered}
    own = opaque(planar_format(av.VideoFormat(info.pixel_format)))
    depths = [f"{bits}le" for bits in (12, 10) if info.bits >= bits and not info.rgb] + [""]
    if info.rgb and info.bits > 8:
        depths = ["10le", ""]
    wanted = [own] if own.startswith("yuv") else [own, "bgr0"] if info.rgb and codec == "ffv1" else []
    wanted += [f"yuv{layout}p{depth}" for depth in depths for layout in _layouts(own)]
    if info.alpha and codec in ALPHA:
        clear = ["bgra" if name == "bgr0" else with_alpha(name) for name in wanted]
        wanted = [*(["yuva420p"] if codec == "libvpx-vp9" else [*clear, "yuva444p10le"]), *wanted]
    wanted += ["p010le"] * (info.bits > 8) + ["nv12", "yuv422p10le"]
    if info.colour.hdr:
        wanted = [name for name in wanted if bit_depth(name) > 8]
    yield from dict.fromkeys(name for name in wanted if supported is None or name in supported)


def _layouts(own: str) -> list[str]:
    """Chroma subsamplings, the source's first; 4:4:4 last, for sizes that are odd."""
    given = own[3:6] if own.startswith("yuv") else "420"
    return list(dict.fromkeys([given, *(["422"] if given in ("411", "440") else []), "420", "444"]))


def output_colour(colour: Colour, rgb: bool, format_: str) -> Colour:
    """The output's tags: the source's, where Y'CbCr is written from R'G'B' those of BT.709, of HDR BT.2020."""
    if format_.startswith(("gbr", "bgr")):
        return replace(colour, matrix=RGB, range=FULL)
    if not rgb and colour.matrix != RGB:
        return colour
    primaries = BT709 if colour.primaries == UNSPECIFIED else colour.primaries
    transfer = 13 if colour.transfer == UNSPECIFIED else colour.transfer  # 13: sRGB, IEC 61966-2-1
    matrix = BT2020 if colour.hdr else BT709
    return Colour(matrix=matrix, range=LIMITED, transfer=transfer, primaries=primaries)


def _reason_to_refuse(encoding: Encoding) -> str | None:
    """None where the encoder opens and the container takes it, else why not."""
    import io

    import av

    try:
        with av.open(io.BytesIO(), "w", format=encoding.container) as output:
            encoding.add_stream(output)
            output.start_encoding()
    except (av.error.FFmpegError, OSError, ValueError) as error:
        return " ".join((getattr(error, "strerror", None) or str(error)).split())
    return None
