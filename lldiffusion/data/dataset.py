"""Random crops for training.  Every sample is a function of (seed, index) alone, so a resumed run continues exactly."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from lldiffusion.config import DataConfig
from lldiffusion.errors import LLDiffusionError
from lldiffusion.images import list_images, read_image, to_uint8

from .layouts import Pair, find_pairs, validate_pairs
from .simulate import at_exposure, simulate

Pixels = NDArray[np.float32]


@dataclass(frozen=True)
class Source:
    """One folder's samples; `simulated` ones make their low image from the normal one."""

    pairs: tuple[Pair, ...]
    simulated: bool


@lru_cache(maxsize=4096)
def _cached(path: Path) -> NDArray[np.uint8]:
    return to_uint8(read_image(path).pixels)


def load_pixels(path: Path) -> Pixels:
    """(H, W, 3) float32 in [0, 1]; 8-bit copies are kept in memory."""
    return _cached(path).astype(np.float32) / np.float32(255)


def find_sources(config: DataConfig) -> tuple[list[Source], list[Pair]]:
    """The training sources of a configuration and the validation pairs held out of the first folder."""
    if not config.pairs and not config.normal:
        raise LLDiffusionError('nothing to train on: set data.pairs (or data.normal), e.g. --set data.pairs=["PATH"]')
    keep = {line.strip() for file in config.include for line in Path(file).read_text().splitlines() if line.strip()}
    sources: list[Source] = []
    held_out: list[Pair] = []
    for folder in config.pairs:
        pairs = validate_pairs(find_pairs(Path(folder), split="train"))
        pairs = [p for p in pairs if not keep or p.name in keep]
        if not sources and config.validation:
            pairs, held_out = _split(pairs, config.validation, folder)
        sources.append(Source(tuple(pairs), simulated=False))
    for folder in config.normal:
        photos = [Pair(low=path, normal=path, name=path.stem) for path in list_images(Path(folder))]
        sources.append(Source(tuple(photos), simulated=True))
    return sources, held_out


def _split(pairs: list[Pair], count: int, folder: str) -> tuple[list[Pair], list[Pair]]:
    pairs = sorted(pairs, key=lambda pair: pair.name)
    if len(pairs) <= count:
        raise LLDiffusionError(
            f"'{folder}' has {len(pairs)} pairs: data.validation={count} would leave none to train on"
        )
    return pairs[:-count], pairs[-count:]


class PairCrops(Dataset[dict[str, Tensor]]):
    """`length` random crops: {"low", "normal"}, each (3, crop, crop) float32 in [-1, 1]."""

    def __init__(self, sources: list[Source], config: DataConfig, seed: int, length: int) -> None:
        self.sources, self.config, self.seed, self.length = sources, config, seed, length
        sizes = np.array([len(source.pairs) for source in sources], dtype=float)
        weights = np.array(config.weights) if config.weights else sizes
        self.share = weights / weights.sum()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        image = np.random.default_rng([self.seed, 0, index // self.config.crops_per_image])
        source = self.sources[image.choice(len(self.sources), p=self.share)]
        pair = source.pairs[image.integers(len(source.pairs))]
        low, normal = self._crop(pair, source.simulated, np.random.default_rng([self.seed, 1, index]))
        return {"low": _to_tensor(low), "normal": _to_tensor(normal)}

    def _crop(self, pair: Pair, simulated: bool, rng: Generator) -> tuple[Pixels, Pixels]:
        simulated = simulated or rng.random() < self.config.simulated_share
        window = _window(_cached(pair.normal).shape, self.config, rng)
        normal = _cut(pair.normal, window, self.config.crop)
        if simulated:
            low = simulate(normal, rng, at_exposure(rng.uniform(self.config.stops[0], self.config.stops[1])))
        else:
            low = _cut(pair.low, window, self.config.crop)
        normal = self._expose_target(normal, rng)
        turn, flip = int(rng.integers(4)), bool(rng.integers(2))
        return _turn(self._roughen(self._expose(low, rng), rng), turn, flip), _turn(normal, turn, flip)

    def _expose_target(self, normal: Pixels, rng: Generator) -> Pixels:
        """Half of the targets are lit otherwise, so that the level is obeyed whatever it is."""
        if not self.config.target_expose or rng.random() < 0.5:
            return normal
        stops = rng.uniform(-self.config.target_expose, self.config.target_expose)
        return np.minimum(normal * np.float32(2 ** (stops / 2.2)), 1)

    def _roughen(self, low: Pixels, rng: Generator) -> Pixels:
        """Half of the low images get more noise than their camera made: another's has more.

        The same standard deviation everywhere plus a part that grows with the root of the light, each channel with its
        own share, spread a little to neighbours as cameras do; rounded to 8 bits.
        """
        if not self.config.rough or rng.random() < 0.5:
            return low
        strength = rng.uniform(0, self.config.rough) * rng.uniform(0.7, 1.4, size=3).astype(np.float32)
        noise = rng.standard_normal(low.shape, dtype=np.float32)
        spread = np.float32(rng.uniform(0, 0.35))
        for axis in (0, 1):
            noise = noise + spread * np.roll(noise, 1, axis)
        noise /= 1 + spread * spread
        photons = 1 + np.float32(rng.uniform(0, 3)) * np.sqrt(low)
        return np.clip(np.round(low * 255 + strength * noise * photons), 0, 255) * np.float32(1 / 255)

    def _expose(self, low: Pixels, rng: Generator) -> Pixels:
        """Random exposure (stops, through a 2.2 gamma), colour cast, gamma and black level of the low image alone.

        The black level because what a camera calls black has a colour of its own, and brightened it is a cast.
        """
        config = self.config
        stops = rng.uniform(-config.expose, config.expose)
        gain = 2 ** (stops / 2.2) * rng.uniform(1 - config.cast, 1 + config.cast, size=3)
        gamma = rng.uniform(1 - config.gamma, 1 + config.gamma)
        lit = np.clip(low * gain.astype(np.float32), 0, 1) ** np.float32(gamma)
        if not config.offset:
            return lit
        return np.clip(lit + rng.uniform(-config.offset, config.offset, size=3).astype(np.float32) / 255, 0, 1)


def _window(shape: tuple[int, ...], config: DataConfig, rng: Generator) -> tuple[int, int, int]:
    """(top, left, side) of a square that becomes the crop after resizing by a random scale."""
    side = min(round(config.crop / rng.uniform(config.scale_min, 1.0)), shape[0], shape[1])
    return int(rng.integers(shape[0] - side + 1)), int(rng.integers(shape[1] - side + 1)), side


def _cut(path: Path, window: tuple[int, int, int], crop: int) -> Pixels:
    top, left, side = window
    pixels = _cached(path)[top : top + side, left : left + side].astype(np.float32) / np.float32(255)
    if side == crop:
        return pixels
    planes = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    planes = F.interpolate(planes, size=(crop, crop), mode="bilinear", antialias=True, align_corners=False)
    return planes[0].permute(1, 2, 0).numpy()


def _turn(pixels: Pixels, turn: int, flip: bool) -> Pixels:
    turned = np.rot90(pixels, turn)
    return turned[:, ::-1] if flip else turned


def _to_tensor(pixels: Pixels) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))) * 2 - 1
