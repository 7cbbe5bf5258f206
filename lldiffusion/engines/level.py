"""The level on the host: the whole picture reduced to what the level graph sees, and the exposure that matches a mean.

The level (N, P, 8, 12) is a grid of log2 gain by brightness, row and column in its first 6 planes, and what else a
model says of the whole picture behind them (see `lldiffusion.model.level`, whose arithmetic this repeats in NumPy).
The graph makes it from the thumbnail, which is the only thing that looks at the whole picture.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lldiffusion.photometry import DISPLAY_GAMMA

from .backends.base import Floats

ROWS, COLUMNS = 64, 96  # of a thumbnail, whatever the picture's shape
BINS = 6  # planes of the level that are log2 gain; others say something else of the picture
LOG_TONE = 100.0  # strength a of the tone curve log(1 + a u) / log(1 + a)
SHOULDER = 0.6  # brightened values above bend towards twice this
FURTHEST = 30.0  # stops: the exposure that is searched lies within this, either way
HALVINGS = 40  # of that range


def thumbnail_of(planes: NDArray[Any]) -> Floats:
    """(N, C, H, W) -> (N, C, 64, 96): exact area averages of the whole picture, read row by row, once.

    Not by a product of matrices: NumPy's OpenBLAS wakes its threads for one of this size, and they then spin for some
    25 ms beside the engine's, which made two threads slower than one.
    """
    rows = _averaged(planes, ROWS)
    return np.ascontiguousarray(_averaged(rows.swapaxes(2, 3), COLUMNS).swapaxes(2, 3))


def _averaged(values: NDArray[Any], parts: int) -> Floats:
    """(N, C, size, M) -> (N, C, parts, M): means of equal parts of the third axis."""
    means = np.empty((*values.shape[:2], parts, values.shape[3]), np.float32)
    for part, (first, shares) in enumerate(_bands(values.shape[2], parts)):
        means[:, :, part] = _weighted(values[:, :, first : first + len(shares)], shares)
    return means


def _weighted(band: NDArray[Any], shares: Floats) -> Floats:
    """(N, C, n, M) -> (N, C, M): each times its share, which differ at both ends only."""
    total: Floats = band[:, :, 0] * shares[0]
    if len(shares) > 1:
        total += band[:, :, -1] * shares[-1]
    if len(shares) > 2:
        total += np.add.reduce(band[:, :, 1:-1], axis=2, dtype=np.float32) * shares[1]
    return total


def reduce_picture(picture: NDArray[Any]) -> Floats:
    """(H, W, 3) uint8 or float -> (64, 96, 3) float32 in the same range: the thumbnail of one picture's pixels."""
    return thumbnail_of(picture.transpose(2, 0, 1)[None])[0].transpose(1, 2, 0)


@lru_cache(maxsize=16)
def _bands(size: int, parts: int) -> list[tuple[int, Floats]]:
    """(the first, the share of each) of `size` pixels behind each of `parts` equal parts."""
    found = []
    for shares in area_shares(size, parts):
        used = np.flatnonzero(shares)
        found.append((int(used[0]), shares[used[0] : used[-1] + 1]))
    return found


@lru_cache(maxsize=16)
def area_shares(size: int, parts: int) -> Floats:
    """(parts, size): how much each of `size` pixels adds to the mean of each of `parts` equal parts; rows sum to 1."""
    edges = np.linspace(0, size, parts + 1)
    pixel = np.arange(size)[None]
    inside = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return (np.clip(inside, 0, None) * (parts / size)).astype(np.float32)


def lifted(level: Floats, by: float) -> Floats:
    """The level with this much more log2 gain everywhere."""
    moved = level.copy()
    moved[:, :BINS] += np.float32(by)
    return moved


def exposure_for(mean: float, thumbnail: Floats, level: Floats) -> float:
    """The exposure in stops at which the brightened thumbnail (1, 3, 64, 96) has this mean sRGB value, by bisection.

    The mean rises with the exposure; what black or white pixels cannot reach ends 30 stops away.
    """
    lit = np.clip((thumbnail + 1) / 2, 0, 1)
    lit = lit * np.exp2(_log_gain(_log_tone(lit.mean(axis=1)), level))
    return _bisect(lambda stops: float(_shoulder(lit * 2.0 ** (stops / DISPLAY_GAMMA)).mean()) < mean)


def _bisect(too_dark: Callable[[float], bool]) -> float:
    low, high = -FURTHEST, FURTHEST
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if too_dark(middle) else (low, middle)
    return (low + high) / 2


def _log_tone(u: Floats) -> Floats:
    return np.log1p(LOG_TONE * u) / np.log1p(LOG_TONE)


def _shoulder(x: Floats) -> Floats:
    over = np.maximum(x - SHOULDER, 0)
    return np.minimum(x, SHOULDER) + SHOULDER * (1 - np.exp(-over / SHOULDER))


def _log_gain(grey: Floats, level: Floats) -> Floats:
    """(N, 1, H, W): the level at each pixel's place in the whole picture, by its brightness `grey` (N, H, W)."""
    bins, rows, columns = BINS, *level.shape[2:]
    maps = _hats(grey.shape[1], rows) @ level[:, :BINS] @ _hats(grey.shape[2], columns).T  # (N, 6, H, W)
    distance = np.abs(grey[:, None] * (bins - 1) - np.arange(bins)[:, None, None])
    return (np.clip(1 - distance, 0, None) * maps).sum(axis=1, keepdims=True)


def _hats(size: int, cells: int) -> NDArray[np.float64]:
    """(size, cells): how much of each grid cell each pixel of a whole side takes, linearly between cell centres."""
    at = np.clip((np.arange(size) + 0.5) / size * cells - 0.5, 0, cells - 1)
    return np.clip(1 - np.abs(at[:, None] - np.arange(cells)), 0, None)
