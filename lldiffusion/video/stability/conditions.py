"""The conditions of frames that follow each other: computed when due, smoothed within a shot, kept between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from lldiffusion.engines.backends.base import Floats
from lldiffusion.engines.level import lifted
from lldiffusion.engines.pipeline import Guidance

from .frame_state import FrameState
from .scenes import is_cut
from .smoothing import check_finite, exponential_smoothing, feature_means, replace_means


@dataclass(frozen=True, eq=False)
class FrameStatistics:
    """What is known of a frame before any network runs."""

    luma_grid: Floats  # see `scenes`
    size: tuple[int, int]  # height and width
    time: float  # seconds
    brightness: float  # log2 of the mean over pixels and channels, in [0, 1]
    thumbnail: Floats  # (1, 3, 64, 96), see `engines.level`


def starts_shot(state: FrameState | None, now: FrameStatistics) -> bool:
    """Whether nothing of what came before applies: the first frame, another size, or a cut."""
    return state is None or state.size != now.size or is_cut(state.luma_grid, now.luma_grid)


def smooth_conditions(
    state: FrameState | None,
    frames: list[FrameStatistics],
    compute: Callable[[list[int]], list[Guidance]],
    smoothing: float,
    refresh: int,
) -> list[FrameState]:
    """The state after every frame; its `guidance` is what to use for that frame.

    Args:
        state: after the frame before the first; None where there is none.
        compute: level and features of the frames at these indices, each of a batch of 1.
        smoothing, refresh: as of `VideoEnhancer`.
    Raises NotFiniteError when the network answered NaN or infinity.
    """
    previous = [state, *(_state_to_compare(frame) for frame in frames[:-1])]
    starts = [starts_shot(before, now) for before, now in zip(previous, frames, strict=True)]
    due = _due_frames(state, starts, refresh)
    fresh = dict(zip(due, compute(due), strict=True))
    states = []
    for i, now in enumerate(frames):
        if i in fresh:
            state = _refreshed_state(None if starts[i] else state, now, fresh[i], smoothing)
        else:
            assert state is not None
            state = _reused_state(state, now)
        states.append(state)
    return states


def _state_to_compare(frame: FrameStatistics) -> FrameState:
    """Enough of a state to tell whether the next frame starts a shot."""
    return FrameState(
        luma_grid=frame.luma_grid, size=frame.size, brightness=frame.brightness, time=frame.time, age=0, means=()
    )


def _due_frames(state: FrameState | None, starts: list[bool], refresh: int) -> list[int]:
    """Indices of the frames whose level and features must be computed."""
    age = state.age if state is not None and state.features else refresh  # no features kept: due at once
    due = []
    for i, start in enumerate(starts):
        age = 0 if start or age + 1 >= refresh else age + 1
        due += [i] if age == 0 else []
    return due


def _refreshed_state(
    before: FrameState | None, now: FrameStatistics, guidance: Guidance, smoothing: float
) -> FrameState:
    measured = feature_means(guidance.features)
    if guidance.level is not None:
        check_finite(guidance.level)
    now_values = measured if guidance.level is None else (*measured, lifted(guidance.level, now.brightness))
    smooth = now_values
    if before is not None:
        old_values = before.means if before.target is None else (*before.means, before.target)
        smooth = exponential_smoothing(old_values, now_values, now.time - before.time, smoothing)
    means = smooth[: len(measured)]
    return FrameState(
        luma_grid=now.luma_grid,
        size=now.size,
        brightness=now.brightness,
        time=now.time,
        age=0,
        means=means,
        features=replace_means(guidance.features, measured, means),
        target=None if guidance.level is None else smooth[-1],
    )


def _reused_state(before: FrameState, now: FrameStatistics) -> FrameState:
    return replace(before, luma_grid=now.luma_grid, brightness=now.brightness, age=before.age + 1)


def concatenate(guidances: list[Guidance]) -> Guidance:
    """What several frames are told, as of one batch."""
    levels = [guidance.level for guidance in guidances if guidance.level is not None]
    by_scale = zip(*(guidance.features for guidance in guidances), strict=True)
    features = tuple((np.concatenate([f for f, _ in maps]), maps[0][1]) for maps in by_scale)
    return Guidance(np.concatenate(levels) if levels else None, features)


def part_of(guidance: Guidance, part: slice) -> Guidance:
    """What some frames of a batch are told."""
    level = None if guidance.level is None else guidance.level[part]
    return Guidance(level, tuple((feature[part], stride) for feature, stride in guidance.features))
