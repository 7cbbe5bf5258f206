"""Several samples of one picture: their mean, and where they differ.

A diffusion model draws one of the pictures that fit the dark one.  Where draws from different noise agree, the dark
picture decided; where they differ, the model invents.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .backends.base import Progress
from .enhancer import Enhancer
from .sampler import make_noise

Pixels = NDArray[np.float32]


def mean_and_deviation(
    enhancer: Enhancer, pixels: Pixels, count: int, exposure: float | None = None, progress: Progress | None = None
) -> tuple[Pixels, Pixels]:
    """Enhance (H, W, 3) float32 in [0, 1] from `count` noise fields, one at a time, so that memory does not grow.

    Returns the mean (H, W, 3) and the standard deviation over the samples, averaged over channels, (H, W).  The first
    sample is the enhancer's own, so a `count` of 1 gives its picture and zeros.
    """
    total, squares = np.zeros(pixels.shape), np.zeros(pixels.shape)
    for i in range(count):
        noise = make_noise(enhancer.seed + i, (3, *pixels.shape[:2])).transpose(1, 2, 0) if i else None
        sample = enhancer(pixels, noise=noise, progress=progress, exposure=exposure).astype(np.float64)
        total += sample
        squares += sample * sample
    mean = total / count
    variance = np.maximum(squares / count - mean * mean, 0)
    return mean.astype(np.float32), np.sqrt(variance).mean(axis=2).astype(np.float32)
