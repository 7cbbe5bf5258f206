"""Between FFmpeg's frames and pictures: R'G'B' in [0, 1], with what lies outside of it kept aside."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lldiffusion.buffers import Buffers
from lldiffusion.errors import LLDiffusionError

from .colour import FULL, Codes, Colour, code_rows, quantise, rgb_rows, strips
from .hdr import from_signal, to_signal
from .tone_map import tone_map

_YUV = re.compile(r"^yuva?j?(\d{3})p(\d+)?(le)?$")
_RGB = re.compile(r"^gbra?p(\d+)?(le)?$")
_GREY = re.compile(r"^gray(\d+)?(le)?$")
OUTSIDE = 1 / 8192  # unit of what lies outside [0, 1]; the code values of 12 bits are twice as far apart
_VISIBLE = 1 / 2048  # what lies outside by less is rounding


@dataclass(frozen=True, eq=False)
class Origin:
    """What writing a frame needs to know of how it was read."""

    colour: Colour = field(default_factory=Colour)
    duration: int = 0  # in units of the frame's time_base; 0: unknown
    outside: NDArray[np.integer[Any]] | None = None  # (H, W, 3) in units of OUTSIDE: super-white, highlights ...
    repeated: bool = False  # stands for a frame that could not be decoded
    alpha: NDArray[np.float32] | None = None  # (H, W) in [0, 1]; None: opaque
    peak: float = 0.0  # cd/m2, of HDR: what becomes white when it is tone-mapped


def frame_to_rgb(
    frame: Any, buffers: Buffers | None = None
) -> tuple[NDArray[np.float32], NDArray[np.integer[Any]] | None]:
    """Pixels (H, W, 3) in [0, 1] of a PyAV frame, a view of planes, and what was cut off to get there.

    A picture's Y'CbCr may lie outside the R'G'B' cube (broadcast super-white; edges of subsampled chroma), and HDR's
    highlights lie above diffuse white.  The model wants [0, 1]; adding the rest back afterwards keeps such video as it
    was where the model changes nothing.
    """
    buffers = buffers or Buffers()
    colour, planar = colour_tags(frame), to_planar(frame)
    size = (3, frame.height, frame.width)
    rgb, codes = buffers.take(size, np.float32), _codes_of(planar)
    outside = buffers.take(size, np.int32 if colour.hdr else np.int16)
    seen = False
    for rows in strips(*size[1:]):
        part = buffers.take((3, rows.stop - rows.start, size[2]), np.float32)
        _planar_to_rgb(codes, planar.format, rows, colour, part)
        if colour.hdr:
            part[...] = to_signal(part.transpose(1, 2, 0), colour).transpose(2, 0, 1)
        seen |= _cut_off(part, rgb[:, rows], outside[:, rows])
    return rgb.transpose(1, 2, 0), outside.transpose(1, 2, 0) if seen else None


def _cut_off(rgb: NDArray[np.float32], inside: NDArray[np.float32], outside: NDArray[np.integer[Any]]) -> bool:
    """Split into what lies in [0, 1] and the rest; returns whether that can be seen.  `rgb` is changed."""
    least, most = rgb.min(), rgb.max()
    np.clip(rgb, 0, 1, out=inside)
    if max(most - 1, -least) <= _VISIBLE:
        outside[...] = 0
        return False
    rgb -= inside
    rgb *= np.float32(1 / OUTSIDE)
    np.copyto(outside, np.rint(rgb, out=rgb), casting="unsafe")
    return True


def rgb_to_frame(pixels: NDArray[np.float32], origin: Origin, format_name: str, colour: Colour) -> Any:
    """A PyAV frame of `format_name` (planar Y'CbCr, R'G'B' or grey) with the code values of `pixels`."""
    import av

    height, width = pixels.shape[:2]
    frame = av.VideoFrame(width, height, format_name)
    codes = _codes_of(frame)
    for rows in strips(height, width):
        rgb = output_pixels(pixels, origin, colour, rows).transpose(2, 0, 1)
        _rgb_to_planar(rgb, frame.format, rows, colour, codes)
    if len(frame.planes) == 4:
        _write_alpha(origin.alpha, frame)
    frame.color_range, frame.colorspace = colour.range, colour.matrix
    frame.color_trc, frame.color_primaries = colour.transfer, colour.primaries
    return frame


def alpha_of(frame: Any) -> NDArray[np.float32] | None:
    """How opaque every pixel of a PyAV frame is, (H, W) in [0, 1]; None where all of it is."""
    if not has_alpha(frame.format):
        return None
    planar = to_planar(frame)
    most = 2 ** int(planar.format.components[3].bits) - 1
    codes = _samples(planar.planes[3], np.dtype(np.uint8 if most == 255 else np.uint16))
    return None if (codes == most).all() else codes.astype(np.float32) / np.float32(most)


def has_alpha(format_: Any) -> bool:
    """Whether a PyAV pixel format has an alpha channel."""
    return any(component.is_alpha for component in format_.components) and format_.name != "pal8"


def with_alpha(name: str) -> str:
    """The same pixel format with alpha."""
    return re.sub("^gbrp", "gbrap", re.sub(r"^yuv(?=\d)", "yuva", name))


def opaque(name: str) -> str:
    """The same planar pixel format without alpha."""
    return re.sub("^gbrap", "gbrp", re.sub("^yuva", "yuv", name))


def output_pixels(
    pixels: NDArray[np.float32], origin: Origin, colour: Colour, rows: slice = slice(None)
) -> NDArray[np.float32]:
    """R'G'B' (rows, W, 3) under `colour`, not clipped, with what lay outside of [0, 1] back in its place.

    HDR is HDR again where `colour` is, and is tone-mapped where it is not.
    """
    rgb = pixels[rows]
    if origin.outside is not None:
        rgb = np.multiply(origin.outside[rows], np.float32(OUTSIDE), dtype=np.float32)
        rgb += pixels[rows]
    if not origin.colour.hdr:
        return rgb
    return from_signal(rgb, colour) if colour.hdr else tone_map(rgb, origin.peak)


def colour_tags(frame: Any) -> Colour:
    """The tags of a PyAV frame; the old yuvj formats are full range by name."""
    full_by_name = frame.format.name.startswith("yuvj")
    return Colour(
        matrix=int(frame.colorspace),
        range=FULL if full_by_name else int(frame.color_range),
        transfer=frame.color_trc,
        primaries=frame.color_primaries,
    )


def bit_depth(format_name: str) -> int:
    """Bits a component of a pixel format."""
    import av

    return max(int(component.bits) for component in av.VideoFormat(format_name).components)


def to_planar(frame: Any) -> Any:
    """The same samples in a format that `frame_to_rgb` reads: nv12 becomes yuv420p, bgr24 gbrp, p010 yuv420p10."""
    if any(known.match(frame.format.name) for known in (_YUV, _RGB, _GREY)):
        return frame
    return convert_layout(frame, planar_format(frame.format))


def convert_layout(frame: Any, format_name: str) -> Any:
    """The same samples in another order.

    In one thread: with more, swscale of FFmpeg 8.1 now and then gets p010 wrong (4 of 3000 times).
    """
    span = int(frame.color_range) or 1
    return frame.reformat(format=format_name, src_color_range=span, dst_color_range=span, threads=1)


def with_field_order(frame: Any, order: str) -> Any:
    """The frame, marked as interlaced with its "top" or "bottom" field first."""
    return next(filtered(frame, "setfield", {"top": "tff", "bottom": "bff"}[order]))


def filtered(frame: Any, name: str, options: str) -> Iterator[Any]:
    """What one of FFmpeg's filters makes of a PyAV frame: one frame, or none."""
    import av
    from av.error import BlockingIOError as NotYet
    from av.error import EOFError as Ended

    graph = av.filter.Graph()
    size = {"width": frame.width, "height": frame.height}
    source = graph.add_buffer(**size, format=frame.format.name, time_base=Fraction(1, 1000))
    step, sink = graph.add(name, options), graph.add("buffersink")
    source.link_to(step)
    step.link_to(sink)
    graph.configure()
    for given in (frame, None):
        graph.push(given)
        try:
            yield graph.pull()
            return
        except (NotYet, Ended):
            pass


