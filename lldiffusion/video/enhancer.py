"""`VideoEnhancer`: frames in, frames out, stable over time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lldiffusion.buffers import Buffers
from lldiffusion.engines.backends.base import Floats
from lldiffusion.engines.enhancer import Enhancer
from lldiffusion.engines.level import thumbnail_of
from lldiffusion.engines.pipeline import Guidance, Pipeline
from lldiffusion.engines.pixels import check_pixels, fill_border, from_planes, to_planes
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
SELDOM = 4  # frames from one look at the light to the next, of a recurrent model
BLACK = 2.0**-10  # mean in [0, 1] below which a frame counts as black


class VideoEnhancer:
    """Enhances the frames of one video, in order.

    Sampling is deterministic and every frame gets the same noise field; the model's level (of a model without one, the
    means of its degradation features) is smoothed over time within a shot (see `stability.smoothing`) and starts anew
    at a cut (see `stability.scenes`).  A recurrent model starts from its result of the frame before instead of noise,
    at the beginning of a shot from zeros.  A shot's result does not depend on the shots before it.

    Args:
        enhancer: the model; several of the same model (one for each GPU) share the frames of a batch.
        smoothing: time constant in seconds; 0 takes every frame as it is.
        refresh: compute level and features on every k-th frame of a shot only.  Default: every frame, of a recurrent
            model every fourth, a seventh of whose time they are (`benchmarks.live` measures what that costs).
        warm_start: share of the noise put back onto the last result, moved along with the picture,
            to start from; 0 starts every frame from noise.  Needs the extra `video` and a batch of 1; not for a
            recurrent model.
        batch: frames enhanced together; results come that much later.  Default: one for each enhancer.  A recurrent
            model needs 1.
    Raises LLDiffusionError for a bad option.  One video at a time; the calls of one instance must not overlap.
    """

    def __init__(
        self,
        enhancer: Enhancer | Sequence[Enhancer],
        *,
        smoothing: float = 0.5,
        refresh: int | None = None,
        warm_start: float = 0.0,
        batch: int | None = None,
    ) -> None:
        self._enhancers = [enhancer] if isinstance(enhancer, Enhancer) else list(enhancer)
        self._batch = len(self._enhancers) if batch is None else batch
        _check(bool(self._enhancers), "no enhancer was given: give one, or one for each GPU")
        _check(0 <= smoothing < 1e6, f"smoothing {smoothing}: give a time in seconds, 0 to smooth nothing")
        _check(
            refresh is None or refresh >= 1,
            f"refresh {refresh}: give 1 to compute features on every frame, k for every k-th",
        )
        _check(0 <= warm_start <= 1, f"warm start {warm_start}: give a share of the noise from 0 (off) to 1")
        _check(self._batch >= 1, f"a batch of {batch} frames: give 1 or more")
        _check(
            not warm_start or self._batch == 1,
            f"a warm start needs a batch of 1, not {self._batch}: frames depend on each other",
        )
        self._recurrent = self._pipeline.recurrent
        name = self._enhancers[0].config.name
        _check(
            not self._recurrent or (self._batch == 1 and len(self._enhancers) == 1),
            f"model '{name}' starts each frame from its last result: give one enhancer and a batch of 1",
        )
        _check(
            not self._recurrent or not warm_start,
            f"warm start {warm_start}: model '{name}' starts from its last result anyway; leave it out",
        )
        self._smoothing = smoothing
        self._refresh = refresh or (SELDOM if self._recurrent else 1)
        self._warm = WarmStart(self._enhancers[0], warm_start) if warm_start else None
        self._pool = ThreadPoolExecutor(len(self._enhancers)) if len(self._enhancers) > 1 else None
        self._buffers = Buffers()
        self._pending: list[Frame] = []
        self._state: FrameState | None = None

    @property
    def _pipeline(self) -> Pipeline:
        """Of the first model; the others are the same."""
        return self._enhancers[0].pipeline

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
        planes, padded = self._planes(frames)
        statistics = [_measure(plane, frame) for plane, frame in zip(planes, frames, strict=True)]
        new_shot = starts_shot(self._state, statistics[0])
        compute = partial(self._compute, planes, [s.thumbnail for s in statistics])
        states = smooth_conditions(self._state, statistics, compute, self._smoothing, self._refresh)
        guidance = concatenate([state.guidance for state in states])
        last, before = states[-1], None if new_shot else self._state
        if self._warm is None:
            x = None if before is None else before.last
            x0 = self._distribute(len(frames), partial(self._sample, planes, padded, guidance, x))
        else:
            result, luma, kept = self._warm.render(frames[0].pixels, planes, guidance, before)
            x0, last = [result], replace(last, luma=luma, result=kept)
        one_by_one = (part[i : i + 1] for part in x0 for i in range(len(part)))
        done = [replace(f, pixels=self._pixels(result, f.pixels)) for f, result in zip(frames, one_by_one, strict=True)]
        if self._recurrent:
            last = replace(last, last=self._to_start_from(x0[0], padded.shape))
        self._state = last if self._refresh > 1 else replace(last, features=())
        return done

    def _planes(self, frames: list[Frame]) -> tuple[Floats, Floats]:
        """The frames' planes (N, 3, h, w) in [-1, 1], and the same padded, of which they are a part."""
        check_pixels(frames[0].pixels)
        height, width = frames[0].pixels.shape[:2]
        padded = self._buffers.take(self._pipeline.padded_shape((len(frames), 3, height, width)), np.float32)
        planes = padded[:, :, :height, :width]
        for i, frame in enumerate(frames):
            to_planes(frame.pixels, planes[i : i + 1])
        fill_border(padded, height, width)
        return planes, padded

    def _pixels(self, x0: Floats, like: NDArray[Any]) -> NDArray[Any]:
        """A result as pixels, in memory as `like` lies in it: planes, where it comes from a video."""
        room = None
        if like.dtype == np.float32 and like.strides[2] == max(like.strides):
            room = self._buffers.take((3, *like.shape[:2]), np.float32).transpose(1, 2, 0)
        return from_planes(x0, like[None], self._enhancers[0].gain, None if room is None else room[None])[0]

    def _to_start_from(self, x0: Floats, shape: tuple[int, ...]) -> Floats:
        """A result (1, 3, h, w) as what the next frame starts from: within [-1, 1], padded."""
        padded = self._buffers.take(shape, np.float32)
        height, width = x0.shape[2:]
        np.clip(x0, -1, 1, out=padded[:, :, :height, :width])
        fill_border(padded, height, width)
        return padded

    def _compute(self, planes: Floats, thumbnails: list[Floats], indices: list[int]) -> list[Guidance]:
        """Level and features of some frames of the batch."""
        chosen = planes if len(indices) == len(planes) else planes[indices]  # all of them: not copied
        features = self._refresh > 1 or not self._pipeline.has_level  # else they are made where needed

        small = np.concatenate([thumbnails[i] for i in indices]) if indices else np.empty(0, np.float32)

        def call(enhancer: Enhancer, part: slice) -> list[Guidance]:
            made = enhancer.pipeline.guidance(chosen[part], features, small[part])
            return [part_of(made, slice(i, i + 1)) for i in range(part.stop - part.start)]

        return [guidance for part in self._distribute(len(indices), call) for guidance in part]

    def _sample(
        self, planes: Floats, padded: Floats, guidance: Guidance, x: Floats | None, enhancer: Enhancer, part: slice
    ) -> Floats:
        lit = part_of(guidance, part)
        return enhancer.pipeline.sample(planes[part], enhancer.steps, x, lit, padded=padded[part])

    def _distribute(self, count: int, call: Callable[[Enhancer, slice], Value]) -> list[Value]:
        """Call every enhancer with its part of `count` frames, all at the same time; results in order."""
        bounds = np.linspace(0, count, len(self._enhancers) + 1).round().astype(int)
        parts = [(e, slice(a, b)) for e, a, b in zip(self._enhancers, bounds, bounds[1:]) if b > a]
        if self._pool is None:
            return [call(enhancer, part) for enhancer, part in parts]
        return list(self._pool.map(lambda pair: call(*pair), parts))


def _measure(plane: Floats, frame: Frame) -> FrameStatistics:
    """`plane`: (3, H, W) in [-1, 1]."""
    thumbnail = thumbnail_of(plane[None])  # of areas of one size: their mean is the picture's
    mean = max((float(thumbnail.mean(dtype=np.float64)) + 1) / 2, BLACK)
    return FrameStatistics(
        luma_grid=luma_grid(plane),
        size=plane.shape[1:],
        time=frame.time,
        brightness=math.log2(mean),
        thumbnail=thumbnail,
    )


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise LLDiffusionError(message)
