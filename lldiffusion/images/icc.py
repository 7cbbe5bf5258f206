"""ICC profiles that are a matrix and curves: taken apart, recognised as sRGB, and made.

Source: ICC.1:2022 (https://www.color.org/specification/ICC.1-2022-05.pdf), sections 7.2 (header), 7.3 (tag table),
10.6 (curveType), 10.18 (parametricCurveType); the matrix model is its annex F.3.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Matrix = tuple[tuple[float, float, float], ...]
Point = tuple[float, float]  # CIE 1931 x, y

D50 = (0.9642, 1.0, 0.8249)  # XYZ of the profile connection space's white
# Linear sRGB to XYZ under D50 (Bradford), as in every sRGB profile.
SRGB_TO_XYZ: Matrix = (
    (0.4360747, 0.3850649, 0.1430804),
    (0.2225045, 0.7168786, 0.0606169),
    (0.0139322, 0.0971045, 0.7141733),
)
# Parameters g, a, b, c, d, e, f: y = (a x + b)^g + e from d on, c x + f below.
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045, 0.0, 0.0)
ENDS, MOST_LIGHT = np.array((0, 1), np.float32), 2.0  # of a curve
MOST_CONDITION = 1e4  # of a matrix that can be undone; sRGB's is 4
ALIKE_MATRIX, ALIKE_CURVE = 0.004, 1.5 / 255  # how far a profile may be from sRGB and count as sRGB


@dataclass(frozen=True)
class Curve:
    """From a channel's number in [0, 1] to linear light in [0, 1]: by parameters, or by `samples` at even distances."""

    parameters: tuple[float, ...] = SRGB_CURVE
    samples: tuple[float, ...] = ()

    def decode(self, x: Floats) -> Floats:
        """Numbers to linear light, any shape."""
        if self.samples:
            return np.interp(x, np.linspace(0, 1, len(self.samples)), self.samples).astype(np.float32)
        g, a, b, c, d, e, f = self.parameters
        upper = np.maximum(a * x + b, 0) ** np.float32(g) + e
        return np.where(x >= d, upper, c * x + f).astype(np.float32) if d > 0 else upper.astype(np.float32)

    def encode(self, y: Floats) -> Floats:
        """Linear light to numbers, clipped to [0, 1]; any shape."""
        y = np.clip(y, 0, 1)
        if self.samples:
            rising = np.maximum.accumulate(np.array(self.samples))
            return np.interp(y, rising, np.linspace(0, 1, len(rising))).astype(np.float32)
        g, a, b, c, d, e, f = self.parameters
        upper = (np.maximum(y - e, 0) ** np.float32(1 / g) - b) / a
        lower = (y - f) / c if c else np.zeros_like(y)
        split = max(a * d + b, 0.0) ** g + e
        return np.clip(np.where(y >= split, upper, lower) if d > 0 else upper, 0, 1).astype(np.float32)


@dataclass(frozen=True)
class Shaper:
    """A matrix profile: a curve for each channel (one for grey), then a matrix to XYZ under D50."""

    curves: tuple[Curve, ...]
    to_xyz: Matrix

    def is_srgb(self) -> bool:
        """Whether its numbers mean what sRGB's do, to about one step of 8 bits."""
        x = np.linspace(0, 1, 256, dtype=np.float32)
        near = all(np.abs(Curve().encode(curve.decode(x)) - x).max() < ALIKE_CURVE for curve in self.curves)
        return near and float(np.abs(np.subtract(self.to_xyz, SRGB_TO_XYZ)).max()) < ALIKE_MATRIX


def tags_of(icc: bytes) -> dict[str, bytes]:
    """The tags of a profile by their signature; ValueError when it is none, or cut short."""
    if len(icc) < 132 or icc[36:40] != b"acsp":
        raise ValueError("no ICC profile")
    count = struct.unpack_from(">I", icc, 128)[0]
    if 132 + 12 * count > len(icc):
        raise ValueError("the profile's table of tags is cut short")
    tags = {}
    for i in range(count):
        name, start, size = struct.unpack_from(">4sII", icc, 132 + 12 * i)
        if start + size > len(icc):
            raise ValueError("a tag of the profile is cut short")
        tags[name.decode("latin-1")] = icc[start : start + size]
    return tags


def space_of(icc: bytes) -> str:
    """The profile's colour space: "RGB", "GRAY", "CMYK" and the like; "" when it is no profile."""
    return icc[16:20].decode("latin-1").strip() if icc[36:40] == b"acsp" else ""


