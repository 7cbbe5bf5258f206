"""One engine under measurement: whole calls as a user makes them, with a look at their stages."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lldiffusion.config import Config, ModelConfig
from lldiffusion.engines import Enhancer
from lldiffusion.engines.backends.base import Array, Conditions, Engine, Floats, Shape
from lldiffusion.engines.sampler import Step

from .engine_clock import Stopwatch
from .record import Stages

Pixels = NDArray[Any]  # (H, W, 3) or (N, H, W, 3)


@dataclass(frozen=True)
class TimedCall:
    """One timed call, in seconds."""

    seconds: float
    stages: Stages = field(default_factory=Stages)  # `step` is the median of this call's steps
    bare: float | None = None  # inside the bare engine
    memory: int | None = None  # peak resident bytes during the call
    device_memory: int | None = None

    def at(self, steps: int) -> float:
        """What the call would have taken with `steps` steps, from the time of its own single step."""
        assert self.stages.step is not None
        return self.seconds + (steps - 1) * self.stages.step

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class StageSpans:
    """When each call into the engine began and ended."""

    spans: list[tuple[str, float, float]] = field(default_factory=list)

    def stages(self, start: float, end: float) -> Stages:
        """Stages of a call that took from `start` to `end`."""
        steps = [stop - begin for name, begin, stop in self.spans if name == "step"]
        called = {name for name, _, _ in self.spans}
        once = {
            name: sum(stop - begin for kind, begin, stop in self.spans if kind == name) if name in called else None
            for name in ("level", "encoder", "color_map")
        }
        first, last = self.spans[0][1], max(stop for name, _, stop in self.spans if name == "step")
        return Stages(pre=first - start, post=end - last, step=median(steps), **once)


class StagedEngine(Engine):
    """An engine that marks its calls; it never offers a captured loop, whose stages could not be seen."""

    def __init__(self, engine: Engine, spans: StageSpans, settle: Callable[[], None]) -> None:
        self._engine = engine
        self._spans = spans
        self._settle = settle

    def level(self, thumbnail: Array) -> Array:
        return self._mark("level", lambda: self._engine.level(thumbnail))

    def encode(self, low: Array) -> tuple[Array, ...]:
        return self._mark("encoder", lambda: self._engine.encode(low))

    def color_map(self, low: Array) -> Array:
        return self._mark("color_map", lambda: self._engine.color_map(low))

    def step(self, x: Array, conditions: Conditions, step: Step, previous: Array) -> tuple[Array, Array]:
        return self._mark("step", lambda: self._engine.step(x, conditions, step, previous))

    def numpy(self, values: Array) -> Floats:
        return self._engine.numpy(values)

    def info(self) -> dict[str, str]:
        return self._engine.info()

    def free_memory(self) -> int:
        return self._engine.free_memory()

    def tile_side(self, model: ModelConfig, shape: Shape) -> int | None:
        return self._engine.tile_side(model, shape)

    def _mark(self, name: str, call: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        answer = call()
        self._settle()
        self._spans.spans.append((name, start, time.perf_counter()))
        return answer


class TimedEngine:
    """An engine with one picture.

    Args:
        settle: waits for the device; None on a CPU, where a call has ended when it returns.
        stopwatch: adds up the bare engine's time, where it can be seen.
        tile: as `Enhancer`'s.
    """

    def __init__(
        self,
        engine: Engine,
        config: Config,
        pixels: Pixels,
        settle: Callable[[], None] | None = None,
        stopwatch: Stopwatch | None = None,
        tile: str | int = "auto",
    ) -> None:
        self._engine = engine
        self._config = config
        self._pixels = pixels
        self._tile = tile
        self._settle = settle
        self._stopwatch = stopwatch
        self._spans = StageSpans()
        self._staged_engine = StagedEngine(engine, self._spans, settle or (lambda: None))
        self._enhancers: dict[tuple[int, int], Enhancer] = {}  # as a user keeps one: (its engine's id, steps)

    def enhance(self, pixels: Pixels, steps: int) -> Pixels:
        """The plain call."""
        return self._enhancer(self._engine, steps)(pixels)

    def call(self, steps: int) -> TimedCall:
        """Time one call.  On a GPU the stages come from a second one, since waiting between them costs time."""
        if self._settle is None:
            return self._staged(steps)
        enhancer = self._enhancer(self._engine, steps)
        self._settle()
        start = time.perf_counter()
        enhancer(self._pixels)  # ends with a download, which waits for the device
        self._settle()
        seconds = time.perf_counter() - start
        return replace(self._staged(steps), seconds=seconds, bare=None)

    def _staged(self, steps: int) -> TimedCall:
        enhancer = self._enhancer(self._staged_engine, steps)
        self._spans.spans.clear()
        if self._stopwatch is not None:
            self._stopwatch.take()
        start = time.perf_counter()
        enhancer(self._pixels)
        end = time.perf_counter()
        bare = self._stopwatch.take() if self._stopwatch is not None else None
        return TimedCall(end - start, self._spans.stages(start, end), bare)

    def _enhancer(self, engine: Engine, steps: int) -> Enhancer:
        if (id(engine), steps) not in self._enhancers:
            config = replace(self._config, sampling=replace(self._config.sampling, steps=steps))
            self._enhancers[id(engine), steps] = Enhancer(engine, config, tile=self._tile)
        return self._enhancers[id(engine), steps]


def as_batch(pixels: Pixels, batch: int) -> Pixels:
    """(H, W, 3) -> the same, or `batch` copies (N, H, W, 3)."""
    return pixels if batch == 1 else np.repeat(pixels[None], batch, axis=0)
