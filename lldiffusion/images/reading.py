"""A file to an `Image`: upright, RGB in [0, 1], with everything that must survive processing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from lldiffusion.errors import LLDiffusionError, printable

from .bmp import is_bmp, read_bmp
from .image import ACCEPTED, FORMATS, Image
from .libvips import errors_named, libvips, refuse_after_fork
from .metadata import blob, is_lossless_webp, orientation, upright_exif

DEPTHS = {"uchar": 8, "ushort": 16}  # bits a channel, by libvips' names


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) of the upright picture, from the header (a BMP is read whole); raises as `read_image` does."""
    with errors_named(path, "read"):
        header = _open(path, memory=False)
        size = (int(header.width), int(header.height))
        return size[::-1] if orientation(header) >= 5 else size


def read_image(path: Path) -> Image:
    """Read a picture.  Raises LLDiffusionError if it is missing, no image, damaged, or of an unsupported kind."""
    refuse_after_fork()
    with errors_named(path, "read"):
        source = _open(path, memory=True)
        format_, icc = FORMATS["." + _loader(source)], blob(source, "icc-profile-data")
        if source.interpretation == "cmyk":
            source, icc = _cmyk_to_srgb(source, has_profile=icc is not None), None
        values = np.atleast_3d(source.autorot().numpy())  # (H, W, bands)
    bits, colours = DEPTHS[source.format], 3 if source.bands >= 3 else 1
    planes = values.astype(np.float32) / np.float32(2**bits - 1)
    return Image(
        pixels=np.ascontiguousarray(np.broadcast_to(planes[..., :colours], (*planes.shape[:2], 3))),
        alpha=np.ascontiguousarray(planes[..., colours]) if source.hasalpha() else None,
        bits=bits,
        grey=colours == 1,
        icc=icc,
        exif=upright_exif(blob(source, "exif-data")),
        format=format_,
        lossless=format_ in ("png", "tiff", "bmp") or (format_ == "webp" and is_lossless_webp(Path(path))),
        density=(float(source.xres), float(source.yres)),
    )


def _open(path: Path, memory: bool) -> Any:
    """The vips image of a supported file; with `memory` its pixels are decoded, so that damage is found here."""
    path, vips, name = Path(path), libvips(), printable(path)
    if not path.is_file():
        raise LLDiffusionError(f"cannot read '{name}': {'it is a folder' if path.is_dir() else 'no such file'}")
    if path.stat().st_size == 0:
        raise LLDiffusionError(f"cannot read '{name}': the file is empty")
    if is_bmp(path):
        return _open_bmp(path)
    # As a source, since new_from_file takes "[1]" in a name for options, and as bytes, since a name may be no UTF-8.
    # revalidate: libvips would otherwise answer from its cache after the file was rewritten.
    opened = vips.Source.new_from_file(os.fsencode(path))
    source = vips.Image.new_from_source(opened, "", memory=memory, fail_on="error", revalidate=True)
    if _loader(source) not in FORMATS.values():
        raise LLDiffusionError(f"cannot read '{name}': {_loader(source)} is not supported; accepted are {ACCEPTED}")
    if source.format not in DEPTHS:
        raise LLDiffusionError(f"cannot read '{name}': {source.format} samples; convert it to 8 or 16 bits a channel")
    return source


def _open_bmp(path: Path) -> Any:
    values, density = read_bmp(path)
    height, width, bands = values.shape
    source = libvips().Image.new_from_memory(values.tobytes(), width, height, bands, "uchar")
    source = source.copy(interpretation="b-w" if bands == 1 else "srgb", xres=density[0], yres=density[1])
    source.set_type(libvips().GValue.gstr_type, "vips-loader", "bmpload")
    return source


def _loader(source: Any) -> str:
    """ "png" of "pngload", "pngload_buffer" and the like."""
    return str(source.get("vips-loader")).partition("load")[0]


def _cmyk_to_srgb(source: Any, has_profile: bool) -> Any:
    profile = {"embedded": True} if has_profile else {"input_profile": "cmyk"}
    return source.icc_transform("srgb", depth=DEPTHS[source.format], **profile)
