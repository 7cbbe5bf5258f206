"""Arrays in, arrays out: `Enhancer.stream`."""

from __future__ import annotations

import time
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
from .reading.live import LiveFigures
from .reading.newest import Newest

TICK = Fraction(1, 1_000_000)  # seconds: the unit of the times given as floats


def stream(
    enhancer: Enhancer,
    frames: Iterable[NDArray[Any]],
    times: Iterable[float] | None,
    fps: float,
    live: bool = False,
    **options: Any,
) -> Iterator[NDArray[Any]]:
    """See `Enhancer.stream`; everything is checked when it is called, not when the first frame is asked for."""
    if not 0 < fps < 1e6:
        raise LLDiffusionError(f"fps {fps}: give the frames per second, above 0, or the times of the frames")
    video = VideoEnhancer(enhancer, **options)
    if live:
        return LiveStream(video, enhancer.bgr, zip(frames, times) if times is not None else ((f, None) for f in frames))
    seconds = (i / fps for i in count()) if times is None else iter(times)
    return _run(video, enhancer.bgr, _timed(frames, seconds))


class LiveStream(Iterator[NDArray[Any]]):
    """Results of the newest frames: those are read in a thread of their own, as fast as they come.

    Args:
        frames: each with its time in seconds; None: when it came in.
    """

    def __init__(self, video: VideoEnhancer, bgr: bool, frames: Iterator[tuple[NDArray[Any], float | None]]) -> None:
        self.figures = LiveFigures()  # frames read and dropped, and latencies, so far
        self._newest = Newest(frames)
        self._arrived = 0.0
        self._results = _run(video, bgr, self._taken())

    def __next__(self) -> NDArray[Any]:
        result = next(self._results)
        self.figures.latencies.append(time.monotonic() - self._arrived)
        return result

    def close(self) -> None:
        """Stop reading frames.  One that is waited for inside of `frames` is left to itself."""
        self._newest.close()

    def _taken(self) -> Iterator[tuple[NDArray[Any], float]]:
        for (pixels, seconds), arrived in self._newest:
            self._arrived = arrived
            self.figures.read, self.figures.dropped = self._newest.read, self._newest.dropped
            yield pixels, arrived if seconds is None else seconds


def _timed(frames: Iterable[NDArray[Any]], seconds: Iterator[float]) -> Iterator[tuple[NDArray[Any], float | None]]:
    return ((pixels, next(seconds, None)) for pixels in frames)


def _run(
    video: VideoEnhancer, bgr: bool, frames: Iterator[tuple[NDArray[Any], float | None]]
) -> Iterator[NDArray[Any]]:
    order = slice(None, None, -1) if bgr else slice(None)
    for number, (pixels, seconds) in enumerate(frames):
        if seconds is None or not np.isfinite(seconds):
            raise LLDiffusionError(
                f"frame {number} has no time (given: {seconds}): give one in seconds for every frame"
            )
        rgb = pixels[..., order] if isinstance(pixels, np.ndarray) else pixels  # what is no array is refused below
        for done in video.enhance(Frame(rgb, round(Fraction(seconds) / TICK), TICK)):
            yield np.ascontiguousarray(done.pixels[..., order])
    for done in video.flush():
        yield np.ascontiguousarray(done.pixels[..., order])
