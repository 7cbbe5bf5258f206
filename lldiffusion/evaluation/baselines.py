"""Methods without a network, to see what a model is worth."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lldiffusion.errors import choose

from .metrics import Pixels, luminance

TARGET_BRIGHTNESS = 0.4  # in [0, 1]: where automatic gamma sends the mean luminance; a normally exposed photograph's
FIXED_GAMMA = 0.3  # exponent of `fixed-gamma`: suits LOL, so it is the stronger of the two baselines there


def as_float(pixels: Pixels) -> NDArray[np.float32]:
    """(H, W, 3) float32 in [0, 1]; uint8 is divided by 255."""
    scale = 255 if pixels.dtype == np.uint8 else 1
    return np.asarray(pixels, dtype=np.float32) / np.float32(scale)


def automatic_gamma(pixels: Pixels) -> NDArray[np.float32]:
    """x ** gamma with gamma = log(0.4) / log(mean luminance), at most 1: the mean grey becomes 0.4, nothing darker."""
    x = as_float(pixels)
    mean = np.clip(luminance(x).mean(), 1e-4, TARGET_BRIGHTNESS)
    return x ** np.float32(np.log(TARGET_BRIGHTNESS) / np.log(mean))


def fixed_gamma(pixels: Pixels) -> NDArray[np.float32]:
    """x ** 0.3, whatever the image."""
    return as_float(pixels) ** np.float32(FIXED_GAMMA)


def get_baseline(name: str) -> Callable[[Pixels], Pixels]:
    """The baseline called `name`, or an error with the nearest name."""
    return BASELINES[choose(name, BASELINES, "baseline")]


BASELINES: dict[str, Callable[[Pixels], Pixels]] = {
    "gamma": automatic_gamma,
    "fixed-gamma": fixed_gamma,
    "input": as_float,  # the low-light image itself
}
