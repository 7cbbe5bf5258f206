"""Planes in, planes out: the parts of a call that pictures and video share, whole or in tiles.

Planes are (N, 3, H, W) float32 in [-1, 1], of any height and width: they are padded by reflection to multiples of the
model's `size_multiple` and cropped again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np

from lldiffusion.config import Config
from lldiffusion.errors import LLDiffusionError

from .backends.base import Array, Conditions, Engine, Floats, Progress, Shape
from .level import thumbnail_of
from .memory import is_local
from .pixels import of_shape, pad_to_multiple, padded_sides
from .sampler import Step, make_noise
from .tiles import Features, Window, count, features_at, grid, sample_tiled, tile_of, whole_features


@dataclass(frozen=True, eq=False)
class Guidance:
    """What is known of pictures before they are sampled; video changes it so that neighbouring frames agree."""

    level: Array | None = None  # (N, P, 8, 12); None: the model has none
    features: Features = ()  # E(y) on the host, (feature, stride) coarse to fine; empty: made where it is needed


class Pipeline:
    """An engine, the model it runs, and how large pictures are cut.

    Args:
        engine: what runs the network.
        config: the model's configuration.
        seed: of x_T.
        tile: "auto" (tiles where they cost nothing or the whole image would not fit in memory), "none", or a tile's
            side in pixels.
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

    @property
    def has_level(self) -> bool:
        """Whether the model is told how bright the result shall be."""
        return self.config.model.level != "none"

    @property
    def recurrent(self) -> bool:
        """Whether sampling starts from the model's own result of the frame before."""
        return self.config.model.recurrent

    def padded_shape(self, shape: Shape) -> Shape:
        """The shape that planes of this shape are padded to."""
        return (*shape[:2], *padded_sides(shape[2], shape[3], self.multiple))

    def noise(self, shape: Shape) -> Floats:
        """x_T from the seed for planes of this padded shape, the same for every image of the batch.

        Of a recurrent model zeros: nothing came before.
        """
        return self._drawn(shape).copy()

    def _drawn(self, shape: Shape) -> Floats:
        """The same, not to be written to: of a large picture one field is enough."""
        if self.recurrent:
            return self.engine.zeros(shape)
        key, (kept, values) = (self.seed, *shape[1:]), self._last_noise
        if kept != key:  # drawing takes longer than everything else around the engine: the last one is kept
            values = make_noise(self.seed, (1, *shape[1:]))
            self._last_noise = key, values
        return values if values.shape == shape else np.broadcast_to(values, shape)

    def tile_side(self, shape: Shape) -> int | None:
        """The tile's side in pixels for planes of this padded shape, or None for the whole image at once."""
        if self.tile == "none":
            return None
        if isinstance(self.tile, int):
            return self.tile if max(shape[2:]) > self.tile else None
        return self.engine.tile_side(self.config.model, shape)

    def tiles(self, shape: Shape) -> int:
        """How many tiles planes of this shape are cut into; 1 where they are not."""
        height, width = self.padded_shape(shape)[2:]
        side = self.tile_side((*shape[:2], height, width))
        return 1 if side is None else count(height, width, side, self.multiple)

    def level(self, planes: Floats) -> Array | None:
        """The level of whole pictures, as the engine's own array; None where the model has none."""
        return self.engine.level(thumbnail_of(planes)) if self.has_level else None

    def guidance(self, planes: Floats, features: bool, thumbnail: Floats | None = None) -> Guidance:
        """Level and (when asked for) features of whole pictures, on the host.

        Features are of the picture scaled down where it is cut into tiles; none where tiles make their own.
        `thumbnail`: `level.thumbnail_of` the planes, where the caller has it.
        """
        level = self.level(planes) if thumbnail is None or not self.has_level else self.engine.level(thumbnail)
        level = level if level is None else self.engine.numpy(level)
        return Guidance(level, self._features(pad_to_multiple(planes, self.multiple)) if features else ())

    def sample(
        self,
        planes: Floats,
        steps: tuple[Step, ...],
        x: Floats | None = None,
        guidance: Guidance | None = None,
        progress: Progress | None = None,
        most: int | None = None,
        padded: Floats | None = None,
    ) -> Floats:
        """x_0 of planes, the same shape; not checked for NaN.

        Args:
            x: x_T of the padded shape; default: from the seed.  Of a recurrent model its own result of the frame
                before; default: zeros.
            guidance: default: what the model says of each picture itself.
            progress: called after every step (of every tile).
            most: a tile's side in pixels, at most; default: whatever `tile` says.
            padded: the planes as `pad_to_multiple` pads them, where the caller has that.
        """
        shape = self.padded_shape(planes.shape)
        guidance = guidance or Guidance(self.level(planes))
        side = self.tile_side(shape)
        if most is not None and max(shape[2:]) > most:
            side = min(side or most, most)
        if side is not None:
            x0 = self._sample_tiles(planes, steps, self._drawn(shape) if x is None else x, guidance, side, progress)
        else:
            low = pad_to_multiple(planes, self.multiple) if padded is None else padded
            x = np.ascontiguousarray(self._drawn(shape)) if x is None else x
            x0 = self._sample_whole(low, planes.shape, steps, x, guidance, progress)
        x0 = of_shape(x0, shape)
        return x0[:, :, : planes.shape[2], : planes.shape[3]]

    def close(self) -> None:
        """Let go of the engine; calls that run finish, later ones raise LLDiffusionError."""
        self.engine = cast(Engine, _Closed())

    def _window(self, window: Window, shape: Shape) -> Floats | None:
        """(N, 4), where the model has a level: the window as a share of the picture before it was padded."""
        return window.share(*shape[2:]).repeat(shape[0], axis=0) if self.has_level else None

    def _sample_whole(
        self,
        low: Floats,
        shape: Shape,
        steps: tuple[Step, ...],
        x: Floats,
        guidance: Guidance,
        progress: Progress | None,
    ) -> Floats:
        """`low`: padded; `shape`: before that."""
        engine, window = self.engine, self._window(Window(0, 0, *low.shape[2:]), shape)
        if not guidance.features:
            return engine.sample(low, steps, x, progress, guidance.level, window)
        features = tuple(feature for feature, _ in guidance.features)
        conditions = Conditions(low, engine.color_map(low), features, guidance.level, window)
        return engine.numpy(engine.denoise(conditions, steps, x, engine.zeros(x.shape), progress))

    def _sample_tiles(
        self,
        planes: Floats,
        steps: tuple[Step, ...],
        x: Floats,
        guidance: Guidance,
        side: int,
        progress: Progress | None,
    ) -> Floats:
        features = guidance.features
        if not features and not is_local(self.config.model):
            features = whole_features(self.engine, pad_to_multiple(planes, self.multiple), side, self.multiple)
        conditions_of = partial(self._tile_conditions, planes, Guidance(guidance.level, features))
        tiles = grid(x.shape[2], x.shape[3], side, self.multiple)
        return sample_tiled(self.engine, tiles, conditions_of, steps, x, progress)

    def _tile_conditions(self, planes: Floats, guidance: Guidance, window: Window) -> Conditions:
        y, share = tile_of(planes, window), self._window(window, planes.shape)
        if not guidance.features:
            return self.engine.conditions(y, guidance.level, share)
        features = features_at(guidance.features, self.padded_shape(planes.shape)[2:], window)
        return Conditions(y, self.engine.color_map(y), features, guidance.level, share)

    def _features(self, low: Floats) -> Features:
        side = self.tile_side(low.shape)
        if side is not None:
            return () if is_local(self.config.model) else whole_features(self.engine, low, side, self.multiple)
        maps = (self.engine.numpy(feature) for feature in self.engine.encode(low))
        return tuple((feature, low.shape[2] // feature.shape[2]) for feature in maps)


class _Closed:
    """Stands where the engine was that was let go."""

    def __getattr__(self, name: str) -> Any:
        raise LLDiffusionError("this Enhancer was closed and cannot be used again: open another with Enhancer.open")
