"""Images too large for memory: overlapped tiles, blended at every step, lit by the whole image.

Degradation features are computed once from the whole image, scaled down, and cut for each tile, so that all tiles
agree about exposure; predictions are blended at every step, so that they agree where they meet.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .backends.base import Conditions, Engine, Floats, Progress
from .sampler import Step

Features = tuple[tuple[Floats, int], ...]  # E(y) on the host, coarse to fine, each with its stride in pixels
OVERLAP = 64  # pixels shared by neighbouring tiles, at least


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
        return (slice(None), slice(None), *self.rows_columns)

    @property
    def rows_columns(self) -> tuple[slice, slice]:
        """Index into (H, W)."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def grid(height: int, width: int, side: int, multiple: int) -> list[Window]:
    """Windows of at most `side` that cover every pixel; sides and places are multiples of `multiple`."""
    rows, columns = _starts(height, side, multiple), _starts(width, side, multiple)
    tall, wide = min(side, height), min(side, width)
    return [Window(top, left, tall, wide) for top in rows for left in columns]


def _starts(length: int, side: int, multiple: int) -> list[int]:
    if length <= side:
        return [0]
    count = -(-(length - OVERLAP) // (side - OVERLAP))  # as few as cover it
    places = np.linspace(0, length - side, count) / multiple
    return [int(place) * multiple for place in np.floor(places[:-1])] + [length - side]


def ramp(window: Window, height: int, width: int) -> Floats:
    """Blending weights (h, w) of a window: rising over the overlap from every side that is not the image's edge."""
    rows = _rise(window.height, window.top > 0, window.top + window.height < height)
    columns = _rise(window.width, window.left > 0, window.left + window.width < width)
    return (rows[:, None] * columns[None, :]).astype(np.float32)


def _rise(length: int, before: bool, after: bool) -> NDArray[np.float64]:
    slope = np.minimum((np.arange(length) + 0.5) / OVERLAP, 1)
    return np.where(before, slope, 1) * np.where(after, slope[::-1], 1)


def sample_tiled(
    engine: Engine,
    low: Floats,
    steps: tuple[Step, ...],
    noise: Floats,
    side: int,
    multiple: int,
    progress: Progress | None = None,
    features: Features | None = None,
) -> Floats:
    """What `Engine.sample` gives, holding only one tile's activations at a time.  Arrays (N, 3, H, W).

    `features`: those of `whole_features`, when the caller has changed them.
    """
    height, width = low.shape[2:]
    windows = grid(height, width, side, multiple)
    features = features or whole_features(engine, low, side, multiple)
    weights = [ramp(window, height, width) for window in windows]
    total = np.zeros(low.shape[2:], dtype=np.float32)
    for window, weight in zip(windows, weights, strict=True):
        total[window.rows_columns] += weight
    x, previous = noise, np.zeros_like(noise)
    for step in steps:
        x_sum, x0_sum = np.zeros_like(x), np.zeros_like(x)
        for window, weight in zip(windows, weights, strict=True):
            conditions = cut(engine, low, features, window)
            x_next, x0 = engine.step(_tile(x, window), conditions, step, _tile(previous, window))
            x_sum[window.slices] += weight * engine.numpy(x_next)
            x0_sum[window.slices] += weight * engine.numpy(x0)
            if progress is not None:
                progress()
        x, previous = x_sum / total, x0_sum / total
    return x


def _tile(planes: Floats, window: Window) -> Floats:
    return np.ascontiguousarray(planes[window.slices])


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


def cut(engine: Engine, low: Floats, features: Features, window: Window) -> Conditions:
    """The conditions of one tile: its own pixels and colours, the whole image's features."""
    y = _tile(low, window)
    return Conditions(y, engine.color_map(y), tuple(_place(f, stride, low.shape[2:], window) for f, stride in features))


def _place(feature: Floats, stride: int, whole: tuple[int, ...], window: Window) -> Floats:
    """A feature map of the whole image at the window, bilinearly, with the size E would give it there."""
    if feature.shape[2:] == (1, 1):  # the level: of the whole image wherever the window is
        return feature
    rows = _positions(window.top, window.height, stride, whole[0], feature.shape[2])
    columns = _positions(window.left, window.width, stride, whole[1], feature.shape[3])
    return np.ascontiguousarray(_bilinear(_bilinear(feature, rows, 2), columns, 3), dtype=np.float32)


def _positions(start: int, length: int, stride: int, whole: int, cells: int) -> NDArray[np.float64]:
    """Places of a window's feature cells among the `cells` of the whole image, as fractional indices."""
    centres = start + (np.arange(length // stride) + 0.5) * stride
    return np.clip(centres * cells / whole - 0.5, 0, cells - 1)


def _bilinear(planes: Floats, positions: NDArray[np.float64], axis: int) -> Floats:
    below = np.minimum(positions.astype(int), planes.shape[axis] - 2)
    shape = [1] * 4
    shape[axis] = -1
    share = (positions - below).astype(np.float32).reshape(shape)
    return planes.take(below, axis) * (1 - share) + planes.take(below + 1, axis) * share
