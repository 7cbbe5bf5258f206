"""A file to an `Image`: upright, sRGB in [0, 1], with everything that must survive processing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lldiffusion.errors import LLDiffusionError, printable

from .bmp import open_bmp
from .by_libvips import open_vips
from .coded import refuse_hdr
from .colour import Beyond, can_go_back, is_srgb, profile_problem, to_srgb
from .decoded import Decoded, Opened
from .directories import is_raw
from .exif import without_thumbnail
from .formats import RAW_SUFFIXES, Format
from .heic import open_heic
from .icc import tags_of
from .image import Image
from .jxl import BARE, BOXED, open_jxl
from .libvips import errors_named, refuse_after_fork
from .metadata import fresh_xmp, unwrapped_iptc
from .raw import open_raw

MAX_PIXELS = 200_000_000  # that are decoded unasked
MILLION = 1_000_000
AVIF_BRANDS, HEIC_BRANDS = {b"avif", b"avis"}, {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}
RAW_BRAND, RAF_MAGIC = b"crx ", b"FUJIFILMCCD-RAW"

Floats = NDArray[np.float32]


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) of the upright picture, from the header; raises as `read_image` does."""
    opened = _open(Path(path))
    return opened.width, opened.height


def image_format(path: Path) -> Format:
    """In which format a picture is written by default, from the header; raises as `read_image` does."""
    return _open(Path(path)).format


def read_image(path: Path, max_pixels: int = MAX_PIXELS) -> Image:
    """Read a picture.  Raises LLDiffusionError if it is missing, no image, damaged, or of an unsupported kind.

    One of more than `max_pixels` by its header is refused before it is decoded.
    """
    refuse_after_fork()
    opened = _open(Path(path))
    size, millions = f"{opened.width}x{opened.height}", opened.width * opened.height / MILLION
    if millions * MILLION > max_pixels:
        raise LLDiffusionError(
            f"'{printable(path)}' is {size}, {millions:.0f} million pixels: at most {max_pixels / MILLION:g} million "
            "are read (`lldiff enhance --max-pixels` for more)"
        )
    return _image(opened.decode(), path)


def _open(path: Path) -> Opened:
    name = printable(path)
    if not path.is_file():
        raise LLDiffusionError(f"cannot read '{name}': {'it is a folder' if path.is_dir() else 'no such file'}")
    if path.stat().st_size == 0:
        raise LLDiffusionError(f"cannot read '{name}': the file is empty")
    with errors_named(path, "read"):
        return _opener(path)(path)


def _opener(path: Path) -> Any:
    """What opens a file, by its first bytes; a RAW file by its suffix too, since many begin as a TIFF."""
    with path.open("rb") as file:
        head = file.read(64)
    if head[4:8] == b"ftyp":
        brands = {head[i : i + 4] for i in range(8, min(int.from_bytes(head[:4], "big"), 64), 4)}
        if head[8:12] == RAW_BRAND:
            return open_raw
        return open_heic if brands & HEIC_BRANDS and not brands & AVIF_BRANDS else open_vips
    if head.startswith((BARE, BOXED)):
        return open_jxl
    if head.startswith(RAF_MAGIC) or path.suffix.lower() in RAW_SUFFIXES or is_raw(path):
        return open_raw
    return open_bmp if head.startswith(b"BM") else open_vips


def _image(decoded: Decoded, path: Path) -> Image:
    values = decoded.values
    colours, alpha = (3 if values.shape[2] >= 3 else 1), values.shape[2] in (2, 4)
    planes = values.astype(np.float32)
    planes /= np.float32(decoded.white or 2**decoded.bits - 1)  # in place, as below: large pictures are held once
    if decoded.white:
        np.minimum(planes, 1, out=planes)
    pixels, icc, beyond, notes = _in_srgb(planes[..., :colours], decoded.icc, path)
    xmp, parts = fresh_xmp(decoded.xmp)
    return Image(
        pixels=np.ascontiguousarray(np.broadcast_to(pixels, (*planes.shape[:2], 3))),
        alpha=np.ascontiguousarray(planes[..., colours]) if alpha else None,
        bits=decoded.bits,
        grey=colours == 1,
        icc=icc,
        beyond=beyond,
        exif=without_thumbnail(decoded.exif),
        xmp=xmp,
        iptc=unwrapped_iptc(decoded.iptc),
        text=decoded.text,
        format=decoded.format,
        lossless=decoded.lossless,
        density=decoded.density,
        notes=decoded.notes + parts + notes,
    )


def _in_srgb(
    numbers: Floats, icc: bytes | None, path: Path
) -> tuple[Floats, bytes | None, Beyond | None, tuple[str, ...]]:
    """(H, W, 1 or 3) under a profile in sRGB; the profile to go back to; what is outside sRGB; what is to be said."""
    if icc is not None and (problem := profile_problem(icc, grey=numbers.shape[2] == 1)):
        return numbers, None, None, (f"its colour profile cannot be used ({problem}): taken as sRGB",)
    if icc is not None and len(code := tags_of(icc).get("cicp", b"")) >= 10:
        refuse_hdr(code[9], path)
    if icc is None or is_srgb(icc):
        return numbers, icc, None, ()
    pixels, beyond = to_srgb(numbers, icc)
    if can_go_back(icc):
        return pixels, icc, beyond, ()
    return pixels, None, None, ("its colour profile leads one way only: written as sRGB",)
