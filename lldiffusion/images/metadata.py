"""What a picture's file says beside its pixels: what each format keeps, and what has to be left out."""

from __future__ import annotations

import os
import re
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

from .colour import is_srgb
from .exif import without_maker_note
from .formats import Format
from .image import Image
from .libvips import libvips

# What the writer of each format here keeps.
KEPT: dict[Format, tuple[str, ...]] = {
    "png": ("profile", "EXIF", "XMP", "text"),
    "jpeg": ("profile", "EXIF", "XMP", "IPTC"),
    "webp": ("profile", "EXIF", "XMP"),
    "tiff": ("profile", "EXIF", "XMP", "IPTC"),
    "bmp": (),
    "avif": ("profile", "EXIF", "XMP"),
    "heic": ("profile", "EXIF", "XMP"),
    "jxl": ("EXIF", "XMP"),
}
LARGEST = 65_000  # bytes of a block: of any in a JPEG, of EXIF wherever libvips writes it, which drops larger ones
SMALL_EXIF = ("jpeg", "png", "webp", "avif")
PHOTOSHOP, RESOURCE, IPTC_RESOURCE = b"Photoshop 3.0\0", b"8BIM", 0x0404
TEXT = re.compile(r"png-comment-\d+-(.*)", re.DOTALL)  # libvips' name of a PNG text
# What XMP says of parts that are dropped: gain map, the video of a motion photo, where they lie, and extended XMP.
STALE = re.compile(
    rb"""<(Container:Directory|hdrgm:\w+|GCamera:(?:Motion|Micro)\w+)\b[^>]*(?:/>|>.*?</\1>)"""
    rb"""|\s(?:hdrgm:\w+|GCamera:(?:Motion|Micro)\w+|xmpNote:HasExtendedXMP)\s*=\s*(?:"[^"]*"|'[^']*')""",
    re.DOTALL,
)
PARTS = {
    "motion photo's video dropped": (b"GCamera:MotionPhoto", b"GCamera:MicroVideo"),
    "extended XMP dropped": (b"xmpNote:HasExtendedXMP",),
}


def blob(source: Any, field: str) -> bytes | None:
    """A block of bytes of a vips image, such as "icc-profile-data"; None where it has none."""
    return bytes(source.get(field)) if source.get_typeof(field) else None


def orientation(source: Any) -> int:
    """EXIF orientation of a vips image, 1 (upright) to 8; from 5 on, width and height change places."""
    return int(source.get("orientation")) if source.get_typeof("orientation") else 1


def text_of(source: Any) -> tuple[tuple[str, str], ...]:
    """The texts of a PNG: (keyword, text)."""
    names = [(match.group(1), name) for name in source.get_fields() if (match := TEXT.fullmatch(name))]
    return tuple((keyword, str(source.get(name))) for keyword, name in names)


def fresh_xmp(xmp: bytes | None) -> tuple[bytes | None, tuple[str, ...]]:
    """XMP without what it says of parts that are not kept, and the names of those parts."""
    if xmp is None:
        return None, ()
    notes = tuple(note for note, marks in PARTS.items() if any(mark in xmp for mark in marks))
    return STALE.sub(b"", xmp), notes


def unwrapped_iptc(block: bytes | None) -> bytes | None:
    """The IPTC records in a JPEG's Photoshop block (a TIFF has them bare); None where it has none."""
    if block is None or not block.startswith(PHOTOSHOP):
        return block
    place = len(PHOTOSHOP)
    while block[place : place + 4] == RESOURCE and place + 12 <= len(block):
        name = block[place + 6] + 1
        start = place + 6 + name + name % 2
        number, size = struct.unpack_from(">H", block, place + 4)[0], int.from_bytes(block[start : start + 4], "big")
        if number == IPTC_RESOURCE:
            return block[start + 4 : start + 4 + size]
        place = start + 4 + size + size % 2
    return None


def wrapped_iptc(records: bytes) -> bytes:
    """IPTC records as a JPEG has them."""
    size = struct.pack(">I", len(records))
    return PHOTOSHOP + RESOURCE + struct.pack(">H", IPTC_RESOURCE) + b"\0\0" + size + records + bytes(len(records) % 2)


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


def for_format(image: Image, format_: Format) -> tuple[Image, tuple[str, ...]]:
    """The picture with what a format can keep of its metadata, and what it cannot, a clause each."""
    held = {"EXIF": image.exif, "XMP": image.xmp, "IPTC": image.iptc, "text": image.text}
    lost = [name for name, value in held.items() if value and name not in KEPT[format_]]
    notes = [f"{', '.join(lost)} dropped: not kept in {format_.upper()}"] if lost else []
    if "profile" not in KEPT[format_] and not is_srgb(image.icc):
        notes.append("colours converted to sRGB")
    exif = image.exif if "EXIF" not in lost else None
    if exif and len(exif) > LARGEST and format_ in SMALL_EXIF:
        exif = without_maker_note(exif)
        exif = exif if exif and len(exif) <= LARGEST else None
        notes.append(f"{'maker note of EXIF' if exif else 'EXIF'} dropped: too large for {format_.upper()}")
    kept = {name: value for name, value in (("XMP", image.xmp), ("IPTC", image.iptc)) if value and name not in lost}
    if format_ == "jpeg" and (large := [name for name, value in kept.items() if len(value) > LARGEST]):
        notes.append(f"{', '.join(large)} dropped: too large for JPEG")
        kept = {name: value for name, value in kept.items() if name not in large}
    text = image.text if "text" not in lost else ()
    return replace(image, exif=exif, xmp=kept.get("XMP"), iptc=kept.get("IPTC"), text=text), tuple(notes)


def with_metadata(target: Any, image: Image, format_: Format) -> Any:
    """The vips image with the blocks that libvips writes in this format (TIFF's are `exif.add_to_tiff`'s)."""
    iptc = wrapped_iptc(image.iptc) if image.iptc and format_ == "jpeg" else None
    blocks = {"icc-profile-data": image.icc, "exif-data": image.exif, "xmp-data": image.xmp, "iptc-data": iptc}
    for field, value in blocks.items():
        if value is not None:
            target.set_type(libvips().GValue.blob_type, field, value)
    for i, (keyword, text) in enumerate(image.text):
        target.set_type(libvips().GValue.gstr_type, f"png-comment-{i}-{keyword}", text)
    return target
