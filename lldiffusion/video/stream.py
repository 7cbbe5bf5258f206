"""Arrays in, arrays out: `Enhancer.stream`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lldiffusion.engines.enhancer import Enhancer
from lldiffusion.errors import LLDiffusionError

from .enhancer import VideoEnhancer
from .frame import Frame

TICK = Fraction(1, 1_000_000)  # seconds: the unit of the times given as floats


def stream(
    enhancer: Enhancer, frames: Iterable[NDArray[Any]], times: Iterable[float] | None, fps: float, **options: Any
) -> Iterator[NDArray[Any]]:
    """See `Enhancer.stream`; everything is checked when it is called, not when the first frame is asked for."""
    if not 0 < fps < 1e6:
        raise LLDiffusionError(f"fps {fps}: give the frames per second, above 0, or the times of the frames")
    video = VideoEnhancer(enhancer, **options)
    seconds = (i / fps for i in count()) if times is None else iter(times)
    return _run(video, enhancer.bgr, iter(frames), seconds)


def _run(
    video: VideoEnhancer, bgr: bool, frames: Iterator[NDArray[Any]], seconds: Iterator[float]
) -> Iterator[NDArray[Any]]:
    order = slice(None, None, -1) if bgr else slice(None)
    for number, pixels in enumerate(frames):
        time = next(seconds, None)
        if time is None or not np.isfinite(time):
            raise LLDiffusionError(f"frame {number} has no time (given: {time}): give one in seconds for every frame")
        rgb = pixels[..., order] if isinstance(pixels, np.ndarray) else pixels  # what is no array is refused below
        for done in video.enhance(Frame(rgb, round(Fraction(time) / TICK), TICK)):
            yield np.ascontiguousarray(done.pixels[..., order])
    for done in video.flush():
        yield np.ascontiguousarray(done.pixels[..., order])
