"""Images too large for memory: overlapped tiles, blended at every step, lit by the whole image.

A network of convolutions alone hardly sees further than MARGIN: each tile computes features of its own, its outer
MARGIN counts nothing, and tiled equals whole to 4/255 anywhere (`python -m benchmarks.tiles`): `tiny`, in 8 bits, in
tiles of any size; `tiny-lol`, which looks further, in tiles of 512 and more.  In tiles of 256, whose margins are 48,
single pixels of it are off by 11/255.  What a network with norms or attention says of a tile depends on all of the
tile: such a model's features are computed once from the whole image, scaled down, and cut for each tile, so that all
tiles agree about exposure.  The level, where the model has one, is the whole image's for every tile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from .backends.base import Conditions, Engine, Floats, Progress
from .pixels import of_shape, reflected
from .sampler import Step

Features = tuple[tuple[Floats, int], ...]  # E(y) on the host, coarse to fine, each with its stride in pixels
MARGIN = 80  # pixels along a tile's inner sides that count nothing: they saw the padding beyond
BLEND = 48  # pixels over which neighbouring tiles fade into each other
OVERLAP = BLEND + 2 * MARGIN  # pixels shared by neighbouring tiles, at least


@dataclass(frozen=True)
class Window:
    """A tile's place: rows top..top+height, columns left..left+width."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice, slice, slice]:
        """Index into (N, C, H, W)."""
        rows, columns = slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)
        return slice(None), slice(None), rows, columns

    def share(self, height: int, width: int) -> Floats:
        """(1, 4): top, left, bottom and right as fractions of a picture of this size."""
        bottom, right = self.top + self.height, self.left + self.width
        return np.array([[self.top / height, self.left / width, bottom / height, right / width]], np.float32)


@dataclass(frozen=True, eq=False)
class Tile:
    """A window and its blending weights: over all tiles they add up to 1 at every pixel."""

    window: Window
    rows: Floats  # (H,)
    columns: Floats  # (W,)

    @property
    def weights(self) -> Floats:
        """(H, W)."""
        return (self.rows[:, None] * self.columns).astype(np.float32)


def grid(height: int, width: int, side: int, multiple: int) -> list[Tile]:
    """Tiles of one size, at most `side`, that cover every pixel; sides and places are multiples of `multiple`."""
    rows, columns = _starts(height, side, multiple), _starts(width, side, multiple)
    tall, wide = height - rows[-1], width - columns[-1]
    return [
        Tile(Window(top, left, tall, wide), vertical, horizontal)
        for top, vertical in zip(rows, _weights(rows, tall, height), strict=True)
        for left, horizontal in zip(columns, _weights(columns, wide, width), strict=True)
    ]


def count(height: int, width: int, side: int, multiple: int) -> int:
    """The number of tiles of `grid`."""
    return len(_starts(height, side, multiple)) * len(_starts(width, side, multiple))


