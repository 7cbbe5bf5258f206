"""The conditions of frames that follow each other: features computed when due, smoothed within a shot, kept between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from lldiffusion.engines.backends.base import Floats
from lldiffusion.engines.tiles import Features

from .memory import Memory
from .scenes import is_cut
from .smoothing import follow, means_of, with_brightness, with_means


@dataclass(frozen=True, eq=False)
class Glance:
    """What is seen of a frame before any network runs."""

    thumbnail: Floats
    size: tuple[int, int]  # height and width
    time: float  # seconds
    brightness: float  # log2 of the mean over pixels and channels, in [0, 1]


def begins_shot(memory: Memory | None, now: Glance) -> bool:
    """Whether nothing of what came before applies: the first frame, another size, or a cut."""
    return memory is None or memory.size != now.size or is_cut(memory.thumbnail, now.thumbnail)


def follow_frames(
    memory: Memory | None,
    glances: list[Glance],
    compute: Callable[[list[int]], list[Features]],
    smoothing: float,
    refresh: int,
) -> list[Memory]:
    """The memory after every frame; its `features` are those to use for that frame.

    Args:
        memory: after the frame before the first.
        compute: E(y) of the frames at these indices, each (1, C, h, w).
        smoothing, refresh: as of `VideoEnhancer`.
    Raises LLDiffusionError when features are not finite.
    """
    befores = [memory, *(_seen(glance) for glance in glances[:-1])]
    begins = [begins_shot(before, now) for before, now in zip(befores, glances, strict=True)]
    due = _due(memory, begins, refresh)
    fresh = dict(zip(due, compute(due), strict=True))
    after = []
    for i, now in enumerate(glances):
        if i in fresh:
            memory = _computed(None if begins[i] else memory, now, fresh[i], smoothing)
        else:
            assert memory is not None
            memory = _kept(memory, now)
        after.append(memory)
    return after


def _seen(glance: Glance) -> Memory:
    """Enough of a memory to tell whether the next frame begins a shot."""
    return Memory(glance.thumbnail, glance.size, glance.brightness, glance.time, 0, ())


def _due(memory: Memory | None, begins: list[bool], refresh: int) -> list[int]:
    """Indices of the frames whose features must be computed."""
    age = memory.age if memory is not None and memory.features else refresh  # nothing kept: due at once
    due = []
    for i, begin in enumerate(begins):
        age = 0 if begin or age + 1 >= refresh else age + 1
        due += [i] if age == 0 else []
    return due


def _computed(before: Memory | None, now: Glance, features: Features, smoothing: float) -> Memory:
    own = means_of(features)
    means = own if before is None else follow(before.means, own, now.time - before.time, smoothing)
    smooth = with_means(features, own, means)
    return Memory(now.thumbnail, now.size, now.brightness, now.time, 0, means, smooth)


def _kept(before: Memory, now: Glance) -> Memory:
    features = with_brightness(before.features, now.brightness - before.brightness)
    seen = {"thumbnail": now.thumbnail, "brightness": now.brightness, "age": before.age + 1}
    return replace(before, features=features, **seen)  # type: ignore[arg-type]


def joined(features: list[Features]) -> Features:
    """Features of several frames as those of one batch, (N, C, h, w)."""
    return tuple((np.concatenate([f for f, _ in maps]), maps[0][1]) for maps in zip(*features, strict=True))


def parted(features: Features) -> list[Features]:
    """The inverse: a batch's features, frame by frame."""
    return [tuple((f[i : i + 1], stride) for f, stride in features) for i in range(len(features[0][0]))]
