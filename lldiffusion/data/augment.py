"""What happens to the pixels of a training picture: light, colour, black level, noise and JPEG of the low side, and
the exposure of the normal one.  Drawn once a picture; its crops and its thumbnail go through the same."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from lldiffusion.config import DataConfig
from lldiffusion.images import through_jpeg

Pixels = NDArray[np.float32]
QUALITY = (50, 96)  # of JPEG: messengers' and cameras'
BLOCK = 16  # pixels, of JPEG's halved chroma


@dataclass(frozen=True)
class Changes:
    """The draws; the identity where nothing is asked for."""

    gain: Pixels  # (3,), of the low side: exposure and colour cast
    gamma: float  # exponent
    offset: Pixels  # (3,), black level
    noise: Pixels  # (3,), standard deviation in 1/255; zeros: none
    photons: float  # noise grows with the root of the light by this much
    spread: float  # of noise to neighbours, as cameras do
    target: float  # gain of the normal side
    chroma: float  # factor of both sides' distance from grey
    quality: int = 0  # of the low side's JPEG; 0: none
    corner: tuple[int, int] = (0, 0)  # row and column of a JPEG block at which a crop begins

    def of_light(self, low: Pixels) -> Pixels:
        """Exposure (through a 2.2 gamma), cast, gamma and black level: what a thumbnail shows."""
        lit = np.clip(_saturated(low, self.chroma) * self.gain, 0, 1)
        lit = lit if self.gamma == 1.0 else lit ** np.float32(self.gamma)
        return np.clip(lit + self.offset, 0, 1)

    def of_low(self, low: Pixels, rng: Generator) -> Pixels:
        """The light, then noise, then JPEG."""
        noisy = self._noisy(self.of_light(low), rng)
        return self._compressed(noisy) if self.quality else noisy

    def _noisy(self, lit: Pixels, rng: Generator) -> Pixels:
        """Noise that is the same everywhere, and a part that grows with the root of the light; 8 bits."""
        if not self.noise.any():
            return lit
        noise = rng.standard_normal(lit.shape, dtype=np.float32)
        for axis in (0, 1):
            noise = noise + np.float32(self.spread) * np.roll(noise, 1, axis)
        noise /= np.float32(1 + self.spread * self.spread)
        photons = 1 + np.float32(self.photons) * np.sqrt(lit)
        return np.clip(np.round(lit * 255 + self.noise * noise * photons), 0, 255) * np.float32(1 / 255)

    def _compressed(self, low: Pixels) -> Pixels:
        top, left = self.corner
        whole = np.pad(np.round(low * 255).astype(np.uint8), ((top, 0), (left, 0), (0, 0)), mode="edge")
        return through_jpeg(whole, self.quality)[top:, left:] * np.float32(1 / 255)

    def of_normal(self, normal: Pixels) -> Pixels:
        """x g, or x g / (1 + (g - 1) x) for g above 1: white stays white, and nothing is clipped."""
        g, normal = np.float32(self.target), _saturated(normal, self.chroma)
        return normal * g if g <= 1 else normal * g / (1 + (g - 1) * normal)


def _saturated(pixels: Pixels, chroma: float) -> Pixels:
    """grey + chroma (x - grey), in [0, 1]."""
    if chroma == 1.0:
        return pixels
    grey = pixels.mean(axis=2, keepdims=True)
    return np.clip(grey + np.float32(chroma) * (pixels - grey), 0, 1)


def draw_changes(config: DataConfig, as_is: bool, rng: Generator) -> Changes:
    """Half of the pictures get noise, half another target, half another saturation.

    A picture that needs nothing gets at most a little noise, and JPEG.
    """
    stops = rng.uniform(-config.expose, config.expose)
    gain = 2 ** (stops / 2.2) * rng.uniform(1 - config.cast, 1 + config.cast, size=3)
    gamma = rng.uniform(1 - config.gamma, 1 + config.gamma)
    offset = rng.uniform(-config.offset, config.offset, size=3) / 255
    rough = rng.uniform(0, config.rough) * (rng.random() < 0.5) * (0.5 if as_is else 1)
    noise = rough * rng.uniform(0.7, 1.4, size=3)
    target = 2 ** (rng.uniform(-config.target_expose, config.target_expose) * (rng.random() < 0.5) / 2.2)
    chroma = rng.uniform(1 - config.saturate, 1 + 2 * config.saturate) if rng.random() < 0.5 else 1.0
    if as_is:
        gain, gamma, offset, target = np.ones(3), 1.0, np.zeros(3), 1.0
    single = [np.asarray(values, np.float32) for values in (gain, offset, noise)]
    changes = Changes(
        gain=single[0],
        gamma=float(gamma),
        offset=single[1],
        noise=single[2],
        photons=float(rng.uniform(0, 3)),
        spread=float(rng.uniform(0, 0.35)),
        target=float(target),
        chroma=float(chroma),
    )
    return _with_jpeg(changes, rng) if config.jpeg and rng.random() < config.jpeg else changes


def _with_jpeg(changes: Changes, rng: Generator) -> Changes:
    corner = rng.integers(BLOCK, size=2)
    return replace(changes, quality=int(rng.integers(*QUALITY)), corner=(int(corner[0]), int(corner[1])))
