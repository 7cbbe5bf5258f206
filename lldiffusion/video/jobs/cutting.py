"""Where a job is cut into segments: by the clock, whatever was done before."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import islice

from ..frame import Frame


def split_into_segments(frames: Iterator[Frame], zero: Fraction, seconds: Fraction) -> Iterator[Iterator[Frame]]:
    """Cut frames into segments of `seconds`, counted from `zero`: the same segments wherever one begins to read.

    Each segment must be read to its end before the next is asked for.
    """
    waiting = list(islice(frames, 1))

    def number(frame: Frame) -> int:
        return int((frame.pts * frame.time_base - zero) // seconds)

    def segment() -> Iterator[Frame]:
        first = waiting.pop()
        yield first
        for frame in frames:
            if number(frame) != number(first):
                waiting.append(frame)
                return
            yield frame

    while waiting:
        yield segment()
