"""What a reader of any format hands over: the size from the header, then the numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from .formats import Format


@dataclass
class Decoded:
    """An upright picture as its file has it."""

    values: NDArray[Any]  # (H, W, 1 to 4) uint8 or uint16: grey or RGB, then alpha
    format: Format  # in which it is written by default
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None  # bare, or in a JPEG's Photoshop block
    text: tuple[tuple[str, str], ...] = ()
    white: int = 0  # the number of white; 0: the type's largest
    lossless: bool = True
    density: tuple[float, float] | None = None  # pixels per millimetre
    notes: tuple[str, ...] = ()  # what was left out, a clause each

    @property
    def bits(self) -> int:
        """8 or 16."""
        return 8 * self.values.dtype.itemsize


@dataclass
class Opened:
    """A picture of which the header is read."""

    width: int  # upright
    height: int
    format: Format  # in which it is written by default
    decode: Callable[[], Decoded]
