"""The conditions of frames that follow each other: features computed when due, smoothed within a shot, kept between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from lldiffusion.engines.backends.base import Floats
from lldiffusion.engines.tiles import Features

from .frame_state import FrameState
from .scenes import is_cut
from .smoothing import exponential_smoothing, feature_means, replace_means, shift_brightness


@dataclass(frozen=True, eq=False)
class FrameStatistics:
    """What is known of a frame before any network runs."""

    luma_grid: Floats  # see `scenes`
    size: tuple[int, int]  # height and width
    time: float  # seconds
    brightness: float  # log2 of the mean over pixels and channels, in [0, 1]


def starts_shot(state: FrameState | None, now: FrameStatistics) -> bool:
    """Whether nothing of what came before applies: the first frame, another size, or a cut."""
    return state is None or state.size != now.size or is_cut(state.luma_grid, now.luma_grid)


def smooth_conditions(
    state: FrameState | None,
    frames: list[FrameStatistics],
    compute: Callable[[list[int]], list[Features]],
    smoothing: float,
    refresh: int,
) -> list[FrameState]:
    """The state after every frame; its `features` are those to use for that frame.

    Args:
        state: after the frame before the first; None where there is none.
        compute: E(y) of the frames at these indices, each (1, C, h, w).
        smoothing, refresh: as of `VideoEnhancer`.
    Raises LLDiffusionError when features are not finite.
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
    """Indices of the frames whose features must be computed."""
    age = state.age if state is not None and state.features else refresh  # no features kept: due at once
    due = []
    for i, start in enumerate(starts):
        age = 0 if start or age + 1 >= refresh else age + 1
        due += [i] if age == 0 else []
    return due


def _refreshed_state(
    before: FrameState | None, now: FrameStatistics, features: Features, smoothing: float
) -> FrameState:
    measured = means = feature_means(features)
    if before is not None:
        means = exponential_smoothing(before.means, measured, now.time - before.time, smoothing)
    return FrameState(
        luma_grid=now.luma_grid,
        size=now.size,
        brightness=now.brightness,
        time=now.time,
        age=0,
        means=means,
        features=replace_means(features, measured, means),
    )


def _reused_state(before: FrameState, now: FrameStatistics) -> FrameState:
    features = shift_brightness(before.features, now.brightness - before.brightness)
    return replace(before, features=features, luma_grid=now.luma_grid, brightness=now.brightness, age=before.age + 1)


def concatenate_features(features: list[Features]) -> Features:
    """Features of several frames as those of one batch, (N, C, h, w)."""
    return tuple((np.concatenate([f for f, _ in maps]), maps[0][1]) for maps in zip(*features, strict=True))


def split_features(features: Features) -> list[Features]:
    """The inverse: a batch's features, frame by frame."""
    return [tuple((f[i : i + 1], stride) for f, stride in features) for i in range(len(features[0][0]))]
