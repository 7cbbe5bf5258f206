"""Random crops for training.  Every sample is a function of (seed, index) alone, so a resumed run continues exactly.

A sample is a crop and, for the level head, its whole picture reduced: both through the same turns, light and exposure.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from lldiffusion.config import DataConfig
from lldiffusion.engines.level import reduce_picture
from lldiffusion.images import read_image, to_uint8

from .augment import Changes, draw_changes
from .illumination import draw_light
from .layouts import Pair
from .simulate import at_exposure, simulate
from .sources import Source, find_sources

__all__ = ["PairCrops", "Source", "find_sources", "load_pixels"]
Pixels = NDArray[np.float32]


@lru_cache(maxsize=8192)
def load_bytes(path: Path) -> NDArray[np.uint8]:
    """(H, W, 3) uint8; kept in memory."""
    return to_uint8(read_image(path).pixels)


def load_pixels(path: Path) -> Pixels:
    """(H, W, 3) float32 in [0, 1]."""
    return load_bytes(path).astype(np.float32) / np.float32(255)


@dataclass(frozen=True)
class Scene:
    """A picture ready to be cropped: both sides turned alike, and what happens to their pixels."""

    low: NDArray[Any]  # (H, W, 3) uint8
    normal: NDArray[np.uint8]
    changes: Changes
    thumbnail: Pixels  # (64, 96, 3) in [0, 1], of low, changed
    normal_thumbnail: Pixels


class Picked(NamedTuple):
    """What a sample is made of."""

    pair: Pair
    simulated: bool  # its low side comes from the normal one
    as_is: bool  # and needs nothing
    part: tuple[slice, slice]  # of the picture, that stands for the whole


class PairCrops(Dataset[dict[str, Tensor]]):
    """`length` random crops as dictionaries.

    low, normal: (3, crop, crop) float32 in [-1, 1]
    thumbnail, normal_thumbnail: (3, 64, 96) of their whole pictures
    window: (4,) top, left, bottom, right of the crop as fractions of the whole picture
    """

    def __init__(self, sources: list[Source], config: DataConfig, seed: int, length: int) -> None:
        self.sources, self.config, self.seed, self.length = sources, config, seed, length
        sizes = np.array([len(source.pairs) for source in sources], dtype=float)
        weights = np.array(config.weights) if config.weights else sizes
        self.share = weights / weights.sum()
        self._last: tuple[int, Scene] | None = None  # crops of one picture come one after the other

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        scene = self._scene(index // self.config.crops_per_image)
        rng = np.random.default_rng([self.seed, 1, index])
        height, width = scene.normal.shape[:2]
        window = _window(height, width, self.config, rng)
        low = scene.changes.of_low(_cut(scene.low, window, self.config.crop), rng)
        normal = scene.changes.of_normal(_cut(scene.normal, window, self.config.crop))
        top, left, side = window
        place = np.array([top / height, left / width, (top + side) / height, (left + side) / width], np.float32)
        pictures = {"low": low, "normal": normal}
        pictures |= {"thumbnail": scene.thumbnail, "normal_thumbnail": scene.normal_thumbnail}
        return {name: to_tensor(pixels) for name, pixels in pictures.items()} | {"window": torch.from_numpy(place)}

    def _scene(self, number: int) -> Scene:
        if self._last is None or self._last[0] != number:
            self._last = number, self._draw(np.random.default_rng([self.seed, 0, number]))
        return self._last[1]

    def _pick(self, rng: Generator) -> Picked:
        """The first draws of a sample."""
        source = self.sources[rng.choice(len(self.sources), p=self.share)]
        pair = source.pairs[rng.integers(len(source.pairs))]
        simulated = source.simulated or rng.random() < self.config.simulated_share
        as_is = simulated and rng.random() < self.config.as_is
        return Picked(pair, simulated, as_is, _part(load_bytes(pair.normal).shape, self.config.part_min, rng))

    def _draw(self, rng: Generator) -> Scene:
        pair, simulated, as_is, part = self._pick(rng)
        normal = load_bytes(pair.normal)[part]
        if simulated and rng.random() < self.config.recolor:
            normal = normal[..., rng.permutation(3)]
        if as_is:
            low = normal
        else:
            low = self._darken(normal, rng) if simulated else load_bytes(pair.low)[part]
        changes = draw_changes(self.config, as_is, rng)
        turn, flip = int(rng.integers(4)), bool(rng.integers(2))
        low, normal = turned(low, turn, flip), turned(normal, turn, flip)
        small_low, small_normal = (reduce_picture(side) / np.float32(255) for side in (low, normal))
        return Scene(low, normal, changes, changes.of_light(small_low), changes.of_normal(small_normal))

    def _darken(self, normal: NDArray[np.uint8], rng: Generator) -> NDArray[np.uint8]:
        stops = rng.uniform(self.config.stops[0], self.config.stops[1])
        light = None
        if rng.random() < self.config.uneven:
            light, stops = draw_light(normal.shape[0], normal.shape[1], rng), stops / 3  # the shade is dark enough
        pixels = normal.astype(np.float32) / np.float32(255)
        return np.round(simulate(pixels, rng, at_exposure(stops), light) * 255).astype(np.uint8)


def _part(shape: tuple[int, ...], smallest: float, rng: Generator) -> tuple[slice, slice]:
    """A random part of a picture, at least `smallest` of each side."""
    slices = []
    for size in shape[:2]:
        kept = round(size * rng.uniform(smallest, 1.0))
        start = int(rng.integers(size - kept + 1))
        slices.append(slice(start, start + kept))
    return slices[0], slices[1]


def _window(height: int, width: int, config: DataConfig, rng: Generator) -> tuple[int, int, int]:
    """(top, left, side) of a square that becomes the crop after resizing by a random scale."""
    side = min(round(config.crop / rng.uniform(config.scale_min, 1.0)), height, width)
    return int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1)), side


def _cut(picture: NDArray[np.uint8], window: tuple[int, int, int], crop: int) -> Pixels:
    top, left, side = window
    pixels = picture[top : top + side, left : left + side].astype(np.float32) / np.float32(255)
    if side == crop:
        return pixels
    planes = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]
    planes = F.interpolate(planes, size=(crop, crop), mode="bilinear", antialias=True, align_corners=False)
    return planes[0].permute(1, 2, 0).numpy()


def turned(pixels: NDArray[Any], turn: int, flip: bool) -> NDArray[Any]:
    """Turned by `turn` quarters, then mirrored."""
    pixels = np.rot90(pixels, turn)
    return pixels[:, ::-1] if flip else pixels


def to_tensor(pixels: Pixels) -> Tensor:
    """(H, W, 3) in [0, 1] -> (3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))) * 2 - 1
