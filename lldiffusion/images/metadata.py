"""What a picture's file says beside its pixels: profile, EXIF, orientation, and whether a WebP is lossless."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

from .image import Image
from .libvips import libvips

ORIENTATION = 0x0112  # EXIF tag


def blob(source: Any, field: str) -> bytes | None:
    """A block of bytes of a vips image, such as "icc-profile-data"; None where it has none."""
    return bytes(source.get(field)) if source.get_typeof(field) else None


def orientation(source: Any) -> int:
    """EXIF orientation of a vips image, 1 (upright) to 8; from 5 on, width and height change places."""
    return int(source.get("orientation")) if source.get_typeof("orientation") else 1


def upright_exif(exif: bytes | None) -> bytes | None:
    """The EXIF block with its orientation set to 1 in place; nothing else is touched.  TIFF 6.0 section 2."""
    if exif is None:
        return None
    start = 6 if exif[:6] == b"Exif\0\0" else 0
    order = {b"II": "<", b"MM": ">"}.get(exif[start : start + 2])
    if order is None or len(exif) < start + 8:
        return exif
    patched = bytearray(exif)
    directory = start + struct.unpack_from(f"{order}I", exif, start + 4)[0]
    entries = struct.unpack_from(f"{order}H", exif, directory)[0] if directory + 2 <= len(exif) else 0
    for entry in range(directory + 2, min(directory + 2 + 12 * entries, len(exif) - 11), 12):
        if struct.unpack_from(f"{order}H", exif, entry)[0] == ORIENTATION:
            struct.pack_into(f"{order}H", patched, entry + 8, 1)
    return bytes(patched)


def is_lossless_webp(path: Path) -> bool:
    """Whether the first frame is a VP8L chunk.  RIFF container: https://developers.google.com/speed/webp/docs"""
    with path.open("rb") as file:
        file.seek(12)  # RIFF, size, WEBP
        while len(head := file.read(8)) == 8:
            name, size = head[:4], struct.unpack("<I", head[4:])[0]
            if name in (b"VP8L", b"VP8 "):
                return name == b"VP8L"
            if name == b"ANMF":  # a frame: 16 bytes, then its own chunks
                size = 16
            file.seek(size + size % 2, os.SEEK_CUR)
    return False


def with_metadata(target: Any, image: Image) -> Any:
    """The vips image with the profile and the EXIF block of `image`."""
    for field, value in (("icc-profile-data", image.icc), ("exif-data", image.exif)):
        if value is not None:
            target.set_type(libvips().GValue.blob_type, field, value)
    return target
