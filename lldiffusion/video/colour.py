"""Between Y'CbCr code values and R'G'B' in [0, 1].

    Y' = Kr R' + Kg G' + Kb B',   Cb = (B' - Y') / (2 (1 - Kb)),   Cr = (R' - Y') / (2 (1 - Kr))

(ITU-T H.273, 8.3; BT.601, BT.709 and BT.2020 non-constant luminance differ in Kr and Kb.)  Limited range puts Y' on
16..235 and chroma on 128 +- 112, times 2^(bits - 8); full range on 0 .. 2^bits - 1.

Subsampled chroma is brought to the picture's size by a straight line inside each sample whose mean is the sample
itself, and back by averaging, so there and back is the identity.  Where the samples sit between the pixels does not
matter for that, and is handed on as it was tagged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lldiffusion.errors import LLDiffusionError
from lldiffusion.photometry import LUMA_BT601, LUMA_BT709

from .hdr import NAMES as HDR
from .hdr import PRIMARIES

Plane = NDArray[np.float32]  # (height, width)
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


def to_rgb(y: Codes, cb: Codes, cr: Codes, bits: int, colour: Colour) -> NDArray[np.float32]:
    """Code values, chroma of any subsampling, to (H, W, 3), not clipped: a view of planes, which engines want."""
    height, width = y.shape
    kr, kb = colour.weights(height)
    kg = 1 - kr - kb
    offset, luma, chroma = _scale(bits, colour.full)
    blue, red = (_grow((c.astype(np.float32) - np.float32(2 ** (bits - 1))) / chroma, height, width) for c in (cb, cr))
    grey = y.astype(np.float32)
    grey -= offset
    grey /= luma
    planes = np.empty((3, height, width), np.float32)
    np.multiply(red, np.float32(2 * (1 - kr)), out=planes[0])
    np.multiply(blue, np.float32(2 * (1 - kb)), out=planes[2])
    np.multiply(planes[0], np.float32(-kr / kg), out=planes[1])
    planes[1] -= planes[2] * np.float32(kb / kg)
    planes += grey
    return planes.transpose(1, 2, 0)


def from_rgb(
    rgb: NDArray[np.float32], chroma_size: tuple[int, int], bits: int, colour: Colour
) -> tuple[Codes, Codes, Codes]:
    """(H, W, 3) to code values, rounded and clipped; chroma has `chroma_size` (height, width)."""
    kr, kb = colour.weights(rgb.shape[0])
    offset, luma, chroma = _scale(bits, colour.full)
    grey = rgb[..., 0] * np.float32(kr)  # not a product of matrices: that may add up in another order next time
    grey += rgb[..., 1] * np.float32(1 - kr - kb)
    grey += rgb[..., 2] * np.float32(kb)
    middle = np.float32(2 ** (bits - 1))
    blue = _shrink((rgb[..., 2] - grey) * np.float32(0.5 / (1 - kb)), chroma_size)
    red = _shrink((rgb[..., 0] - grey) * np.float32(0.5 / (1 - kr)), chroma_size)
    return (
        quantise(grey * luma + offset, bits),
        quantise(blue * chroma + middle, bits),
        quantise(red * chroma + middle, bits),
    )


def quantise(values: Plane, bits: int) -> Codes:
    """To the nearest code value, clipped to what `bits` hold."""
    kind = np.uint8 if bits == 8 else np.uint16
    rounded: Codes = np.clip(np.rint(values), 0, 2**bits - 1).astype(kind)
    return rounded


def _scale(bits: int, full: bool) -> tuple[np.float32, np.float32, np.float32]:
    """(code of black, codes from black to white, codes of the whole chroma axis)."""
    if full:
        return np.float32(0), np.float32(2**bits - 1), np.float32(2**bits - 1)
    unit = 2 ** (bits - 8)
    return np.float32(16 * unit), np.float32(219 * unit), np.float32(224 * unit)


def _grow(plane: Plane, height: int, width: int) -> Plane:
    """Chroma at the size of the picture."""
    for axis, size in ((0, height), (1, width)):
        factor = -(-size // plane.shape[axis])
        if factor == 2:
            plane = _double(plane, axis)
        elif factor > 2:
            plane = np.repeat(plane, factor, axis)
    return plane[:height, :width]


def _double(plane: Plane, axis: int) -> Plane:
    """Twice the samples: s -> (s - d, s + d), d a quarter of the smaller step to a neighbour, 0 at an extremum."""
    lines = np.moveaxis(plane, axis, 0)
    step = np.diff(lines, axis=0, prepend=lines[:1], append=lines[-1:])
    before, after = step[:-1], step[1:]
    slope = np.maximum(np.minimum(before, after), 0) + np.minimum(np.maximum(before, after), 0)  # "minmod"
    slope *= np.float32(0.25)
    shape = list(plane.shape)
    shape[axis] *= 2
    doubled = np.empty(shape, np.float32)
    pairs = np.moveaxis(doubled, axis, 0)
    np.subtract(lines, slope, out=pairs[0::2])
    np.add(lines, slope, out=pairs[1::2])
    return doubled


def _shrink(plane: Plane, size: tuple[int, int]) -> Plane:
    """The mean over each chroma sample's pixels; a last odd line or column counts as repeated."""
    factors = [-(-have // want) for have, want in zip(plane.shape, size)]
    pads = [(0, want * factor - have) for have, want, factor in zip(plane.shape, size, factors)]
    if any(after for _, after in pads):
        plane = np.pad(plane, pads, mode="edge")
    down, across = factors
    rows = sum((plane[i::down] for i in range(1, down)), plane[0::down])
    total = sum((rows[:, i::across] for i in range(1, across)), rows[:, 0::across])
    return total * np.float32(1 / (down * across))