def planar_format(format_: Any) -> str:
    """Name of the planar format with the same subsampling and depth as a packed or semi-planar PyAV format."""
    name = str(format_.name)
    if any(known.match(name) for known in (_YUV, _RGB, _GREY)):
        return re.sub("^yuvj", "yuv", name)
    bits = max((int(component.bits) for component in format_.components), default=0)
    deep = "" if bits <= 8 else f"{bits}le"
    if bits == 0 or bits > 16 or "bayer" in name or "xyz" in name:
        raise LLDiffusionError(f"pixel format {name} is not supported: convert the video to yuv420p or rgb24 first")
    if format_.is_rgb or name == "pal8" or name.startswith("ya"):
        return f"{'gbrap' if has_alpha(format_) else 'gbrp'}{deep}"
    if name.startswith(("gray", "mono")):
        return "gray" + deep
    across, down = format_.chroma_width(16), format_.chroma_height(16)
    layout = {(8, 8): "420", (8, 16): "422", (16, 16): "444", (16, 8): "440"}[across, down]
    return f"yuv{'a' * has_alpha(format_)}{layout}p{deep}"


def _codes_of(planar: Any) -> tuple[Codes, ...]:
    """The colour planes of a frame; writing to them writes to the frame."""
    kind = np.dtype(np.uint8 if planar.format.components[0].bits == 8 else np.uint16)
    return tuple(_samples(plane, kind) for plane in planar.planes[:3])


def _planar_to_rgb(codes: tuple[Codes, ...], format_: Any, rows: slice, colour: Colour, rgb: Any) -> None:
    """Some rows of a frame into planes (3, rows, W)."""
    bits = int(format_.components[0].bits)
    if not _RGB.match(format_.name):
        rgb_rows(codes, rows, bits, colour, rgb)
        return
    for place, values in zip((1, 2, 0), codes, strict=True):  # green, blue, red
        np.multiply(values[rows], np.float32(1 / (2**bits - 1)), out=rgb[place], dtype=np.float32)


def _rgb_to_planar(rgb: Any, format_: Any, rows: slice, colour: Colour, codes: tuple[Codes, ...]) -> None:
    bits = int(format_.components[0].bits)
    if not _RGB.match(format_.name):
        code_rows(rgb, rows, bits, colour, codes)
        return
    for place, values in zip((1, 2, 0), codes, strict=True):
        quantise(rgb[place] * np.float32(2**bits - 1), bits, values[rows])


def _write_alpha(alpha: NDArray[np.float32] | None, frame: Any) -> None:
    """Always of the full range."""
    bits = int(frame.format.components[3].bits)
    codes = _samples(frame.planes[3], np.dtype(np.uint8 if bits == 8 else np.uint16))
    opaque = np.ones(codes.shape, np.float32) if alpha is None else alpha
    quantise(opaque * np.float32(2**bits - 1), bits, codes)


def _samples(plane: Any, kind: np.dtype[Any]) -> Any:
    """A plane as (height, width), without the padding of its lines; writing to it writes to the frame."""
    lines = np.frombuffer(plane, kind).reshape(-1, plane.line_size // kind.itemsize)
    return lines[: plane.height, : plane.width]
