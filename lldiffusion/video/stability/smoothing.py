"""Conditions that do not flicker: what says how bright a frame shall be follows slowly, in seconds rather than frames.

    m  <-  m + (1 - exp(-dt / tau)) (now - m)

dt is the time since the last frame, as shown, so that a variable frame rate changes nothing.  Of a model with a level,
m is the level (log2 gain) plus log2 of the frame's own mean: how bright the result shall be.  The frame's mean is taken
off again at once, so that an exposure that wobbles is evened out.  Of features, m is their mean over the picture,
channel by channel, f' = f + m - mean(f): what a feature says about places stays with the frame, or moving things would
drag their surroundings along.
"""

from __future__ import annotations

import math

import numpy as np

from lldiffusion.engines.backends.base import Floats
from lldiffusion.engines.pixels import NotFiniteError
from lldiffusion.engines.tiles import Features

Means = tuple[Floats, ...]  # (1, C, 1, 1) of every feature


def feature_means(features: Features) -> Means:
    """The means over the picture.  Raises NotFiniteError when they are not finite: they would spoil what follows."""
    means = tuple(feature.mean(axis=(2, 3), keepdims=True) for feature, _ in features)
    for mean in means:
        check_finite(mean)
    return means


def check_finite(values: Floats) -> None:
    """Raise NotFiniteError when something is NaN or infinite."""
    if not np.isfinite(values).all():
        raise NotFiniteError("the network produced NaN or infinity for this frame: use float32, or report the frame")


def exponential_smoothing(before: Means, now: Means, elapsed: float, time_constant: float) -> Means:
    """m, `elapsed` seconds later.  Frames out of order count as simultaneous; a time constant of 0 takes `now`."""
    weight = np.float32(-math.expm1(-max(elapsed, 0.0) / time_constant) if time_constant else 1)
    return tuple(m + weight * (value - m) for m, value in zip(before, now, strict=True))


def replace_means(features: Features, measured: Means, wanted: Means) -> Features:
    """f': the features with other means."""
    return tuple(
        (feature + (m - mean), stride) for (feature, stride), mean, m in zip(features, measured, wanted, strict=True)
    )
