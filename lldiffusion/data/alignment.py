"""How far a low picture lies from its normal one: sub-pixel shifts that survive a hundredfold change of brightness."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lldiffusion.errors import require

Pixels = NDArray[np.float32]
Plane = NDArray[np.float32]
_WINDOW = 1024  # pixels a side of the central part that is compared; keeps large photographs affordable
_STEPS = 10  # of a pixel: the resolution of the shift
_RELIABLE = 0.3  # agreement below which the two pictures have too little in common to measure a shift


@dataclass(frozen=True)
class Alignment:
    """Where the normal picture lies, seen from the low one."""

    down: float  # pixels
    right: float  # pixels
    agreement: float  # correlation of the local contrast of both, -1..1, after the shift

    @property
    def distance(self) -> float:
        """Length of the shift in pixels."""
        return float(np.hypot(self.down, self.right))

    @property
    def reliable(self) -> bool:
        """False for pictures that show too little, or different things: their shift means nothing."""
        return self.agreement >= _RELIABLE


def measure_alignment(low: Pixels, normal: Pixels) -> Alignment:
    """The shift between two pictures of one scene, to a tenth of a pixel; both (H, W, 3) in [0, 1], of one size.

    Phase correlation (Guizar-Sicairos, Thurman, Fienup, "Efficient subpixel image registration algorithms", Optics
    Letters 33(2), 2008, as in scikit-image), on local contrast in units of its own spread, which no change of exposure
    moves; the cross-power is not whitened, because in a dark picture most frequencies are noise.
    """
    registration = require("skimage.registration", "eval", "measuring alignment")
    a, b = _local_contrast(_centre(low)), _local_contrast(_centre(normal))
    if not (a.any() and b.any()):
        return Alignment(0.0, 0.0, 0.0)  # a picture without any detail
    window = np.sqrt(np.outer(np.hanning(a.shape[0]), np.hanning(a.shape[1]))).astype(np.float32)
    shift, _, _ = registration.phase_cross_correlation(
        b * window, a * window, upsample_factor=_STEPS, normalization=None
    )
    down, right = (float(value) for value in shift)
    return Alignment(down, right, _agreement(a, b, round(down), round(right)))


def _centre(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    top, left = max(0, (height - _WINDOW) // 2), max(0, (width - _WINDOW) // 2)
    return pixels[top : top + _WINDOW, left : left + _WINDOW]


def _local_contrast(pixels: Pixels) -> Plane:
    """(g - local mean) / local spread of the square root of grey, slightly smoothed against noise; (H, W)."""
    filters = require("scipy.ndimage", "eval", "measuring alignment")
    grey = filters.gaussian_filter(np.sqrt(pixels.mean(axis=2)), 1.0)
    detail = grey - filters.gaussian_filter(grey, 8.0)
    spread = np.sqrt(filters.uniform_filter(detail * detail, 33).clip(min=0))
    return (detail / (spread + 0.02 * grey.mean() + 1e-3)).astype(np.float32)


def _agreement(a: Plane, b: Plane, down: int, right: int) -> float:
    """Correlation of the parts of a and b that overlap once a is moved."""
    height, width = a.shape
    if abs(down) >= height - 1 or abs(right) >= width - 1:
        return 0.0
    there = b[max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)]
    here = a[max(0, -down) : height + min(0, -down), max(0, -right) : width + min(0, -right)]
    if not (here.std() > 0 and there.std() > 0):
        return 0.0
    return float(np.corrcoef(here.ravel(), there.ravel())[0, 1])