@lru_cache(16)
def shaper_of(icc: bytes) -> Shaper | None:
    """The matrix and curves of an RGB or grey profile; None for one of look-up tables; ValueError when damaged."""
    tags = tags_of(icc)
    if "A2B0" in tags or "A2B1" in tags:
        return None
    try:
        if space_of(icc) == "GRAY":
            return Shaper((_curve(tags["kTRC"]),), SRGB_TO_XYZ)
        to_xyz: Matrix = tuple(zip(*(_xyz(tags[name]) for name in ("rXYZ", "gXYZ", "bXYZ"))))
        if not np.linalg.cond(np.array(to_xyz)) < MOST_CONDITION:
            raise ValueError("the profile's primaries span no colours")
        return Shaper(tuple(_curve(tags[name]) for name in ("rTRC", "gTRC", "bTRC")), to_xyz)
    except (KeyError, struct.error) as error:
        raise ValueError(f"the profile lacks {error}") from error


def _xyz(tag: bytes) -> tuple[float, float, float]:
    x, y, z = struct.unpack_from(">3i", tag, 8)
    return x / 65536, y / 65536, z / 65536


def _curve(tag: bytes) -> Curve:
    if tag[:4] == b"para":
        kind, *_ = struct.unpack_from(">H", tag, 8)
        if kind > 4:
            raise ValueError(f"unknown kind of curve {kind}")
        given = [value / 65536 for value in struct.unpack_from(f">{(1, 3, 4, 5, 7)[kind]}i", tag, 12)]
        curve = Curve(_seven(kind, given)) if given[0] > 0 and (kind == 0 or given[1] > 0) else None
        if curve is None or not 0 <= curve.decode(ENDS)[0] < curve.decode(ENDS)[1] < MOST_LIGHT:
            raise ValueError("a curve of the profile falls, or leaves [0, 1]")
        return curve
    count = struct.unpack_from(">I", tag, 8)[0]
    if count == 0:
        return power(1.0)
    values = struct.unpack_from(f">{count}H", tag, 12)
    if count == 1:
        return power(values[0] / 256) if values[0] else power(1.0)
    if values[0] >= values[-1]:
        raise ValueError("a curve of the profile falls")
    return Curve(samples=tuple(value / 65535 for value in values))


def _seven(kind: int, p: list[float]) -> tuple[float, ...]:
    """The parameters of table 68, in the form of kind 4."""
    if kind == 0:
        return (p[0], 1.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    if kind in (1, 2):  # zero, or the constant, left of -b/a
        rest = p[3] if kind == 2 else 0.0
        return (p[0], p[1], p[2], 0.0, -p[2] / p[1], rest, rest)
    return (*p, 0.0, 0.0) if kind == 3 else tuple(p)


def power(gamma: float) -> Curve:
    """y = x^gamma."""
    return Curve((gamma, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0))


def make_profile(red: Point, green: Point, blue: Point, white: Point, curve: Curve, name: str) -> bytes:
    """An ICC profile (version 4) of those primaries, its white adapted to D50 by the Bradford matrix.

    `curve` has parameters.  ValueError for primaries that span no colours.
    """
    parameters = struct.pack(">4s4xH2x7i", b"para", 4, *(round(value * 65536) for value in curve.parameters))
    columns = [
        struct.pack(">4s4x3i", b"XYZ ", *(round(v * 65536) for v in c)) for c in _columns(red, green, blue, white)
    ]
    text = struct.pack(">4s4xII2s2sII", b"mluc", 1, 12, b"en", b"US", 2 * len(name), 28) + name.encode("utf-16-be")
    media = struct.pack(">4s4x3i", b"XYZ ", *(round(v * 65536) for v in D50))
    tags = [("desc", text), ("cprt", text), ("wtpt", media)]
    tags += list(zip(("rXYZ", "gXYZ", "bXYZ"), columns)) + [(f"{c}TRC", parameters) for c in "rgb"]
    table, body, start = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for signature, data in tags:
        table += struct.pack(">4sII", signature.encode(), start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    illuminant = struct.pack(">3i", *(round(v * 65536) for v in D50))
    head = struct.pack(">I4x4B4s4s4s12x4s28x", start + len(body), 4, 0x30, 0, 0, b"mntr", b"RGB ", b"XYZ ", b"acsp")
    return (head + illuminant).ljust(128, b"\0") + table + body


# Bradford: http://www.brucelindbloom.com/index.html?Eqn_ChromAdapt.html
BRADFORD = np.array(((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296)))


def _columns(red: Point, green: Point, blue: Point, white: Point) -> NDArray[np.float64]:
    """XYZ under D50 of the three primaries, one a row."""
    if min(red[1], green[1], blue[1], white[1]) <= 0:
        raise ValueError("primaries without luminance")
    points = np.array([(x / y, 1.0, (1 - x - y) / y) for x, y in (red, green, blue, white)])
    primaries, adapted = points[:3].T, points[3]
    if abs(np.linalg.det(primaries)) < 1e-6:
        raise ValueError("primaries on one line")
    primaries = primaries * np.linalg.solve(primaries, adapted)
    gain = (BRADFORD @ np.array(D50)) / (BRADFORD @ adapted)
    result: NDArray[np.float64] = (np.linalg.inv(BRADFORD) @ np.diag(gain) @ BRADFORD @ primaries).T
    return result
