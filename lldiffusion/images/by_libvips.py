"""PNG, JPEG, WebP, TIFF, GIF and AVIF through libvips."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np

from lldiffusion.errors import LLDiffusionError, printable

from . import coded
from .coded import coded_profile, png_header
from .decoded import Decoded, Opened
from .exif import exif_of_tiff, iptc_of_tiff, says_adobe_rgb
from .formats import ACCEPTED, Format
from .libvips import errors_named, libvips
from .metadata import blob, is_lossless_webp, orientation, text_of

DEPTHS = {"uchar": 8, "ushort": 16}  # bits a channel, by libvips' names
# libvips' loaders, and the format of the result.
LOADERS: dict[str, Format] = {"png": "png", "jpeg": "jpeg", "uhdr": "jpeg", "webp": "webp", "tiff": "tiff"}
LOADERS |= {"gif": "png", "heif": "avif"}
END_OF_IMAGE = b"\xff\xd9"  # the marker that ends a JPEG
NCLX = b"colrnclx"  # box and kind of an AVIF's code points
HEAD = 1 << 16  # bytes in which that is looked for


def open_vips(path: Path) -> Opened:
    """Raises LLDiffusionError for a file that libvips cannot read, and for kinds that are refused."""
    header = _load(path, memory=False)
    loader, name = _loader(header), printable(path)
    if loader not in LOADERS:
        raise LLDiffusionError(f"cannot read '{name}': {loader} is not supported; accepted are {ACCEPTED}")
    if header.format not in DEPTHS:
        raise LLDiffusionError(f"cannot read '{name}': {header.format} samples; convert it to 8 or 16 bits a channel")
    size = (int(header.width), int(header.height))
    width, height = size[::-1] if orientation(header) >= 5 else size
    return Opened(width, height, LOADERS[loader], lambda: _decode(path, loader))


def _load(path: Path, memory: bool) -> Any:
    """The vips image of a file; with `memory` its pixels are decoded, so that damage is found here."""
    # As a source, since new_from_file takes "[1]" in a name for options, and as bytes, since a name may be no UTF-8.
    # revalidate: libvips would otherwise answer from its cache after the file was rewritten.
    opened = libvips().Source.new_from_file(os.fsencode(path))
    return libvips().Image.new_from_source(opened, "", memory=memory, fail_on="error", revalidate=True)


def _loader(source: Any) -> str:
    """ "png" of "pngload", "pngload_buffer" and the like."""
    return str(source.get("vips-loader")).partition("load")[0]


def _decode(path: Path, loader: str) -> Decoded:
    with errors_named(path, "read"):
        source = _load_jpeg(path) if LOADERS[loader] == "jpeg" else _load(path, memory=True)
        icc, notes = blob(source, "icc-profile-data"), _notes(source, path, loader)
        exif, depth = blob(source, "exif-data"), DEPTHS[source.format]
        xmp, iptc, text = blob(source, "xmp-data"), blob(source, "iptc-data"), text_of(source)
        density = (float(source.xres), float(source.yres))
        if loader == "png":
            icc = png_header(path).profile or icc
        if loader == "heif":
            icc = icc or _nclx_profile(path)
        if LOADERS[loader] == "jpeg" and icc is None and source.bands == 3 and says_adobe_rgb(exif):
            icc = coded.ADOBE_RGB
        if source.interpretation == "cmyk":
            profile = {"embedded": True} if icc else {"input_profile": "cmyk"}
            source, icc = source.icc_transform("srgb", depth=depth, **profile), None
        bits = int(source.get("bits-per-sample")) if source.get_typeof("bits-per-sample") else depth
        values = np.atleast_3d(source.autorot().numpy())  # (H, W, bands)
    return Decoded(
        values=values,
        format=LOADERS[loader],
        icc=icc,
        exif=exif_of_tiff(path) if loader == "tiff" else exif,
        xmp=xmp,
        iptc=iptc_of_tiff(path) if loader == "tiff" else iptc,
        text=text,
        white=((1 << bits) - 1) << (16 - bits) if loader == "heif" and depth == 16 else 0,
        lossless=loader in ("png", "tiff", "gif") or (loader == "webp" and is_lossless_webp(path)),
        density=density,
        notes=notes,
    )


def _load_jpeg(path: Path) -> Any:
    """A JPEG whose data is whole but for the end marker is read; one whose data is cut short is still an error."""
    vips = libvips()
    options: dict[str, Any] = {"memory": True, "fail_on": "error", "revalidate": True}
    try:  # by name: an Ultra HDR picture would be opened by another loader
        return vips.Image.jpegload_source(vips.Source.new_from_file(os.fsencode(path)), **options).copy_memory()
    except vips.Error:
        data = path.read_bytes()
        if data.endswith(END_OF_IMAGE):
            raise
        options["fail_on"] = "warning"  # which is what missing data is then
        return vips.Image.jpegload_buffer(data + END_OF_IMAGE, **options).copy_memory()


def _notes(source: Any, path: Path, loader: str) -> tuple[str, ...]:
    pages = int(source.get("n-pages")) if source.get_typeof("n-pages") else 1
    if loader == "png":
        pages = png_header(path).frames
    notes = ["gain map (Ultra HDR) dropped"] if loader == "uhdr" else []
    if pages > 1:
        rest = "the others are not read" if loader in ("tiff", "heif") else "use `lldiff video` for all"
        notes.append(f"page 1 of {pages}; {rest}")
    return tuple(notes)


def _nclx_profile(path: Path) -> bytes | None:
    """What the code points of an AVIF mean: ISO/IEC 14496-12, 12.1.5."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    place = head.find(NCLX)
    if place < 0 or place + 12 > len(head):
        return None
    primaries, transfer = struct.unpack_from(">HH", head, place + len(NCLX))
    return coded_profile(primaries, transfer, path)
