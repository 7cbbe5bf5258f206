"""The one loop that every engine runs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .backends.base import Conditions, Engine, Floats
from .sampler import Step

Progress = Callable[[], None]  # called after every step


def sample(
    engine: Engine, low: Floats, steps: tuple[Step, ...], noise: Floats, progress: Progress | None = None
) -> Floats:
    """Enhance low images (N, 3, H, W) in [-1, 1] from x_T = noise; returns x_0, same shape, in about [-1, 1]."""
    conditions = Conditions(low, engine.color_map(low), engine.encode(low))
    x, previous = noise, np.zeros_like(noise)
    for step in steps:
        x, previous = engine.step(x, conditions, step, previous)
        if progress is not None:
            progress()
    return engine.numpy(x)


def make_noise(seed: int, shape: tuple[int, ...]) -> Floats:
    """x_T from a seed: the same on every backend and machine."""
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
