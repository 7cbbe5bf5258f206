"""Several samples of one picture: their mean, and where they differ.

A diffusion model draws one of the pictures that fit the dark one.  Where draws from different noise agree, the dark
picture decided; where they differ, the model invents.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lldiffusion.errors import LLDiffusionError

from .backends.base import Progress
from .enhancer import Enhancer
from .pixels import STRIP
from .sampler import make_noise

Pixels = NDArray[np.float32]


def mean_and_deviation(
    enhancer: Enhancer, pixels: Pixels, count: int, exposure: float | None = None, progress: Progress | None = None
) -> tuple[Pixels, Pixels]:
    """Enhance (H, W, 3) float32 in [0, 1] from `count` noise fields, one at a time, so that memory does not grow.

    Returns the mean (H, W, 3) and the standard deviation over the samples, averaged over channels, (H, W).  The first
    sample is the enhancer's own, so a `count` of 1 gives its picture and zeros.  Raises LLDiffusionError for more of a
    recurrent model.
    """
    check_samples(enhancer, count)
    mean = enhancer(pixels, progress=progress, exposure=exposure)
    squares = np.zeros(pixels.shape if count > 1 else (*pixels.shape[:2], 0), np.float32)
    for i in range(1, count):
        noise = make_noise(enhancer.seed + i, (3, *pixels.shape[:2])).transpose(1, 2, 0)
        _add(mean, squares, enhancer(pixels, noise=noise, progress=progress, exposure=exposure), i + 1)
    deviation = np.zeros(pixels.shape[:2], np.float32)
    for top in range(0, len(squares) if count > 1 else 0, STRIP):
        deviation[top : top + STRIP] = np.sqrt(squares[top : top + STRIP] / count).mean(axis=2)
    return mean, deviation


def check_samples(enhancer: Enhancer, count: int) -> None:
    """Raises LLDiffusionError where several samples would be the same picture: a recurrent model draws no noise."""
    if count > 1 and enhancer.config.model.recurrent:
        raise LLDiffusionError(
            f"{count} samples: model '{enhancer.config.name}' has nothing to draw, it starts from its own last result "
            "and not from noise; leave --samples out"
        )


# Welford 1962: mean_n = mean + (x - mean) / n,  S_n = S + (x - mean) (x - mean_n)
def _add(mean: Pixels, squares: Pixels, sample: Pixels, number: int) -> None:
    """Take the sample of this number, from 2 on, into the mean and the sum of squared deviations, in place."""
    for top in range(0, len(mean), STRIP):
        strip = slice(top, top + STRIP)
        before = sample[strip] - mean[strip]
        mean[strip] += before / np.float32(number)
        squares[strip] += before * (sample[strip] - mean[strip])
