"""An engine whose every answer is known: it lights a picture to its level, and its noise shows where it should not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lldiffusion.config import SamplingConfig, load_config
from lldiffusion.engines import Enhancer
from lldiffusion.engines.backends.base import Array, Conditions, Engine, Floats
from lldiffusion.engines.sampler import Step

GRAIN = 0.001  # of x_T in the result


class LevelEngine(Engine):
    """x0 = y scaled to the mean that is wanted, the square root of the low one, plus a little of x.

    With a level that says it: the same gain in every cell of the grid.  Without: the mean of the first feature, a map
    (N, 2, H/8, W/8) of the low picture, does.
    """

    def __init__(self) -> None:
        self.encoded = 0  # frames
        self.levels: list[float] = []  # log2 of the mean that is wanted of each frame that came in
        self.gains: list[float] = []  # log2 of the gain, likewise
        self.broken = False
        self.batches: list[int] = []

    def level(self, thumbnail: Array) -> Array:
        gain = -np.log2((thumbnail + 1).mean(axis=(1, 2, 3), keepdims=True) / 2) / 2
        return np.broadcast_to(gain, (len(thumbnail), 6, 8, 12)).astype(np.float32)

    def encode(self, low: Array) -> tuple[Array, ...]:
        self.encoded += len(low)
        n, _, h, w = low.shape
        u = (low + 1) / 2
        cells = u.reshape(n, 3, h // 8, 8, w // 8, 8).mean(axis=(1, 3, 5))[:, None]
        return (np.concatenate([cells, -cells], axis=1),)

    def color_map(self, low: Array) -> Array:
        return np.zeros_like(low)

    def step(self, x: Array, conditions: Conditions, step: Step, previous: Array) -> tuple[Array, Array]:
        u = (conditions.low + 1) / 2
        if conditions.level is None:
            gain = -np.log2(conditions.features[0][:, :1].mean(axis=(2, 3), keepdims=True)) / 2
        else:
            gain = conditions.level.mean(axis=(1, 2, 3), keepdims=True)
        self.gains += [float(value) for value in gain[:, 0, 0, 0]]
        self.levels += [float(value) for value in gain[:, 0, 0, 0] + np.log2(u.mean(axis=(1, 2, 3)))]
        self.batches.append(len(u))
        lit = u * np.exp2(gain)
        prediction = (2 * lit - 1 + GRAIN * x) * (np.nan if self.broken else 1)
        x0 = (step.k_x * x + step.k_p * prediction).astype(np.float32)
        return (step.a * x + step.b * x0 + step.c * previous).astype(np.float32), x0

    def numpy(self, values: Array) -> Floats:
        return np.asarray(values, dtype=np.float32)

    def info(self) -> dict[str, str]:
        return {"backend": "level"}

    def free_memory(self) -> int:
        return 1 << 40


def level_enhancer(
    steps: int = 1, tile: str | int = "auto", channels: str = "rgb", level: str = "grid"
) -> tuple[Enhancer, LevelEngine]:
    """An enhancer on a new `LevelEngine` (the schedule of `tiny`: x0 prediction, trailing)."""
    from dataclasses import replace

    engine = LevelEngine()
    config = replace(
        load_config("tiny", [f"model.level={level}"]), sampling=SamplingConfig("ddim", steps, "trailing", True)
    )
    return Enhancer(engine, config, tile=tile, channels=channels), engine


def flat(levels: Sequence[float], height: int = 64, width: int = 96) -> list[np.ndarray]:
    """Dark frames of one scene, a smooth ramp, times these gains; (H, W, 3) float32."""
    scene = np.linspace(0.02, 0.1, width, dtype=np.float32)[None, :, None] * np.ones((height, 1, 3), np.float32)
    return [(scene * gain).astype(np.float32) for gain in levels]
