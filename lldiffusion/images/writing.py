"""An `Image` to a file, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lldiffusion.atomic import new_path
from lldiffusion.errors import LLDiffusionError, printable
from lldiffusion.photometry import LUMA_BT709

from .bmp import write_bmp
from .colour import from_srgb, is_srgb
from .exif import add_to_tiff
from .formats import DEEP, FORMATS, NO_ALPHA, Format, check_format
from .heic import write_heic
from .image import Image, to_uint8
from .jxl import write_jxl
from .libvips import errors_named, libvips, refuse_after_fork
from .metadata import KEPT, for_format, with_metadata

DEFAULT_QUALITY = 95  # of 100


def write_image(path: Path, image: Image, quality: int | None = None) -> tuple[str, ...]:
    """Write `image` in the format of the path's suffix, to a temporary file in the same folder that is then renamed.

    Returns what the format cannot keep, a clause each.
    Colours go back to the image's own profile, which is written too; BMP and JPEG XL hold sRGB.  16 bits where the
    image has them and the format can (PNG, TIFF; 10 in AVIF and HEIC).  JPEG and BMP have no alpha: what is transparent
    is laid over white.  JPEG is written without chroma subsampling; `quality`, 1 to 100, is of the lossy formats
    (default 95); WebP is lossless where the source was, unless a quality is given.
    """
    path = Path(path)
    format_ = FORMATS.get(path.suffix.lower())
    if format_ is None:
        raise LLDiffusionError(f"cannot write '{printable(path)}': accepted suffixes are {', '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise LLDiffusionError(
            f"cannot write '{printable(path)}': the folder '{printable(path.parent)}' does not exist"
        )
    check_format(format_)
    image, notes = for_format(image, format_)
    refuse_after_fork()
    with errors_named(path, "write"), new_path(path) as temporary:
        values = _numbers(image, format_)
        if format_ == "bmp":
            write_bmp(temporary, values, image.density)
        elif format_ == "heic":
            write_heic(temporary, values, quality or DEFAULT_QUALITY, _blocks(image, "icc_profile", "exif", "xmp"))
        elif format_ == "jxl":
            write_jxl(temporary, values, quality or DEFAULT_QUALITY, _blocks(image, "exif", "xmp"))
        else:  # by its format: the temporary name has no suffix
            saver = "heifsave" if format_ == "avif" else f"{format_}save"
            getattr(_to_libvips(image, values, format_), saver)(
                os.fsencode(temporary), **_save_options(image, format_, quality)
            )
            if format_ == "tiff":
                add_to_tiff(temporary, image.exif, image.iptc)
    return notes


def through_jpeg(values: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """(H, W, 3) as it comes back from a JPEG file of that quality, 1 to 100, with the usual halved chroma."""
    refuse_after_fork()
    height, width, _ = values.shape
    image = libvips().Image.new_from_memory(values.tobytes(), width, height, 3, "uchar").copy(interpretation="srgb")
    encoded = image.jpegsave_buffer(Q=quality, subsample_mode="on")
    decoded: NDArray[np.uint8] = libvips().Image.jpegload_buffer(encoded).numpy()
    return decoded


def _numbers(image: Image, format_: Format) -> NDArray[Any]:
    """(H, W, 1 to 4) as the file has them: in the picture's own colours, alpha laid over white where there is none."""
    pixels = image.pixels @ np.array(LUMA_BT709, np.float32)[:, None] if image.grey else image.pixels  # (H, W, 1 or 3)
    if image.icc is not None and not is_srgb(image.icc) and "profile" in KEPT[format_]:
        pixels = from_srgb(pixels, image.icc, image.beyond)
    if image.alpha is not None and format_ in NO_ALPHA:
        pixels = pixels * image.alpha[..., None] + (1 - image.alpha[..., None])
    elif image.alpha is not None:
        pixels = np.concatenate([pixels, image.alpha[..., None]], axis=2)
    return _quantised(pixels, image.bits if format_ in DEEP else 8)


def _to_libvips(image: Image, values: NDArray[Any], format_: Format) -> Any:
    """The vips image to save, with its metadata."""
    height, width, bands = values.shape
    bits = 8 * values.dtype.itemsize
    target = libvips().Image.new_from_memory(values.tobytes(), width, height, bands, "uchar" if bits == 8 else "ushort")
    space = {(True, 8): "b-w", (True, 16): "grey16", (False, 8): "srgb", (False, 16): "rgb16"}[image.grey, bits]
    density = dict(zip(("xres", "yres"), image.density)) if image.density else {}
    return with_metadata(target.copy(interpretation=space, **density), image, format_)


def _blocks(image: Image, *names: str) -> dict[str, bytes]:
    """The picture's blocks by the names that HEIC and JPEG XL writers have for them."""
    blocks = {"icc_profile": image.icc, "exif": image.exif, "xmp": image.xmp}
    return {name: block for name, block in blocks.items() if name in names and block is not None}


def _quantised(pixels: NDArray[np.float32], bits: int) -> NDArray[Any]:
    """By rows, so that what lies between is never as large as the picture."""
    if pixels.dtype == np.uint8 and bits == 8:
        return to_uint8(pixels)
    values = np.empty(pixels.shape, np.uint8 if bits == 8 else np.uint16)
    for row, numbers in zip(values, pixels, strict=True):
        row[:] = to_uint8(numbers) if bits == 8 else np.floor(np.clip(numbers, 0, 1).astype(np.float64) * 65535 + 0.5)
    return values


def _save_options(image: Image, format_: Format, quality: int | None) -> dict[str, Any]:
    if format_ == "jpeg":
        return {"Q": quality or DEFAULT_QUALITY, "subsample_mode": "off"}
    if format_ == "webp":  # exact: colours under full transparency survive
        if image.lossless and quality is None:
            return {"lossless": True, "exact": True}
        return {"Q": quality or DEFAULT_QUALITY, "smart_subsample": True}
    if format_ == "avif":
        depth = {"bitdepth": 10 if image.bits == 16 else 8}
        return {"compression": "av1", "Q": quality or DEFAULT_QUALITY, "subsample_mode": "off", **depth}
    return {"compression": "deflate", "predictor": "horizontal"} if format_ == "tiff" else {}
