"""A picture's own colours to sRGB, for the model, and back to its own profile, in float.

    linear = curve(numbers);  sRGB = encode(to_linear_srgb @ linear)           the way in
    numbers = curve^-1(to_linear_srgb^-1 @ decode(sRGB)), clipped to [0, 1]    the way back

Colours that sRGB cannot show are clipped for the model; what was cut off is kept aside (`Beyond`) in linear light and
added again on the way back, in proportion to the chroma that the pixel has by then: a picture that was not changed
comes back as it was, a pixel that became grey stays grey.  Matrix profiles are computed here; those of look-up tables
by LittleCMS in libvips, through Lab with relative colorimetric intent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .icc import D50, SRGB_TO_XYZ, Curve, Shaper, shaper_of, space_of, tags_of
from .libvips import libvips

Floats = NDArray[np.float32]
STRIP = 1 << 20  # pixels converted at a time
OUTSIDE = 1e-7  # linear light beyond [0, 1] that is kept aside
LEAST_CHROMA, MOST_GAIN = 1e-3, 64.0  # of linear light; how far chroma may have grown


@dataclass(frozen=True)
class Beyond:
    """The part of a picture's colours outside sRGB, for the pixels that have one."""

    shape: tuple[int, int]  # of the picture
    places: NDArray[np.int64]  # (N,) of the pixels, row after row
    excess: Floats  # (N, 3) linear light, negative or above
    chroma: Floats  # (N,) of the clipped pixel: its largest linear channel less its smallest


def profile_problem(icc: bytes, grey: bool) -> str | None:
    """Why a profile cannot be used for a picture; None when it can."""
    try:
        tags_of(icc)
        shaper_of(icc)
    except ValueError as error:
        return str(error)
    wanted = "GRAY" if grey else "RGB"
    return None if space_of(icc) == wanted else f"a profile for {space_of(icc)}, not {wanted}"


def is_srgb(icc: bytes | None) -> bool:
    """Whether numbers under this profile are taken as sRGB: no profile, or one that means the same."""
    shaper = shaper_of(icc) if icc is not None else None
    return icc is None or (shaper is not None and shaper.is_srgb())


def can_go_back(icc: bytes) -> bool:
    """Whether a profile says how to get from colours to its numbers (scanner profiles of look-up tables do not)."""
    return shaper_of(icc) is not None or bool({"B2A0", "B2A1"} & tags_of(icc).keys())


def to_srgb(numbers: Floats, icc: bytes) -> tuple[Floats, Beyond | None]:
    """(H, W, 3 or 1) in [0, 1] under a profile to sRGB in [0, 1], and what lies outside sRGB."""
    shaper, pixels, outside = shaper_of(icc), np.empty_like(numbers), []
    for rows in _strips(numbers):
        linear = _shaped(numbers[rows], shaper) if shaper else _tables_to_linear(numbers[rows], icc)
        inside = np.clip(linear, 0, 1)
        pixels[rows] = Curve().encode(inside)
        outside.append(_outside(linear, inside, rows.start * numbers.shape[1]))
    places, excess, chroma = (np.concatenate(parts) for parts in zip(*outside))
    some = places.size and numbers.shape[2] == 3
    return pixels, Beyond((numbers.shape[0], numbers.shape[1]), places, excess, chroma) if some else None


def from_srgb(pixels: Floats, icc: bytes, beyond: Beyond | None = None) -> Floats:
    """sRGB (H, W, 3 or 1) in [0, 1] to numbers under a profile, with the colours outside sRGB back in place."""
    shaper, numbers, width = shaper_of(icc), np.empty_like(pixels), pixels.shape[1]
    for rows in _strips(pixels):
        linear = Curve().decode(np.clip(pixels[rows], 0, 1))
        if beyond is not None and beyond.shape == pixels.shape[:2] and pixels.shape[2] == 3:
            _put_back(linear.reshape(-1, 3), beyond, rows.start * width)
        numbers[rows] = _unshaped(linear, shaper) if shaper else _linear_to_tables(linear, icc)
    return numbers


