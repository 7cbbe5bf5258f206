"""Validation: the averaged weights enhance held-out pairs through the same loop that users run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lldiffusion.config import Config
from lldiffusion.data.dataset import load_pixels
from lldiffusion.data.layouts import Pair
from lldiffusion.engines.backends.torch_eager import TorchEngine
from lldiffusion.engines.enhancer import Enhancer
from lldiffusion.model import LLDiffusion

GRID = 4  # pairs shown in TensorBoard


@dataclass(frozen=True)
class Validation:
    """Means over the held-out pairs, and a picture: low, enhanced and normal side by side."""

    psnr: float  # dB, 8-bit, no GT mean (protocol "standard")
    brightness: float  # signed error of the mean, in 1/255
    grid: NDArray[np.uint8]  # (H, W, 3)


def validate(model: LLDiffusion, config: Config, pairs: list[Pair]) -> Validation:
    """Enhance every pair's low image with the configuration's own sampler and compare with the normal one."""
    enhancer = Enhancer(TorchEngine(model), config)
    scores: list[float] = []
    errors: list[float] = []
    rows: list[NDArray[Any]] = []
    for pair in pairs:
        low, normal = load_pixels(pair.low), load_pixels(pair.normal)
        enhanced = np.round(enhancer(low) * 255) / 255
        scores.append(-10 * np.log10(max(float(np.mean((enhanced - normal) ** 2)), 1e-10)))
        errors.append(255 * float(np.mean(enhanced) - np.mean(normal)))
        if len(rows) < GRID:
            rows.append(np.concatenate([_small(low), _small(enhanced), _small(normal)], axis=1))
    width = min(row.shape[1] for row in rows)
    grid = np.concatenate([row[:, :width] for row in rows])
    return Validation(float(np.mean(scores)), float(np.mean(errors)), (grid * 255 + 0.5).astype(np.uint8))


def _small(pixels: NDArray[Any]) -> NDArray[Any]:
    return pixels[::2, ::2]
