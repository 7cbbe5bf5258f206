"""Planes in, planes out: the parts of a call that pictures and video share, whole or in tiles.

Planes are (N, 3, H, W) float32 in [-1, 1], H and W multiples of the model's `size_multiple` (see `padded`).
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from lldiffusion.config import Config
from lldiffusion.errors import LLDiffusionError

from .backends.base import Conditions, Engine, Floats, Progress, Shape
from .pixels import pad_to_multiple
from .sampler import Step, make_noise
from .tiles import Features, grid, sample_tiled, whole_features


class Pipeline:
    """An engine, the model it runs, and how large pictures are cut.

    Args:
        engine: what runs the network.
        config: the model's configuration.
        seed: of x_T.
        tile: "auto" (tiles when the whole image would not fit in memory), "none", or a tile's side in pixels.
    Raises LLDiffusionError for a tile that the model cannot take.
    """

    def __init__(self, engine: Engine, config: Config, seed: int = 0, tile: str | int = "auto") -> None:
        self.engine = engine
        self.config = config
        self.seed = seed
        self.tile = tile
        self.multiple = config.model.size_multiple
        self._last_noise: tuple[Shape, Floats] = (), np.empty(0, np.float32)  # (seed and shape, x_T)
        if isinstance(tile, int) and (tile < 4 * self.multiple or tile % self.multiple):
            raise LLDiffusionError(
                f"tile {tile}: a tile's side must be a multiple of {self.multiple}, at least {4 * self.multiple}"
            )

    def padded(self, planes: Floats) -> Floats:
        """Planes of any size, reflected to one that the network takes."""
        return pad_to_multiple(planes, self.multiple)

    def noise(self, shape: Shape) -> Floats:
        """x_T from the seed, the same for every image of the batch."""
        key, (kept, values) = (self.seed, *shape[1:]), self._last_noise
        if kept != key:  # drawing takes longer than everything else around the engine: the last one is kept
            values = make_noise(self.seed, (1, *shape[1:]))
            self._last_noise = key, values
        return np.repeat(values, shape[0], axis=0)

    def tile_side(self, shape: Shape) -> int | None:
        """The tile's side in pixels for planes of this shape, or None for the whole image at once."""
        if self.tile == "none":
            return None
        if isinstance(self.tile, int):
            return self.tile if max(shape[2:]) > self.tile else None
        return self.engine.tile_side(self.config.model, shape)

    def tiles(self, shape: Shape) -> int:
        """How many tiles planes of this shape are cut into; 1 where they are not."""
        side = self.tile_side(shape)
        return 1 if side is None else len(grid(shape[2], shape[3], side, self.multiple))

    def sample(self, low: Floats, steps: tuple[Step, ...], x: Floats, progress: Progress | None = None) -> Floats:
        """x_0 from x = x_T; `progress` is called after every step of every tile.  Not checked for NaN."""
        side = self.tile_side(low.shape)
        if side is None:
            return self.engine.sample(low, steps, x, progress)
        return sample_tiled(self.engine, low, steps, x, side, self.multiple, progress)

    def features(self, low: Floats) -> Features:
        """E(y), on the host: (feature, stride) coarse to fine; of the image scaled down where it is cut into tiles."""
        side = self.tile_side(low.shape)
        if side is not None:
            return whole_features(self.engine, low, side, self.multiple)
        maps = (self.engine.numpy(feature) for feature in self.engine.encode(low))
        return tuple((feature, low.shape[2] // feature.shape[2]) for feature in maps)

    def denoise(self, low: Floats, features: Features, steps: tuple[Step, ...], x: Floats) -> Floats:
        """What `sample` gives, with features that the caller made or changed."""
        engine, side = self.engine, self.tile_side(low.shape)
        if side is not None:
            return sample_tiled(engine, low, steps, x, side, self.multiple, features=features)
        conditions = Conditions(low, engine.color_map(low), tuple(feature for feature, _ in features))
        return engine.numpy(engine.denoise(conditions, steps, x, np.zeros_like(x)))

    def close(self) -> None:
        """Let go of the engine; calls that run finish, later ones raise LLDiffusionError."""
        self.engine = cast(Engine, _Closed())


class _Closed:
    """Stands where the engine was that was let go."""

    def __getattr__(self, name: str) -> Any:
        raise LLDiffusionError("this Enhancer was closed and cannot be used again: open another with Enhancer.open")
