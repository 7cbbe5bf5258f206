"""The whole picture, reduced: what the level head sees, always 64 rows and 96 columns, by exact area averages."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]
THUMBNAIL = (64, 96)  # rows and columns, whatever the picture's shape


def reduce_picture(picture: NDArray[Any]) -> Pixels:
    """(H, W, 3) uint8 or float32 -> (64, 96, 3) float32 in the same range: each value the mean of its part."""
    height, width, _ = picture.shape
    rows = _shares(height, THUMBNAIL[0]) @ picture.reshape(height, -1).astype(np.float32)  # (64, W * 3)
    return np.einsum("cw,rwk->rck", _shares(width, THUMBNAIL[1]), rows.reshape(-1, width, 3), optimize=True)


@lru_cache(maxsize=64)
def _shares(size: int, parts: int) -> Pixels:
    """(parts, size): how much of each pixel belongs to each of `parts` equal parts; rows sum to 1."""
    edges = np.linspace(0, size, parts + 1)
    start, end = edges[:-1, None], edges[1:, None]
    pixel = np.arange(size)[None]
    inside = np.minimum(end, pixel + 1) - np.maximum(start, pixel)
    return (np.clip(inside, 0, None) * (parts / size)).astype(np.float32)
