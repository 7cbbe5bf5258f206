"""Between Y'CbCr code values and R'G'B' in [0, 1].

    Y' = Kr R' + Kg G' + Kb B',   Cb = (B' - Y') / (2 (1 - Kb)),   Cr = (R' - Y') / (2 (1 - Kr))

(ITU-T H.273, 8.3; BT.601, BT.709 and BT.2020 non-constant luminance differ in Kr and Kb.)  Limited range puts Y' on
16..235 and chroma on 128 +- 112, times 2^(bits - 8); full range on 0 .. 2^bits - 1.

Pictures are converted some rows at a time: what is made of them on the way stays in the processor's cache, which takes
a third of the time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lldiffusion.errors import LLDiffusionError
from lldiffusion.photometry import LUMA_BT601, LUMA_BT709

from .chroma import Plane, chroma_rows, shrink
from .hdr import NAMES as HDR
from .hdr import PRIMARIES

CACHED = 1 << 16  # pixels converted at a time: their floats fit a second-level cache

Codes = NDArray[Any]  # (height, width) uint8, or uint16 above 8 bits

UNSPECIFIED = 2  # of matrix, transfer and primaries
LIMITED, FULL = 1, 2  # FFmpeg's numbers for the range; 0 is unspecified
RGB, BT709, BT601, BT2020 = 0, 1, 6, 9  # of the matrix
_KR_KB = {
    BT709: LUMA_BT709[::2],
    4: (0.30, 0.11),  # FCC
    5: LUMA_BT601[::2],  # BT.470BG, the same as
    BT601: LUMA_BT601[::2],
    7: (0.212, 0.087),  # SMPTE 240M
    BT2020: (0.2627, 0.0593),
}


@dataclass(frozen=True)
class Colour:
    """What the numbers of a video mean, as code points of ITU-T H.273; written out as they were read in."""

    matrix: int = UNSPECIFIED
    range: int = 0
    transfer: int = UNSPECIFIED
    primaries: int = UNSPECIFIED

    def check(self, name: str) -> None:
        """Raises LLDiffusionError for matrices that are not linear in R'G'B', and for HDR of unknown primaries."""
        if self.hdr and self.primaries not in (UNSPECIFIED, *PRIMARIES):
            raise LLDiffusionError(
                f"'{name}' is {self.hdr} with colour primaries {self.primaries} (ITU-T H.273), which is not supported: "
                "convert it to BT.2020, Display P3 or BT.709 first"
            )
        if self.matrix not in (RGB, UNSPECIFIED, *_KR_KB):
            raise LLDiffusionError(
                f"'{name}' has colour matrix {self.matrix} (ITU-T H.273), which is not supported: "
                "convert it to BT.601, BT.709 or BT.2020 (non-constant luminance) first"
            )

    def weights(self, height: int) -> tuple[float, float]:
        """(Kr, Kb); an untagged video is taken for BT.709 from 720 lines on, else for BT.601, as players do.

        HDR that does not say is BT.2020.
        """
        untagged = BT2020 if self.hdr else BT709 if height >= 720 else BT601
        return _KR_KB[untagged if self.matrix in (RGB, UNSPECIFIED) else self.matrix]

    @property
    def hdr(self) -> str:
        """ "PQ" or "HLG"; "" for a standard range."""
        return HDR.get(self.transfer, "")

    @property
    def full(self) -> bool:
        """Whether all code values are used; an untagged video is limited."""
        return self.range == FULL


def strips(height: int, width: int) -> Iterator[slice]:
    """The rows of a picture in parts of about CACHED pixels, whose starts fit every chroma subsampling."""
    step = max(CACHED // width // 4, 1) * 4
    return (slice(top, min(top + step, height)) for top in range(0, height, step))


def to_rgb(y: Codes, cb: Codes, cr: Codes, bits: int, colour: Colour) -> NDArray[np.float32]:
    """Code values, chroma of any subsampling, to (H, W, 3), not clipped: a view of planes, which engines want."""
    planes = np.empty((3, *y.shape), np.float32)
    for rows in strips(*y.shape):
        rgb_rows((y, cb, cr), rows, bits, colour, planes[:, rows])
    return planes.transpose(1, 2, 0)


def rgb_rows(codes: tuple[Codes, ...], rows: slice, bits: int, colour: Colour, rgb: NDArray[np.float32]) -> None:
    """Some rows of `to_rgb`, into planes (3, rows, W); `codes` are Y' alone or Y', Cb and Cr of the whole picture."""
    size = codes[0].shape
    kr, kb = colour.weights(size[0])
    offset, luma, chroma = _scale(bits, colour.full)
    grey = np.multiply(codes[0][rows], np.float32(1 / luma), dtype=np.float32)
    grey -= np.float32(offset / luma)
    if len(codes) == 1:
        rgb[...] = grey
        return
    kg, scales = 1 - kr - kb, (2 * (1 - kb) / chroma, 2 * (1 - kr) / chroma)
    blue, red = chroma_rows(codes[1:], rows, size, scales, 2 ** (bits - 1))
    np.add(grey, red, out=rgb[0])
    np.add(grey, blue, out=rgb[2])
    grey -= np.multiply(red, np.float32(kr / kg), out=red)
    np.subtract(grey, np.multiply(blue, np.float32(kb / kg), out=blue), out=rgb[1])


def code_rows(rgb: NDArray[np.float32], rows: slice, bits: int, colour: Colour, codes: tuple[Codes, ...]) -> None:
    """R'G'B' (3, rows, W), rounded and clipped, into these rows of a picture's `codes`: Y' alone or Y', Cb and Cr."""
    kr, kb = colour.weights(codes[0].shape[0])
    offset, luma, chroma = _scale(bits, colour.full)
    grey = rgb[0] * np.float32(kr)  # not a product of matrices: that may add up in another order next time
    grey += rgb[1] * np.float32(1 - kr - kb)
    grey += rgb[2] * np.float32(kb)
    middle = np.float32(2 ** (bits - 1))
    for plane, part, weight in zip(codes[1:], (rgb[2], rgb[0]), (kb, kr)):
        tall = -(-codes[0].shape[0] // plane.shape[0])
        lines = plane[rows.start // tall : -(-rows.stop // tall)]
        values = shrink(part - grey, lines.shape)
        values *= np.float32(0.5 / (1 - weight) * chroma)
        values += middle
        quantise(values, bits, lines)
    grey *= np.float32(luma)
    grey += np.float32(offset)
    quantise(grey, bits, codes[0][rows])


def quantise(values: Plane, bits: int, codes: Codes) -> None:
    """The nearest code values, clipped to what `bits` hold, into `codes`; `values` are changed."""
    np.rint(values, out=values)
    np.clip(values, 0, 2**bits - 1, out=values)
    np.copyto(codes, values, casting="unsafe")


def _scale(bits: int, full: bool) -> tuple[float, float, float]:
    """(code of black, codes from black to white, codes of the whole chroma axis)."""
    unit = 2.0 ** (bits - 8)
    return (0.0, 2.0**bits - 1, 2.0**bits - 1) if full else (16 * unit, 219 * unit, 224 * unit)
