"""Pictures for tests: freely licensed photographs bundled with scikit-image, and small folders of pairs."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]

# The preset `tiny` with fewer channels: the same code paths in a tenth of the time.
SMALL = [
    "model.encoder.channels=[8,8,8,8]",
    "model.encoder.head_channels=16",
    "model.encoder.ladder=[16,16]",
    "model.denoiser.channels=16",
    "model.degrader.channels=8",
    "data.crop=64",
    "data.validation=1",
    "train.batch=2",
    "train.guess_steps=2",
]


def photograph(name: str = "astronaut", height: int = 96, width: int = 128) -> Pixels:
    """(height, width, 3) float32 in [0, 1]: one of scikit-image's bundled photographs, made so small."""
    return _photograph(name, height, width).copy()


@cache
def _photograph(name: str, height: int, width: int) -> Pixels:
    from skimage import data, transform

    pixels = getattr(data, name)()[..., :3]
    return transform.resize(pixels, (height, width), anti_aliasing=True).astype(np.float32)


def dark(pixels: Pixels) -> Pixels:
    """A dark, slightly noisy version, always the same."""
    noise = np.random.default_rng(0).normal(0, 0.01, pixels.shape)
    return np.clip(pixels**2.2 * 0.08 + noise, 0, 1).astype(np.float32)


def write_pairs(folder: Path, count: int = 3, height: int = 96, width: int = 128) -> Path:
    """`folder` with low/ and normal/ of `count` pairs as PNG."""
    from lldiffusion.images import Image, write_image

    names = ("astronaut", "coffee", "chelsea", "rocket")
    for number in range(count):
        normal = photograph(names[number % len(names)], height, width)
        for side, pixels in (("normal", normal), ("low", dark(normal))):
            path = folder / side / f"{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_image(path, Image(pixels=pixels, format="png"))
    return folder
