"""Medians, their noise, and when two of them differ.

Nothing is clipped or dropped.  The noise of a series is what measuring the same thing twice shows: the series is
dealt alternately into two, which were therefore measured in turn, and their medians are compared; where the
bootstrap's 95 % interval of the median is wider than that, it counts instead.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import median

from .record import percentile

RESAMPLES = 400  # of the bootstrap
FEWEST = 3  # samples below which nothing is said about noise
COVERAGE = 95  # percent, of the bootstrap's interval
STABLE = 0.05  # relative: warm-up ends when two calls in a row differ by less


def noise(seconds: Sequence[float]) -> float | None:
    """Relative uncertainty of the median of `seconds`; None for fewer than three samples."""
    if len(seconds) < FEWEST:
        return None
    middle = median(seconds)
    twice = abs(median(seconds[::2]) - median(seconds[1::2])) / middle
    low, high = interval(seconds)
    return max(twice, (high - low) / 2 / middle)


def interval(seconds: Sequence[float]) -> tuple[float, float]:
    """The bootstrap's 95 % interval of the median; the same samples give the same answer."""
    chance = random.Random(0)
    medians = [median(chance.choices(seconds, k=len(seconds))) for _ in range(RESAMPLES)]
    return percentile(medians, (100 - COVERAGE) / 2), percentile(medians, (100 + COVERAGE) / 2)


def differ(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two medians differ by more than both series' noise together."""
    noises = (noise(one), noise(other))
    if noises[0] is None or noises[1] is None:
        return False
    return abs(median(other) / median(one) - 1) > (noises[0] ** 2 + noises[1] ** 2) ** 0.5


def is_stable(seconds: Sequence[float]) -> bool:
    """Whether warm-up may end: the last two calls took the same time, nearly."""
    return len(seconds) >= 2 and abs(seconds[-1] - seconds[-2]) <= STABLE * min(seconds[-2:])
