"""Subsampled chroma brought to the picture's size, and back, so that there and back is the identity.

To the picture's size by a straight line inside each sample whose mean is the sample itself, back by averaging.  Where
the samples sit between the pixels does not matter for that, and is handed on as it was tagged.  (libswscale takes a
quarter of the time, but interpolates between neighbours: there and back it blurs.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]  # (height, width)


def chroma_rows(
    pair: tuple[NDArray[Any], ...], rows: slice, size: tuple[int, int], scales: tuple[float, float], middle: float
) -> NDArray[np.float32]:
    """(code - middle) * scale of both chroma planes at the size of the picture, for some of its rows: (2, rows, width).

    Args:
        pair: codes of the two planes, of any subsampling.
        rows: of the picture; their start is a multiple of the subsampling.
        size: height and width of the picture.
        scales: one for each plane.
    """
    tall, wide = (-(-whole // part) for whole, part in zip(size, pair[0].shape, strict=True))
    first, last = rows.start // tall, -(-rows.stop // tall)
    top, end = (max(first - 1, 0), last + 1) if tall == 2 else (first, last)  # a line beside them says how steep it is
    values = np.empty((2, *pair[0][top:end].shape), np.float32)
    for plane, codes, scale in zip(values, pair, scales, strict=True):
        np.multiply(codes[top:end], np.float32(scale), out=plane)
        plane -= np.float32(middle * scale)
    if tall == 2:
        values = _doubled(values, 1)[:, 2 * (first - top) : 2 * (last - top)]
    elif tall > 2:
        values = np.repeat(values, tall, 1)
    if wide == 2:
        values = _doubled(values, 2)
    elif wide > 2:
        values = np.repeat(values, wide, 2)
    return values[:, : rows.stop - rows.start, : size[1]]


def _doubled(values: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Twice the rows (axis 1) or columns (2) of (2, rows, columns): s -> (s - d, s + d).

    d is a quarter of the smaller step to a neighbour, 0 at an extremum and at the edges.  Steps are taken along the
    whole memory, which is quicker than line by line; those across an edge are put right afterwards.
    """
    across = values.shape[2] if axis == 1 else 1  # places from a sample to its neighbour
    slope, flat = np.empty_like(values), values.reshape(-1)
    step = flat[across:] - flat[:-across]
    step *= np.float32(0.25)
    before, after = step[:-across], step[across:]
    inner = slope.reshape(-1)[across:-across]
    np.minimum(before, np.maximum(after, 0), out=inner)  # "minmod"
    np.maximum(inner, np.minimum(after, 0), out=inner)
    edges = slope.swapaxes(1, axis)
    edges[:, 0] = edges[:, -1] = 0
    _, rows, columns = values.shape
    doubled = np.empty((2, rows, 2, columns) if axis == 1 else (2, rows, columns, 2), np.float32)
    pairs = doubled if axis == 1 else doubled.swapaxes(2, 3)
    if axis == 1:
        np.subtract(values, slope, out=pairs[:, :, 0])
        np.add(values, slope, out=pairs[:, :, 1])
    else:  # every other place: copying there is quicker than computing there
        pairs[:, :, 0] = values - slope
        pairs[:, :, 1] = np.add(values, slope, out=slope)
    return doubled.reshape(2, rows * 2, columns) if axis == 1 else doubled.reshape(2, rows, columns * 2)


def shrink(plane: Plane, size: tuple[int, int]) -> Plane:
    """The mean over each chroma sample's pixels; a last odd line or column counts as repeated."""
    factors = [-(-have // want) for have, want in zip(plane.shape, size, strict=True)]
    pads = [(0, want * factor - have) for have, want, factor in zip(plane.shape, size, factors, strict=True)]
    if any(after for _, after in pads):
        plane = np.pad(plane, pads, mode="edge")
    down, across = factors
    rows = sum((plane[i::down] for i in range(1, down)), plane[0::down])
    total = sum((rows[:, i::across] for i in range(1, across)), rows[:, 0::across])
    return total * np.float32(1 / (down * across))