def _starts(length: int, side: int, multiple: int) -> list[int]:
    """Places of as few tiles as cover the length, evenly; neighbours share OVERLAP, or 5/8 of a tile if less."""
    if length <= side:
        return [0]
    overlap = min(OVERLAP, side * 5 // 8 // multiple * multiple)
    number = -(-(length - overlap) // (side - overlap))
    shorter = -(-(length + (number - 1) * overlap) // (number * multiple)) * multiple  # as long as so many must be
    units = (length - shorter) // multiple
    return [i * units // (number - 1) * multiple for i in range(number)]


def _weights(starts: list[int], size: int, length: int) -> list[Floats]:
    """The weights (size,) of each tile of an axis: 0 in the margin, rising over the blend, 1 in sum at every pixel."""
    overlap = min((before + size - after for before, after in pairwise(starts)), default=0)
    margin = max(min(MARGIN, max(overlap // 4, (overlap - BLEND) // 2)), 0)
    blend = max(min(BLEND, overlap - 2 * margin), 1)
    slope = np.clip((np.arange(size) + 0.5 - margin) / blend, 0, 1)
    ramps = [np.where(start > 0, slope, 1) * np.where(start + size < length, slope[::-1], 1) for start in starts]
    total = np.zeros(length)
    for start, ramp in zip(starts, ramps, strict=True):
        total[start : start + size] += ramp
    pairs = zip(starts, ramps, strict=True)
    return [(ramp / total[start : start + size]).astype(np.float32) for start, ramp in pairs]


def sample_tiled(
    engine: Engine,
    tiles: list[Tile],
    conditions_of: Callable[[Window], Conditions],
    steps: tuple[Step, ...],
    noise: Floats,
    progress: Progress | None = None,
) -> Floats:
    """What `Engine.sample` gives of noise (N, 3, H, W), holding only one tile's activations at a time.

    `conditions_of` is asked for every tile at every step: conditions of all tiles together would not fit memory.
    """
    x, previous = noise, None
    for number, step in enumerate(steps, start=1):
        x_sum = np.zeros_like(noise)
        x0_sum = np.zeros_like(noise) if number < len(steps) else None  # the last x0 is asked for by nobody
        for tile in tiles:
            part = tile_of(x, tile.window)
            before = np.zeros_like(part) if previous is None else tile_of(previous, tile.window)
            x_next, x0 = engine.step(part, conditions_of(tile.window), step, before)
            x_sum[tile.window.slices] += tile.weights * of_shape(engine.numpy(x_next), part.shape)
            if x0_sum is not None:
                x0_sum[tile.window.slices] += tile.weights * of_shape(engine.numpy(x0), part.shape)
            if progress is not None:
                progress()
        x, previous = x_sum, x0_sum
    return x


def tile_of(planes: Floats, window: Window) -> Floats:
    """The window's part of (N, C, H, W), contiguous; beyond the right and bottom sides it is the reflection.

    So planes need not be padded as a whole: the part is that of `pixels.pad_to_multiple`'s result.
    """
    height, width = planes.shape[2:]
    if window.top + window.height <= height and window.left + window.width <= width:
        return np.ascontiguousarray(planes[window.slices])
    rows, columns = reflected(window.top, window.height, height), reflected(window.left, window.width, width)
    return np.ascontiguousarray(planes[:, :, rows[:, None], columns])


def whole_features(engine: Engine, low: Floats, side: int, multiple: int) -> Features:
    """E(y) of the whole image, averaged down to at most one tile's area: (feature, its stride) coarse to fine."""
    shrink = max(1.0, (low.shape[2] * low.shape[3] / side**2) ** 0.5)
    height, width = (max(int(size / shrink) // multiple, 2) * multiple for size in low.shape[2:])
    small = resize(low, np.linspace(0, low.shape[2], height + 1), np.linspace(0, low.shape[3], width + 1))
    features = [engine.numpy(f) for f in engine.encode(small)]
    return tuple((f, height // f.shape[2]) for f in features)


def resize(planes: Floats, rows: NDArray[np.float64], columns: NDArray[np.float64]) -> Floats:
    """Average (N, C, H, W) over the cells between neighbouring row and column edges (area resampling)."""
    for axis, edges in ((2, rows), (3, columns)):
        planes = np.moveaxis(_average(np.moveaxis(planes, axis, -1), edges), -1, axis)
    return np.ascontiguousarray(planes, dtype=np.float32)


def _average(values: Floats, edges: NDArray[np.float64]) -> Floats:
    integral = np.concatenate([np.zeros_like(values[..., :1]), values], axis=-1).cumsum(axis=-1, dtype=np.float64)
    whole = np.minimum(edges.astype(int), values.shape[-1] - 1)
    at = integral[..., whole] + (edges - whole) * values[..., whole]
    return np.diff(at, axis=-1) / np.diff(edges)


def features_at(features: Features, whole: tuple[int, ...], window: Window) -> tuple[Floats, ...]:
    """Features of the whole image (H, W) at the window, bilinearly, with the sizes that E would give them there."""
    return tuple(_place(feature, stride, whole, window) for feature, stride in features)


def _place(feature: Floats, stride: int, whole: tuple[int, ...], window: Window) -> Floats:
    rows = _positions(window.top, window.height, stride, whole[0], feature.shape[2])
    columns = _positions(window.left, window.width, stride, whole[1], feature.shape[3])
    return np.ascontiguousarray(_bilinear(_bilinear(feature, rows, 2), columns, 3), dtype=np.float32)


def _positions(start: int, length: int, stride: int, whole: int, cells: int) -> NDArray[np.float64]:
    """Fractional indices of a window's feature cells among the `cells` of the whole image."""
    centres = start + (np.arange(length // stride) + 0.5) * stride
    return np.clip(centres * cells / whole - 0.5, 0, cells - 1)


def _bilinear(planes: Floats, positions: NDArray[np.float64], axis: int) -> Floats:
    below = np.minimum(positions.astype(int), planes.shape[axis] - 2)
    shape = [1] * 4
    shape[axis] = -1
    share = (positions - below).astype(np.float32).reshape(shape)
    return planes.take(below, axis) * (1 - share) + planes.take(below + 1, axis) * share
