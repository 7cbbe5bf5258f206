"""`VideoEnhancer`: frames in, frames out, stable over time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TypeVar

import numpy as np

from lldiffusion.engines.backends.base import Floats
from lldiffusion.engines.enhancer import Enhancer
from lldiffusion.engines.pipeline import Guidance
from lldiffusion.engines.pixels import from_planes, to_planes
from lldiffusion.errors import LLDiffusionError

from .frame import Frame
from .stability.conditions import (
    FrameStatistics,
    concatenate,
    part_of,
    smooth_conditions,
    starts_shot,
)
from .stability.frame_state import FrameState, StateArrays
from .stability.scenes import luma_grid
from .stability.warm_start import WarmStart

Value = TypeVar("Value")
BLACK = 2.0**-10  # mean in [0, 1] below which a frame counts as black


class VideoEnhancer:
    """Enhances the frames of one video, in order.

    Sampling is deterministic and every frame gets the same noise field; the model's level (of a model without one, the
    means of its degradation features) is smoothed over time within a shot (see `stability.smoothing`) and starts anew
    at a cut (see `stability.scenes`).  A shot's result does not depend on the shots before it.

    Args:
        enhancer: the model; several of the same model (one for each GPU) share the frames of a batch.
        smoothing: time constant in seconds; 0 takes every frame as it is.
        refresh: compute level and features on every k-th frame of a shot only.
        warm_start: share of the noise put back onto the last result, moved along with the picture,
            to start from; 0 starts every frame from noise.  Needs the extra `video` and a batch of 1.
        batch: frames enhanced together; results come that much later.  Default: one for each enhancer.
    Raises LLDiffusionError for a bad option.  One video at a time; the calls of one instance must not overlap.
    """

    def __init__(
        self,
        enhancer: Enhancer | Sequence[Enhancer],
        *,
        smoothing: float = 0.5,
        refresh: int = 1,
        warm_start: float = 0.0,
        batch: int | None = None,
    ) -> None:
        self._enhancers = [enhancer] if isinstance(enhancer, Enhancer) else list(enhancer)
        self._batch = len(self._enhancers) if batch is None else batch
        _check(bool(self._enhancers), "no enhancer was given: give one, or one for each GPU")
        _check(0 <= smoothing < 1e6, f"smoothing {smoothing}: give a time in seconds, 0 to smooth nothing")
        _check(refresh >= 1, f"refresh {refresh}: give 1 to compute features on every frame, k for every k-th")
        _check(0 <= warm_start <= 1, f"warm start {warm_start}: give a share of the noise from 0 (off) to 1")
        _check(self._batch >= 1, f"a batch of {batch} frames: give 1 or more")
        _check(
            not warm_start or self._batch == 1,
            f"a warm start needs a batch of 1, not {self._batch}: frames depend on each other",
        )
        self._smoothing = smoothing
        self._refresh = refresh
        self._warm = WarmStart(self._enhancers[0], warm_start) if warm_start else None
        self._pool = ThreadPoolExecutor(len(self._enhancers)) if len(self._enhancers) > 1 else None
        self._pending: list[Frame] = []
        self._state: FrameState | None = None

    def enhance(self, frame: Frame) -> list[Frame]:
        """Take one frame, return those that are ready (none until a batch is full).

        When it raises (LLDiffusionError for a bad frame or a result that is not finite), nothing was changed: the
        frame may be given again, here or to another VideoEnhancer with this one's state.
        """
        if self._pending and self._pending[0].pixels.shape != frame.pixels.shape:
            ready = self.flush()
            return ready + self.enhance(frame)
        frames = [*self._pending, frame]
        if len(frames) < self._batch:
            self._pending = frames
            return []
        ready = self._process(frames)
        self._pending = []
        return ready

    def flush(self) -> list[Frame]:
        """The frames that still wait for their batch."""
        ready = self._process(self._pending) if self._pending else []
        self._pending = []
        return ready

    def state(self) -> StateArrays:
        """Everything needed to go on from here bit for bit; empty before the first frame.

        Raises RuntimeError while frames wait for their batch: call `flush` first.
        """
        if self._pending:
            raise RuntimeError(f"{len(self._pending)} frames wait for their batch: call flush() before state()")
        return self._state.to_arrays() if self._state else {}

    def restore(self, state: StateArrays) -> None:
        """Go on from what `state` returned.  Raises LLDiffusionError when it is something else."""
        self._state = FrameState.from_arrays(state) if state else None
        self._pending = []

    def reset(self) -> None:
        """Forget everything: the next frame begins a new shot."""
        self._state = None
        self._pending = []

    def close(self) -> None:
        """End the threads that serve several enhancers; the enhancers stay open."""
        if self._pool is not None:
            self._pool.shutdown()

    # -- a batch

    def _process(self, frames: list[Frame]) -> list[Frame]:
        """Enhance frames of one size that follow each other; the state changes only when all went well."""
        planes = np.concatenate([to_planes(frame.pixels) for frame in frames])  # (N, 3, h, w)
        statistics = [_measure(plane, frame) for plane, frame in zip(planes, frames, strict=True)]
        new_shot = starts_shot(self._state, statistics[0])
        compute = partial(self._compute, planes)
        states = smooth_conditions(self._state, statistics, compute, self._smoothing, self._refresh)
        guidance = concatenate([state.guidance for state in states])
        last = states[-1]
        if self._warm is None:
            x0 = np.concatenate(self._distribute(len(frames), partial(self._sample, planes, guidance)))
        else:
            before = None if new_shot else self._state
            x0, luma, result = self._warm.render(frames[0].pixels, planes, guidance, before)
            last = replace(last, luma=luma, result=result)
        gain = self._enhancers[0].gain
        done = [replace(frame, pixels=from_planes(x0[i : i + 1], frame.pixels, gain)) for i, frame in enumerate(frames)]
        self._state = last if self._refresh > 1 else replace(last, features=())
        return done

    def _compute(self, planes: Floats, indices: list[int]) -> list[Guidance]:
        """Level and features of some frames of the batch."""
        chosen = planes[indices]
        features = self._refresh > 1 or not self._enhancers[0].pipeline.has_level  # else they are made where needed

        def call(enhancer: Enhancer, part: slice) -> list[Guidance]:
            made = enhancer.pipeline.guidance(chosen[part], features)
            return [part_of(made, slice(i, i + 1)) for i in range(part.stop - part.start)]

        return [guidance for part in self._distribute(len(indices), call) for guidance in part]

    def _sample(self, planes: Floats, guidance: Guidance, enhancer: Enhancer, part: slice) -> Floats:
        return enhancer.pipeline.sample(planes[part], enhancer.steps, guidance=part_of(guidance, part))

    def _distribute(self, count: int, call: Callable[[Enhancer, slice], Value]) -> list[Value]:
        """Call every enhancer with its part of `count` frames, all at the same time; results in order."""
        bounds = np.linspace(0, count, len(self._enhancers) + 1).round().astype(int)
        parts = [(e, slice(a, b)) for e, a, b in zip(self._enhancers, bounds, bounds[1:]) if b > a]
        if self._pool is None:
            return [call(enhancer, part) for enhancer, part in parts]
        return list(self._pool.map(lambda pair: call(*pair), parts))


def _measure(plane: Floats, frame: Frame) -> FrameStatistics:
    """`plane`: (3, H, W) in [-1, 1]."""
    mean = max(float((plane.mean(dtype=np.float64) + 1) / 2), BLACK)
    return FrameStatistics(
        luma_grid=luma_grid(plane), size=plane.shape[1:], time=frame.time, brightness=math.log2(mean)
    )


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise LLDiffusionError(message)
