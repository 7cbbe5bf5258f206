"""EXIF blocks: made upright, rid of their thumbnail, taken out of TIFF files and put into them (libvips does neither).

Sources: Exif 2.32 (CIPA DC-008), section 4.5; TIFF 6.0, section 2.
"""

from __future__ import annotations

import struct
from pathlib import Path

from .directories import EXIF, GPS, INTEROPERABILITY, MAKER_NOTE, UNITS, Directory, Value, first_directory, parse

MARK = b"Exif\0\0"  # before the TIFF structure, in JPEG and in libvips
ORIENTATION = 0x0112
THUMBNAIL_START, THUMBNAIL_SIZE = 0x0201, 0x0202  # tags of the directory after the first
# Tags of the first directory that say something of the photograph, not of how its pixels are stored: description,
# maker, model, software, time, artist, host, rating, copyright, and Windows' title to subject.
ABOUT = {270, 271, 272, 305, 306, 315, 316, 0x4746, 33432, *range(0x9C9B, 0x9CA0)}
IPTC, UNDEFINED = 33723, 7  # a tag, and a type; libvips cuts IPTC to a quarter when it writes it
BELOW = {EXIF, GPS, INTEROPERABILITY}


def without_thumbnail(exif: bytes | None) -> bytes | None:
    """The block with its orientation set to 1 and its thumbnail, which is of the picture as it was, blanked out."""
    if exif is None:
        return None
    start = len(MARK) if exif.startswith(MARK) else 0
    order = {b"II": "<", b"MM": ">"}.get(exif[start : start + 2])
    if order is None or len(exif) < start + 8:
        return exif
    block = bytearray(exif[start:])
    try:
        first = struct.unpack_from(f"{order}I", block, 4)[0]
        for place in _entries(block, first, order):
            if struct.unpack_from(f"{order}H", block, place)[0] == ORIENTATION:
                struct.pack_into(f"{order}H", block, place + 8, 1)
        link = first + 2 + 12 * struct.unpack_from(f"{order}H", block, first)[0]
        _blank(block, struct.unpack_from(f"{order}I", block, link)[0], order)
        struct.pack_into(f"{order}I", block, link, 0)
    except struct.error:
        pass  # cut short: what could be mended is
    return exif[:start] + bytes(block)


def _entries(block: bytearray, directory: int, order: str) -> range:
    """Where the entries of a directory begin."""
    count = struct.unpack_from(f"{order}H", block, directory)[0]
    return range(directory + 2, min(directory + 2 + 12 * count, len(block) - 11), 12)


def _blank(block: bytearray, directory: int, order: str) -> None:
    if directory == 0:
        return
    found = {}
    for place in _entries(block, directory, order):
        tag, _, _, value = struct.unpack_from(f"{order}HHII", block, place)
        found[tag] = value
        block[place : place + 12] = bytes(12)
    start = found.get(THUMBNAIL_START, 0)
    end = min(start + found.get(THUMBNAIL_SIZE, 0), len(block))
    if start:
        block[start:end] = bytes(max(end - start, 0))


def exif_of_tiff(path: Path) -> bytes | None:
    """What a TIFF file's first directory says of the photograph, as an EXIF block; None where it says nothing."""
    return _block(first_directory(path))


def without_maker_note(exif: bytes | None) -> bytes | None:
    """The block without the camera maker's own part, often the largest; None where the rest says nothing."""
    first = parse(exif.removeprefix(MARK)) if exif else None
    if first is not None and EXIF in first.below:
        first.below[EXIF].tags.pop(MAKER_NOTE, None)
    return _block(first)


def _block(first: Directory | None) -> bytes | None:
    about = _about(first) if first else None
    if about is None:
        return None
    head = (b"II*\0" if about.order == "<" else b"MM\0*") + struct.pack(f"{about.order}I", 8)
    return MARK + head + _packed(about, about.order, 8)


