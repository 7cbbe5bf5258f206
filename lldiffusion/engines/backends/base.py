"""What every engine can do.  No caller asks which one it has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..sampler import Step

Array = Any  # an engine's own array (NumPy, torch, device memory); host arrays are always accepted too
Floats = NDArray[np.float32]
Progress = Callable[[], None]  # called after every step


@dataclass(frozen=True, eq=False)  # told apart by identity, so that an engine can keep what it made of them
class Conditions:
    """What does not depend on the step, computed once per image."""

    low: Array  # y, (N, 3, H, W) in [-1, 1]
    color_map: Array  # C(y), (N, 3, H, W) in [-1, 1]
    features: tuple[Array, ...]  # E(y), coarse to fine; with config.model.level one more, (N, 2, 1, 1)


class Engine(Protocol):
    """Runs the three graphs of a model; what it returns stays its own until `numpy` is called."""

    def encode(self, low: Floats) -> tuple[Array, ...]:
        """E(y): degradation features of (N, 3, H, W) in [-1, 1], H and W multiples of 32, coarse to fine."""

    def color_map(self, low: Floats) -> Array:
        """C(y), (N, 3, H, W) in [-1, 1]."""

    def step(self, x: Array, conditions: Conditions, step: Step, previous: Array) -> tuple[Array, Array]:
        """(x_next, x0) of one step (see `engines.sampler`), all (N, 3, H, W) float32."""

    def numpy(self, values: Array) -> Floats:
        """Bring values back to the host."""

    def info(self) -> dict[str, str]:
        """What really runs: backend, version, device, precision."""

    def free_memory(self) -> int:
        """Bytes that an image may take on the device this engine runs on."""


@runtime_checkable
class WholeLoop(Protocol):
    """An engine that can replay the whole loop as one piece of work, for the sizes it was built for."""

    def sample(self, low: Floats, steps: tuple[Step, ...], noise: Floats, progress: Progress | None) -> Floats:
        """As `loop.sample`."""

    def tile_side(self, height: int, width: int) -> int | None:
        """None when it runs an image of this size whole, else the side of the largest tile it runs."""
