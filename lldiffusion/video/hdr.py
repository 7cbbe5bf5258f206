"""HDR video, PQ and HLG, to the model's range and back (ITU-R BT.2100-2, BT.2408, BT.1886).

    R'G'B' --EOTF--> light on a display, cd/m2 --/ 203, to BT.709's primaries--> L --1/2.4--> signal

A `signal` of 1 is diffuse white, 203 cd/m2 in PQ and HLG alike (BT.2408, table 1); below it lies what a standard video
holds, coded as one is for a BT.1886 display: the model works there.  Above it are lamps and reflections, below 0 the
colours outside BT.709: both are carried past the model.  HLG is meant for a display of 1000 cd/m2.

All functions take and return (H, W, 3) views of planes, not clipped, and are odd: f(-x) = -f(x).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .colour import Colour

Floats = NDArray[np.float32]

PQ, HLG = 16, 18  # transfer functions of ITU-T H.273
NAMES = {PQ: "PQ", HLG: "HLG"}
DIFFUSE_WHITE = 203.0  # cd/m2
HLG_PEAK, PQ_PEAK = 1000.0, 10000.0  # cd/m2 of R' = G' = B' = 1
DISPLAY_GAMMA = 2.4  # of BT.1886 with a black of 0
# x and y of red, green and blue, by H.273's code points; white is D65 in all.
PRIMARIES = {
    1: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),  # BT.709
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),  # BT.2020
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),  # Display P3
}
_D65 = (0.3127, 0.3290)
_WIDE = 9  # taken where a clip does not say
_LUMA = np.array((0.2627, 0.6780, 0.0593), np.float32)  # BT.2100's Y
_LEAST = 1e-6  # scene luminance below which HLG's system gamma is a constant gain
_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
_A, _B, _C = 0.17883277, 0.28466892, 0.55991073


def to_signal(rgb: Floats, colour: Colour) -> Floats:
    """R'G'B' of a PQ or HLG video to signals, 1 being diffuse white."""
    light = hlg_to_light(rgb) if colour.transfer == HLG else pq_to_light(rgb)
    light *= np.float32(1 / DIFFUSE_WHITE)
    return _power(_mixed(light, conversion(_known(colour.primaries), 1)), 1 / DISPLAY_GAMMA)


def from_signal(signal: Floats, colour: Colour) -> Floats:
    """Signals to R'G'B' of a PQ or HLG video; the inverse of `to_signal`."""
    light = _power(signal, DISPLAY_GAMMA)
    light *= np.float32(DIFFUSE_WHITE)
    light = _mixed(light, conversion(1, _known(colour.primaries)))
    return light_to_hlg(light) if colour.transfer == HLG else light_to_pq(light)


# -- PQ:  F = 10000 Y,  Y = (max(E'^(1/m2) - c1, 0) / (c2 - c3 E'^(1/m2)))^(1/m1)          BT.2100, table 4


def pq_to_light(coded: Floats) -> Floats:
    """PQ's EOTF: [0, 1] to cd/m2; above 1 a straight line."""
    size = np.abs(coded)
    root = np.power(np.minimum(size, 1), np.float32(1 / _M2))
    light = np.maximum(root - np.float32(_C1), 0)
    light /= np.float32(_C2) - np.float32(_C3) * root
    light = np.power(light, np.float32(1 / _M1), out=light)
    light += np.maximum(size - 1, 0)
    light *= np.float32(PQ_PEAK)
    return np.copysign(light, coded)


def light_to_pq(light: Floats) -> Floats:
    """The inverse of `pq_to_light`."""
    size = np.abs(light) * np.float32(1 / PQ_PEAK)
    root = np.power(np.minimum(size, 1), np.float32(_M1))
    coded = np.float32(_C1) + np.float32(_C2) * root
    coded /= 1 + np.float32(_C3) * root
    coded = np.power(coded, np.float32(_M2), out=coded)
    coded[root == 0] = 0  # where the formula leaves c1^m2, 7e-7
    coded += np.maximum(size - 1, 0)
    return np.copysign(coded, light)


# -- HLG:  E = E'^2 / 3 up to E' = 1/2, else (exp((E' - c) / a) + b) / 12;   F = 1000 Ys^0.2 E      BT.2100, table 5


def hlg_to_light(coded: Floats) -> Floats:
    """HLG's EOTF on a display of 1000 cd/m2: [0, 1] to cd/m2."""
    size = np.abs(coded)
    upper = (np.exp((np.maximum(size, 0.5) - np.float32(_C)) / np.float32(_A)) + np.float32(_B)) / np.float32(12)
    scene = np.copysign(np.where(size <= 0.5, size * size / np.float32(3), upper), coded)
    luminance = np.maximum(_luminance(scene), np.float32(_LEAST))
    scene *= (np.power(luminance, np.float32(0.2)) * np.float32(HLG_PEAK))[..., None]
    return scene


def light_to_hlg(light: Floats) -> Floats:
    """The inverse of `hlg_to_light`."""
    scene = light * np.float32(1 / HLG_PEAK)
    luminance = np.maximum(_luminance(scene), np.float32(_LEAST**1.2))
    scene *= np.power(luminance, np.float32(-0.2 / 1.2))[..., None]
    size = np.abs(scene)
    upper = np.float32(_A) * np.log(12 * np.maximum(size, np.float32(1 / 12)) - np.float32(_B)) + np.float32(_C)
    return np.copysign(np.where(size <= 1 / 12, np.sqrt(3 * size), upper), light)


# -- primaries


def conversion(source: int, target: int) -> Floats:
    """(3, 3): linear R, G, B under one code point's primaries to those under another."""
    matrix: Floats = np.linalg.solve(_to_xyz(target), _to_xyz(source)).astype(np.float32)
    return matrix


def _to_xyz(code: int) -> NDArray[np.float64]:
    """RGB to XYZ, white having a luminance of 1 (SMPTE RP 177)."""
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in (*PRIMARIES[code], _D65)]).T
    scale = np.linalg.solve(columns[:, :3], columns[:, 3])
    return np.asarray(columns[:, :3] * scale)


def _known(primaries: int) -> int:
    return primaries if primaries in PRIMARIES else _WIDE


def _luminance(rgb: Floats) -> Floats:
    total = rgb[..., 0] * _LUMA[0]
    total += rgb[..., 1] * _LUMA[1]
    total += rgb[..., 2] * _LUMA[2]
    return total


def _mixed(rgb: Floats, matrix: Floats) -> Floats:
    """`matrix` times every pixel, summed in one order always, as planes."""
    planes = np.empty((3, *rgb.shape[:2]), np.float32)
    for plane, row in zip(planes, matrix):
        np.multiply(rgb[..., 0], row[0], out=plane)
        plane += rgb[..., 1] * row[1]
        plane += rgb[..., 2] * row[2]
    return planes.transpose(1, 2, 0)


def _power(values: Floats, exponent: float) -> Floats:
    return np.copysign(np.power(np.abs(values), np.float32(exponent)), values)
