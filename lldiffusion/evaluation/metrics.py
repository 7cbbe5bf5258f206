"""Full-reference metrics of two (H, W, 3) uint8 images, from scikit-image; the protocols say which is used when."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lldiffusion.errors import require
from lldiffusion.photometry import LUMA_BT601

Pixels = NDArray[Any]  # (H, W, 3) RGB, uint8 or float in [0, 1]
Uint8 = NDArray[np.uint8]  # (H, W, 3) RGB
Metric = Callable[[Uint8, Uint8], float]  # of (prediction, target)

SMALLEST = 11  # pixels on the short side: the Gaussian window of SSIM


def luminance(pixels: Pixels) -> NDArray[np.float64]:
    """BT.601 luma of (H, W, 3) in the unit of the input, float64, not rounded: the grey of every formula but NIQE's."""
    return np.asarray(pixels, dtype=np.float64) @ np.array(LUMA_BT601)  # (H, W)


def psnr(prediction: Uint8, target: Uint8) -> float:
    """Peak signal-to-noise ratio in dB over all pixels and channels; infinite for equal images."""
    metrics = require("skimage.metrics", "eval", "PSNR")
    with np.errstate(divide="ignore"):  # equal images
        return float(metrics.peak_signal_noise_ratio(target, prediction, data_range=255))


def ssim_gaussian(prediction: Uint8, target: Uint8) -> float:
    """SSIM of Wang et al. 2004, mean over the channels: Gaussian 11x11 window, sigma 1.5, borders of 5 px left out."""
    metrics = require("skimage.metrics", "eval", "SSIM")
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return float(metrics.structural_similarity(target, prediction, data_range=255, channel_axis=2, **options))


def ssim_uniform(prediction: Uint8, target: Uint8) -> float:
    """SSIM as scikit-image computes it by default: uniform 7x7 window, sample covariance, mean over the channels."""
    metrics = require("skimage.metrics", "eval", "SSIM")
    return float(metrics.structural_similarity(target, prediction, data_range=255, channel_axis=2))


def brightness_error(prediction: Uint8, target: Uint8) -> float:
    """Mean luminance of `prediction` minus that of `target`, in 1/255: positive where the prediction is too bright."""
    return float(luminance(prediction).mean() - luminance(target).mean())
