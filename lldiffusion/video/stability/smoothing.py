"""Conditions that do not flicker: their means follow those of the frames slowly, in seconds rather than frames.

    m  <-  m + (1 - exp(-dt / tau)) (mean(f) - m),        f'  =  f + m - mean(f)

f is one degradation feature of a frame, its mean taken over the picture, channel by channel; dt is the time since the
last frame, as shown, so that a variable frame rate changes nothing.  Only means are smoothed: what a feature says about
places stays with the frame, or moving things would drag their surroundings along.

A model's level is its last feature, (N, 2, 1, 1): how bright the result shall be, and how bright the frame is.  Only
the first is smoothed, and becomes m; the second is a fact about the frame, which the denoiser divides by: an exposure
that wobbles is evened out at once.
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
    if not all(np.isfinite(mean).all() for mean in means):
        raise NotFiniteError("the network produced NaN or infinity for this frame: use float32, or report the frame")
    return means


def exponential_smoothing(before: Means, now: Means, elapsed: float, time_constant: float) -> Means:
    """m, `elapsed` seconds later.  Frames out of order count as simultaneous; a time constant of 0 takes `now`."""
    weight = np.float32(-math.expm1(-max(elapsed, 0.0) / time_constant) if time_constant else 1)
    return tuple(m + weight * (mean - m) for m, mean in zip(before, now, strict=True))


def replace_means(features: Features, measured: Means, wanted: Means) -> Features:
    """f': the features with other means; of a level, with another first number."""
    return tuple(
        (_level(feature, m) if feature.shape[2:] == (1, 1) else feature + (m - mean), stride)
        for (feature, stride), mean, m in zip(features, measured, wanted, strict=True)
    )


def shift_brightness(features: Features, change: float) -> Features:
    """Features kept for a frame that is brighter than theirs: log2 of the ratio of the means, for the level."""
    shift = np.array([0, change], np.float32)[None, :, None, None]  # (1, 2, 1, 1)
    return tuple((f + shift if f.shape[1:] == (2, 1, 1) else f, stride) for f, stride in features)


def _level(feature: Floats, wanted: Floats) -> Floats:
    return np.concatenate([wanted[:, :1], feature[:, 1:]], axis=1)
