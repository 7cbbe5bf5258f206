"""What every engine can do.  No caller asks which one it has."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lldiffusion.config import ModelConfig

from ..memory import BESIDE, SAFETY, TILE, WHOLE, MemoryNeed, is_local, largest_tile_side, peak_bytes
from ..sampler import Step

Array = Any  # an engine's own array (NumPy, torch, device memory); host arrays are always accepted too
Floats = NDArray[np.float32]
Progress = Callable[[], None]  # called after every step
Shape = tuple[int, ...]  # of planes: (N, 3, H, W)


@dataclass(frozen=True, eq=False)  # told apart by identity, so that an engine can keep what it made of them
class Conditions:
    """What does not depend on the step, computed once per image."""

    low: Array  # y, (N, 3, H, W) in [-1, 1]
    color_map: Array  # C(y), (N, 3, H, W) in [-1, 1]
    features: tuple[Array, ...]  # E(y), coarse to fine
    level: Array | None = None  # (N, P, 8, 12), of the whole picture, see `engines.level`; None: the model has none
    window: Array | None = None  # (N, 4): top, left, bottom, right of `low` as fractions of the whole picture


class Engine(ABC):
    """Runs the graphs of a model; what it returns stays its own until `numpy` is called.

    The loop, the memory it needs and the tiles it asks for are shared; a backend with ways of its own overrides them.
    """

    _zeros: Floats = np.zeros((0, 0, 0, 0), np.float32)  # the last `zeros`
    memory_need: ClassVar[MemoryNeed] = MemoryNeed(stored=3.5, images=40)  # eager PyTorch's, until one is measured

    def level(self, thumbnail: Array) -> Array:
        """The level (N, P, 8, 12) of whole pictures reduced to (N, 3, 64, 96) in [-1, 1]; models with a level only."""
        raise NotImplementedError(f"{type(self).__name__} runs no model with a level")

    @abstractmethod
    def encode(self, low: Array) -> tuple[Array, ...]:
        """E(y): degradation features of (N, 3, H, W) in [-1, 1], H and W multiples of 32, coarse to fine."""

    @abstractmethod
    def color_map(self, low: Array) -> Array:
        """C(y), (N, 3, H, W) in [-1, 1]."""

    @abstractmethod
    def step(self, x: Array, conditions: Conditions, step: Step, previous: Array) -> tuple[Array, Array]:
        """(x_next, x0) of one step (see `engines.sampler`), all (N, 3, H, W) float32."""

    @abstractmethod
    def numpy(self, values: Array) -> Floats:
        """Bring values back to the host."""

    @abstractmethod
    def info(self) -> dict[str, str]:
        """What really runs: backend, version, device, precision ("fp32", "fp16", "bf16")."""

    @abstractmethod
    def free_memory(self) -> int:
        """Bytes that an image may take on the device this engine runs on."""

    def conditions(self, low: Array, level: Array | None = None, window: Array | None = None) -> Conditions:
        """Everything that the steps share, of low planes (N, 3, H, W) in [-1, 1]; level and window as `Conditions`."""
        return Conditions(low, self.color_map(low), self.encode(low), level, window)

    def denoise(
        self,
        conditions: Conditions,
        steps: tuple[Step, ...],
        x: Array,
        previous: Array,
        progress: Progress | None = None,
    ) -> Array:
        """The loop itself, on the engine's own arrays: `x` is x_T, `previous` zeros of its shape; returns x_0."""
        for step in steps:
            x, previous = self.step(x, conditions, step, previous)
            if progress is not None:
                progress()
        return x

    def sample(
        self,
        low: Floats,
        steps: tuple[Step, ...],
        noise: Floats,
        progress: Progress | None = None,
        level: Array | None = None,
        window: Array | None = None,
    ) -> Floats:
        """Enhance low images (N, 3, H, W) in [-1, 1] from x_T = noise; returns x_0, same shape, in about [-1, 1].

        `level` and `window`: as in `Conditions`.
        """
        conditions = self.conditions(low, level, window)
        return self.numpy(self.denoise(conditions, steps, noise, self.zeros(noise.shape), progress))

    def zeros(self, shape: Shape) -> Floats:
        """Zeros of this shape, not to be written to: what stands for x_0 before the first step, the last ones kept."""
        kept = self._zeros
        if kept.shape != shape:
            self._zeros = kept = np.zeros(shape, np.float32)
        return kept

    def peak_bytes(self, model: ModelConfig, shape: Shape) -> float:
        """Estimated peak of its memory for a batch of this shape run whole."""
        return shape[0] * peak_bytes(model, shape[2] * shape[3], self.memory_need)

    def tile_side(self, model: ModelConfig, shape: Shape) -> int | None:
        """None when it runs a batch of this shape whole, else the side in pixels of the largest tile it runs."""
        free, local = self.free_memory(), is_local(model)
        small = not local or math.prod((shape[0], *shape[2:])) <= WHOLE
        if small and self.peak_bytes(model, shape) < SAFETY * free:
            return None
        free = max(free - BESIDE * math.prod((shape[0], *shape[2:])), 0)
        side = largest_tile_side(free // shape[0], model, self.memory_need)
        return min(side, TILE) if local else side
