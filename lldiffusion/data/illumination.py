"""Uneven light: a field of gains in linear light, as lamps, windows, backlight and lenses make them.

    light(p) = ambient + sum of sources(p), times the lens;  at most 1: what the normal picture shows is the most

The low picture of a scene lit this way has lit parts that stay and shadows that must be lifted; noise follows the
light, because the simulator adds it after the field.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from numpy.typing import NDArray

Field = NDArray[np.float32]
_COARSE = (24, 36)  # rows and columns at which the field is drawn: light is smooth
AMBIENT = (1.0, 5.5)  # stops below the normal picture in the shade
LAMPS = 3  # at most
LAMP_SIZE = (0.08, 0.4)  # standard deviation of a lamp's pool of light, of the longer side
EDGE = (0.01, 0.2)  # width of the border of a window's light, of the longer side
VIGNETTE = 1.5  # stops lost in the corners, at most


def draw_light(height: int, width: int, rng: Generator) -> Field:
    """(height, width) gains in (0, 1]."""
    y, x = np.meshgrid(*(np.linspace(-0.5, 0.5, n) for n in _COARSE), indexing="ij")
    y = y * height / max(height, width)
    x = x * width / max(height, width)
    light = np.full(_COARSE, 2 ** -rng.uniform(*AMBIENT))
    source = _lamps if rng.random() < 0.5 else _window
    light = np.minimum(light + source(y, x, rng), 1) * 2 ** (-rng.uniform(0, VIGNETTE) * 2 * (x * x + y * y))
    planes = torch.from_numpy(light.astype(np.float32))[None, None]
    return F.interpolate(planes, size=(height, width), mode="bicubic", align_corners=True)[0, 0].clamp(0.01, 1).numpy()


def _lamps(y: NDArray[np.float64], x: NDArray[np.float64], rng: Generator) -> NDArray[np.float64]:
    light = np.zeros_like(y)
    for _ in range(rng.integers(1, LAMPS + 1)):
        top, left, size = rng.uniform(-0.4, 0.4), rng.uniform(-0.5, 0.5), rng.uniform(*LAMP_SIZE)
        light += 2 ** -rng.uniform(0, 1.5) * np.exp(-((y - top) ** 2 + (x - left) ** 2) / (2 * size * size))
    return light


def _window(y: NDArray[np.float64], x: NDArray[np.float64], rng: Generator) -> NDArray[np.float64]:
    """Light on one side of a line: a doorway, a horizon, the edge of a shadow."""
    angle, place, edge = rng.uniform(0, 2 * np.pi), rng.uniform(-0.3, 0.3), rng.uniform(*EDGE)
    distance = (np.cos(angle) * x + np.sin(angle) * y - place) / edge
    return 2 ** -rng.uniform(0, 1) / (1 + np.exp(-np.clip(distance, -50, 50)))
