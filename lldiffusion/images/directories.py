"""The directories of a TIFF file, and of an EXIF block, which is one.  TIFF 6.0, section 2."""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass, field
from pathlib import Path

SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}  # bytes by type
UNITS = {3: 2, 4: 4, 5: 4, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8, 13: 4}  # bytes that are swapped together
EXIF, GPS, INTEROPERABILITY = 0x8769, 0x8825, 0xA005  # tags that point to a directory
SUBFILE, PHOTOMETRIC, DNG_VERSION = 254, 262, 50706
MOSAIC, LINEAR_RAW = 32803, 34892  # of PHOTOMETRIC
MAKER_NOTE = 0x927C  # in the EXIF directory: a camera's own, and of a RAW file large
MOST_ENTRIES = 1000


@dataclass
class Value:
    """A tag's value, in the byte order of its file."""

    type: int
    count: int
    data: bytes

    def number(self, order: str) -> int:
        """The first number of a whole-number tag; 0 of any other."""
        kind = {1: "B", 3: "H", 4: "I", 13: "I"}.get(self.type)
        return int(struct.unpack_from(order + kind, self.data)[0]) if kind and self.count else 0


@dataclass
class Directory:
    """Tags, and the directories below (EXIF, GPS, interoperability), by the tag that points to them."""

    order: str = "<"  # struct's
    tags: dict[int, Value] = field(default_factory=dict)
    below: dict[int, Directory] = field(default_factory=dict)

    def number(self, tag: int) -> int:
        """The tag's first number; 0 where there is none."""
        return self.tags[tag].number(self.order) if tag in self.tags else 0


def first_directory(path: Path) -> Directory | None:
    """The first directory of a TIFF file; None for another kind of file (BigTIFF among them) or a damaged one."""
    with Path(path).open("rb") as file:
        if file.read(4) not in (b"II*\0", b"MM\0*"):
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return parse(data)


def parse(data: bytes | mmap.mmap) -> Directory | None:
    """The first directory of a TIFF structure; None where there is none that can be read."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 8:
        return None
    try:
        return _directory(data, struct.unpack_from(f"{order}I", data, 4)[0], order, depth=0)
    except (struct.error, IndexError):
        return None


def is_raw(path: Path) -> bool:
    """Whether a TIFF file is a camera's: a mosaic, linear raw, a DNG, or one whose first page is only a thumbnail."""
    first = first_directory(path)
    if first is None:
        return False
    thumbnail = bool(first.number(SUBFILE) & 1)
    return DNG_VERSION in first.tags or first.number(PHOTOMETRIC) in (MOSAIC, LINEAR_RAW) or thumbnail


def _directory(data: bytes | mmap.mmap, offset: int, order: str, depth: int) -> Directory:
    found = Directory(order)
    count = struct.unpack_from(f"{order}H", data, offset)[0]
    for place in range(offset + 2, offset + 2 + 12 * min(count, MOST_ENTRIES), 12):
        tag, type_, number = struct.unpack_from(f"{order}HHI", data, place)
        size = SIZES.get(type_, 0) * number
        start = place + 8 if size <= 4 else struct.unpack_from(f"{order}I", data, place + 8)[0]
        if not size or start + size > len(data):
            continue
        found.tags[tag] = Value(type_, number, data[start : start + min(size, 1 << 24)])
        if tag in (EXIF, GPS, INTEROPERABILITY) and depth < 2:
            try:
                found.below[tag] = _directory(data, found.number(tag), order, depth + 1)
            except struct.error:
                continue
    return found
