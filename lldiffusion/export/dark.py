"""Dark images to judge an export on: what a model meets at work, where half precision is weakest."""

from __future__ import annotations

import numpy as np

from lldiffusion.data.simulate import simulate
from lldiffusion.engines.backends.base import Floats
from lldiffusion.engines.pixels import pad_to_multiple


def dark_image(height: int, width: int, multiple: int, seed: int = 0) -> Floats:
    """A dark photograph as planes (1, 3, H, W) in [-1, 1], padded to multiples of `multiple`, from our simulator."""
    rng = np.random.default_rng(seed)
    low = simulate(_scene(height, width), rng)  # (H, W, 3) in [0, 1]
    planes = np.ascontiguousarray(low.transpose(2, 0, 1)[None] * 2 - 1, dtype=np.float32)
    return pad_to_multiple(planes, multiple)


def _scene(height: int, width: int) -> Floats:
    """A photograph of scikit-image, mirrored out to (H, W, 3) float32 in [0, 1]; without it a drawn one."""
    try:
        from skimage import data
    except ImportError:
        return drawn_scene(height, width)
    photo = data.astronaut().astype(np.float32) / 255  # (512, 512, 3)
    rows, columns = (_mirrored(size, photo.shape[0]) for size in (height, width))
    return np.ascontiguousarray(photo[rows][:, columns])


def _mirrored(size: int, length: int) -> np.ndarray:
    """Indices 0, 1, ..., length - 1, length - 1, ..., 1, 0, 0, ... of a line of `size` pixels."""
    place = np.arange(size) % (2 * length)
    return np.minimum(place, 2 * length - 1 - place)


def drawn_scene(height: int, width: int) -> Floats:
    """Gradients, stripes of rising frequency and a bright lamp, (H, W, 3) float32 in [0, 1]."""
    y, x = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    stripes = 0.5 + 0.5 * np.sin(40 * x * x * np.pi)
    lamp = np.exp(-((x - 0.7) ** 2 + (y - 0.3) ** 2) / 0.01)
    planes = (0.7 * y + 0.3 * lamp, 0.5 * stripes * (1 - y) + 0.5 * lamp, 0.6 * x + 0.4 * lamp)
    return np.stack(planes, axis=-1).astype(np.float32)
