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
from .image import FORMATS, Format, Image, to_uint8
from .libvips import errors_named, libvips, refuse_after_fork
from .metadata import with_metadata

DEFAULT_QUALITY = 95  # of 100


def write_image(path: Path, image: Image, quality: int | None = None) -> None:
    """Write `image` in the format of the path's suffix, to a temporary file in the same folder that is then renamed.

    16 bits where the image has them and the format can (PNG, TIFF).  JPEG and BMP have no alpha: what is transparent is
    laid over white.  JPEG is written without chroma subsampling; `quality`, 1 to 100, is of JPEG and WebP (default 95);
    WebP is lossless where the source was, unless a quality is given.
    """
    path = Path(path)
    format_ = FORMATS.get(path.suffix.lower())
    if format_ is None:
        raise LLDiffusionError(f"cannot write '{printable(path)}': accepted suffixes are {', '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise LLDiffusionError(
            f"cannot write '{printable(path)}': the folder '{printable(path.parent)}' does not exist"
        )
    refuse_after_fork()
    with errors_named(path, "write"), new_path(path) as temporary:
        ready = _to_libvips(image, format_)
        if format_ == "bmp":
            write_bmp(temporary, np.atleast_3d(ready.numpy()), image.density)
        else:  # by its format: the temporary name has no suffix
            getattr(ready, f"{format_}save")(os.fsencode(temporary), **_save_options(image, format_, quality))


def through_jpeg(values: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """(H, W, 3) as it comes back from a JPEG file of that quality, 1 to 100, with the usual halved chroma."""
    refuse_after_fork()
    height, width, _ = values.shape
    image = libvips().Image.new_from_memory(values.tobytes(), width, height, 3, "uchar").copy(interpretation="srgb")
    encoded = image.jpegsave_buffer(Q=quality, subsample_mode="on")
    decoded: NDArray[np.uint8] = libvips().Image.jpegload_buffer(encoded).numpy()
    return decoded


def _to_libvips(image: Image, format_: Format) -> Any:
    """The vips image to save, with its metadata."""
    bits = image.bits if format_ in ("png", "tiff") else 8
    pixels = image.pixels @ np.array(LUMA_BT709, np.float32)[:, None] if image.grey else image.pixels  # (H, W, 1 or 3)
    if image.alpha is not None and format_ in ("jpeg", "bmp"):
        pixels = pixels * image.alpha[..., None] + (1 - image.alpha[..., None])
    elif image.alpha is not None:
        pixels = np.concatenate([pixels, image.alpha[..., None]], axis=2)
    values = _quantised(pixels, bits)
    height, width, bands = values.shape
    target = libvips().Image.new_from_memory(values.tobytes(), width, height, bands, "uchar" if bits == 8 else "ushort")
    space = {(True, 8): "b-w", (True, 16): "grey16", (False, 8): "srgb", (False, 16): "rgb16"}[image.grey, bits]
    density = dict(zip(("xres", "yres"), image.density)) if image.density else {}
    return with_metadata(target.copy(interpretation=space, **density), image)


def _quantised(pixels: NDArray[np.float32], bits: int) -> NDArray[Any]:
    if bits == 8:
        return to_uint8(pixels)
    return np.floor(np.clip(pixels, 0, 1).astype(np.float64) * 65535 + 0.5).astype(np.uint16)


def _save_options(image: Image, format_: Format, quality: int | None) -> dict[str, Any]:
    if format_ == "jpeg":
        return {"Q": quality or DEFAULT_QUALITY, "subsample_mode": "off"}
    if format_ == "webp":  # exact: colours under full transparency survive
        if image.lossless and quality is None:
            return {"lossless": True, "exact": True}
        return {"Q": quality or DEFAULT_QUALITY, "smart_subsample": True}
    return {"compression": "deflate", "predictor": "horizontal"} if format_ == "tiff" else {}
