"""The one loop that every engine runs."""

from __future__ import annotations

import numpy as np

from .backends.base import Array, Conditions, Engine, Floats, Progress, WholeLoop
from .sampler import Step

__all__ = ["Progress", "make_noise", "run", "run_steps", "sample"]


def sample(
    engine: Engine, low: Floats, steps: tuple[Step, ...], noise: Floats, progress: Progress | None = None
) -> Floats:
    """Enhance low images (N, 3, H, W) in [-1, 1] from x_T = noise; returns x_0, same shape, in about [-1, 1]."""
    if isinstance(engine, WholeLoop):
        return engine.sample(low, steps, noise, progress)
    return engine.numpy(run(engine, low, steps, noise, np.zeros_like(noise), progress))


def run(
    engine: Engine, low: Array, steps: tuple[Step, ...], x: Array, previous: Array, progress: Progress | None
) -> Array:
    """The steps themselves, on the engine's own arrays: x is x_T, previous zeros; returns x_0."""
    return run_steps(engine, Conditions(low, engine.color_map(low), engine.encode(low)), steps, x, previous, progress)


def run_steps(
    engine: Engine,
    conditions: Conditions,
    steps: tuple[Step, ...],
    x: Array,
    previous: Array,
    progress: Progress | None,
) -> Array:
    """As `run`, with conditions that the caller made (of a video: smoothed over time)."""
    for step in steps:
        x, previous = engine.step(x, conditions, step, previous)
        if progress is not None:
            progress()
    return x


def make_noise(seed: int, shape: tuple[int, ...]) -> Floats:
    """x_T from a seed: the same on every backend and machine."""
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