def _strips(pixels: Floats) -> Iterator[slice]:
    """Rows of about a million pixels, so that memory does not grow with the picture."""
    rows = max(STRIP // pixels.shape[1], 1)
    for start in range(0, pixels.shape[0], rows):
        yield slice(start, min(start + rows, pixels.shape[0]))


def _outside(linear: Floats, inside: Floats, first: int) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Places, excess and chroma, as in `Beyond`, of a strip that begins at the place `first`."""
    excess = (linear - inside).reshape(-1, linear.shape[2])
    places = np.flatnonzero(np.abs(excess).max(1) > OUTSIDE)
    kept = inside.reshape(-1, linear.shape[2])[places]
    return places + first, excess[places], kept.max(1) - kept.min(1)


def _put_back(flat: Floats, beyond: Beyond, first: int) -> None:
    """Add to (N, 3) linear light, in place, what was outside sRGB, as much as the chroma has grown."""
    begin, end = np.searchsorted(beyond.places, (first, first + len(flat)))
    places, excess, was = beyond.places[begin:end] - first, beyond.excess[begin:end], beyond.chroma[begin:end]
    now = flat[places]
    grown = np.clip((now.max(1) - now.min(1)) / np.maximum(was, LEAST_CHROMA), 0, MOST_GAIN)
    flat[places] = now + excess * np.where(was < LEAST_CHROMA, 1, grown)[:, None]


def _unshaped(linear: Floats, shaper: Shaper) -> Floats:
    if linear.shape[2] == 3:
        linear = _matrix(linear, np.linalg.solve(np.array(shaper.to_xyz), np.array(SRGB_TO_XYZ)))
    return np.dstack([shaper.curves[i].encode(linear[..., i]) for i in range(linear.shape[2])])


def _shaped(numbers: Floats, shaper: Shaper) -> Floats:
    linear = np.dstack([shaper.curves[i].decode(numbers[..., i]) for i in range(numbers.shape[2])])
    if linear.shape[2] == 1:
        return linear
    return _matrix(linear, np.linalg.solve(np.array(SRGB_TO_XYZ), np.array(shaper.to_xyz)))


def _matrix(pixels: Floats, matrix: Any) -> Floats:
    result: Floats = pixels @ np.asarray(matrix, np.float32).T
    return result


def _tables_to_linear(numbers: Floats, icc: bytes) -> Floats:
    values = np.floor(np.clip(numbers, 0, 1) * 65535 + 0.5).astype(np.uint16)
    lab = _vips(values, "ushort", "rgb16" if values.shape[2] == 3 else "grey16", icc)
    lab = lab.icc_import(embedded=True, intent="relative", pcs="lab").cast("float").numpy()
    linear = _matrix(_lab_to_xyz(lab), np.linalg.inv(np.array(SRGB_TO_XYZ)))
    return linear if values.shape[2] == 3 else np.ascontiguousarray(linear[..., 1:2])


def _linear_to_tables(linear: Floats, icc: bytes) -> Floats:
    bands = linear.shape[2]
    xyz = _matrix(np.broadcast_to(linear, (*linear.shape[:2], 3)), SRGB_TO_XYZ)
    lab = _vips(_xyz_to_lab(xyz), "float", "lab", icc)
    numbers = np.atleast_3d(lab.icc_export(intent="relative", pcs="lab", depth=16).numpy())[..., :bands]
    return np.ascontiguousarray(numbers, np.float32) / np.float32(65535)


def _vips(values: NDArray[Any], kind: str, space: str, icc: bytes) -> Any:
    height, width, bands = values.shape
    image = libvips().Image.new_from_memory(np.ascontiguousarray(values).tobytes(), width, height, bands, kind)
    image = image.copy(interpretation=space)
    image.set_type(libvips().GValue.blob_type, "icc-profile-data", icc)
    return image


# CIE 15:2004, section 8.2.1
def _lab_to_xyz(lab: Floats) -> Floats:
    fy = (lab[..., 0] + 16) / 116
    f = np.stack([fy + lab[..., 1] / 500, fy, fy - lab[..., 2] / 200], axis=2)
    return (np.where(f > 6 / 29, f**3, (f - 4 / 29) * 3 * (6 / 29) ** 2) * np.array(D50)).astype(np.float32)


def _xyz_to_lab(xyz: Floats) -> Floats:
    t = xyz / np.array(D50, np.float32)
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    lab = [116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])]
    return np.stack(lab, axis=2).astype(np.float32)