def says_adobe_rgb(exif: bytes | None) -> bool:
    """Whether a camera says that its numbers are AdobeRGB's: interoperability index R03 (DCF 2.0, option file)."""
    first = parse(exif.removeprefix(MARK)) if exif else None
    below = first.below.get(EXIF) if first else None
    index = below.below.get(INTEROPERABILITY) if below else None
    return index is not None and 1 in index.tags and index.tags[1].data[:3] == b"R03"


def iptc_of_tiff(path: Path) -> bytes | None:
    """The IPTC records of a TIFF file's first directory."""
    first = first_directory(path)
    return first.tags[IPTC].data if first and IPTC in first.tags else None


def add_to_tiff(path: Path, exif: bytes | None, iptc: bytes | None) -> None:
    """Put what an EXIF block says, and IPTC records, into a finished TIFF file, behind its end.

    The first directory is written anew after the block's values, with its own entries as they were.
    """
    block = parse(exif[len(MARK) :] if exif.startswith(MARK) else exif) if exif else None
    about, own = (_about(block) if block else None) or Directory(), first_directory(path)
    if iptc:
        about.tags[IPTC] = Value(UNDEFINED, len(iptc), iptc)
    if own is None or not (about.tags or about.below):
        return
    with Path(path).open("r+b") as file:
        head = file.read(8)
        order = "<" if head[:2] == b"II" else ">"
        file.seek(struct.unpack(f"{order}I", head[4:])[0])
        count = struct.unpack(f"{order}H", file.read(2))[0]
        entries = [file.read(12) for _ in range(count)]
        link = file.read(4)
        added = Directory(about.order, {t: v for t, v in about.tags.items() if t not in own.tags}, about.below)
        end = (file.seek(0, 2) + 1) // 2 * 2
        new, values = _laid_out(added, order, end)
        file.seek(end)
        file.write(values)
        place = end + len(values)
        merged = sorted(entries + new, key=lambda entry: struct.unpack_from(f"{order}H", entry)[0])
        file.write(struct.pack(f"{order}H", len(merged)) + b"".join(merged) + link)
        file.seek(4)
        file.write(struct.pack(f"{order}I", place))


def _about(first: Directory) -> Directory | None:
    tags = {tag: value for tag, value in first.tags.items() if tag in ABOUT}
    below = {tag: directory for tag, directory in first.below.items() if directory.tags}
    return Directory(first.order, tags, below) if tags or below else None


def _packed(directory: Directory, order: str, place: int) -> bytes:
    """A directory that begins at `place` of its file, with its values and the directories below behind it."""
    count = len(directory.tags.keys() - BELOW) + len(directory.below)
    entries, values = _laid_out(directory, order, place + 2 + 12 * count + 4)
    return struct.pack(f"{order}H", count) + b"".join(entries) + bytes(4) + values


def _laid_out(directory: Directory, order: str, place: int) -> tuple[list[bytes], bytes]:
    """The entries of a directory, sorted, and the values that they point to, which begin at `place`."""
    entries, values = [], b""
    for tag in sorted((directory.tags.keys() - BELOW) | directory.below.keys()):
        if tag in directory.below:
            entries.append(struct.pack(f"{order}HHII", tag, 4, 1, place + len(values)))
            values += _packed(directory.below[tag], order, place + len(values))
            continue
        value = directory.tags[tag]
        data = _in_order(value, directory.order, order)
        head = struct.pack(f"{order}HHI", tag, value.type, value.count)
        if len(data) <= 4:
            entries.append(head + data.ljust(4, b"\0"))
        else:
            entries.append(head + struct.pack(f"{order}I", place + len(values)))
            values += data + bytes(len(data) % 2)
    return entries, values


def _in_order(value: Value, given: str, wanted: str) -> bytes:
    unit = UNITS.get(value.type, 1)
    if given == wanted or unit == 1:
        return value.data
    return b"".join(value.data[i : i + unit][::-1] for i in range(0, len(value.data), unit))
