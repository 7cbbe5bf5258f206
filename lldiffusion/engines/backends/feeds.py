"""The inputs of the exported graphs, by name (the names are part of the bundle's contract)."""

from __future__ import annotations

import os

import numpy as np

from lldiffusion.limits import processors, processors_are_limited

from ..sampler import Step
from .base import Array, Conditions, Floats


def step_inputs(step: Step) -> dict[str, Floats]:
    """The timestep and the five coefficients, each of shape (1,); the exposure where the model has a level."""
    names = ("t", "k_x", "k_p", "a", "b", "c", *(("exposure",) if step.exposure is not None else ()))
    return {name: np.array([getattr(step, name)], dtype=np.float32) for name in names}


def condition_inputs(conditions: Conditions) -> dict[str, Array]:
    """What stays the same from step to step."""
    features = {f"feature_{i}": feature for i, feature in enumerate(conditions.features)}
    named = {"low": conditions.low, "color_map": conditions.color_map, **features}
    return named if conditions.level is None else named | {"level": conditions.level, "window": conditions.window}


def threads() -> int:
    """Threads for one operator: $OMP_NUM_THREADS, as PyTorch reads it; 0 lets the engine decide.

    Engines count the machine's processors: where this process may use fewer, they are told how many.
    """
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdigit():
        return int(given)
    return processors() if processors_are_limited() else 0
