"""Measurements of the same work side by side: which is fastest, and which differences are more than noise."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..record import Measurement

Work = tuple[str, int, int, int, int]  # model, width, height, batch, steps


@dataclass(frozen=True)
class Comparison:
    """How many times as fast as something else."""

    factor: float
    noise: float | None  # relative, of both measurements together; None: not measured
    itself: bool = False

    @property
    def level(self) -> bool:
        """The difference is not more than the noise: none."""
        return self.noise is not None and 1 / (1 + self.noise) <= self.factor <= 1 + self.noise


@dataclass(frozen=True)
class Group:
    """What was timed on one model, size, batch and number of steps."""

    work: Work
    rows: tuple[Measurement, ...]  # with samples

    def compare(self, row: Measurement, backend: str) -> Comparison | None:
        """`row` against `backend` (float32 first); None without samples, or when that was not measured."""
        others = sorted((m for m in self.rows if m.backend == backend), key=lambda m: m.precision != "fp32")
        if not others or not row.seconds:
            return None
        return Comparison(1, 0, itself=True) if others[0] is row else compare(row, others[0])

    def fastest(self) -> tuple[Measurement, ...]:
        """The lowest median and those level with it, fastest first."""
        ordered = sorted(self.rows, key=lambda m: m.p50)
        return tuple(m for m in ordered if m is ordered[0] or compare(ordered[0], m).level)


def compare(row: Measurement, other: Measurement) -> Comparison:
    """How many times as fast `row` is as `other`, by their medians."""
    known = [m.noise for m in (row, other) if m.noise is not None]
    return Comparison(other.p50 / row.p50 if row.p50 else math.inf, math.hypot(*known) if len(known) == 2 else None)


def work_of(row: Measurement) -> Work:
    """What was done, whoever did it."""
    return (row.model, row.width, row.height, row.batch, row.steps)


def group(measurements: Iterable[Measurement]) -> dict[Work, Group]:
    """Everything timed, by the work that was done, in the order of the file."""
    rows: dict[Work, list[Measurement]] = {}
    for row in measurements:
        rows.setdefault(work_of(row), []).append(row)
    return {work: Group(work, tuple(m for m in members if m.seconds)) for work, members in rows.items()}


def ordered(groups: dict[Work, Group], rows: Iterable[Measurement]) -> list[Measurement]:
    """Rows of the same work together, fastest first.

    Networks come as in the file, then methods without one; small pictures before large ones, many steps before few.
    """
    names = list(dict.fromkeys(work[0] for work in groups))

    def place(row: Measurement) -> tuple[float, ...]:
        median = row.p50 if row.seconds else math.inf
        return (row.steps == 0, names.index(row.model), row.batch, row.pixels, -row.width, -row.steps, median)

    return sorted(rows, key=place)


def main_group(groups: dict[Work, Group], model: str) -> Group | None:
    """The work of a model that says most: the most backends, then a batch of one, the most steps, the smallest size."""
    own = [candidate for candidate in _networks(groups.values()) if candidate.work[0] == model]
    return max(own, key=_weight, default=None)


def _networks(groups: Iterable[Group]) -> Iterator[Group]:
    return (candidate for candidate in groups if candidate.rows and candidate.work[4] > 0)


def _weight(candidate: Group) -> tuple[int, bool, int, int]:
    _, width, height, batch, steps = candidate.work
    return (len(candidate.rows), batch == 1, steps, -width * height)


def models(groups: dict[Work, Group]) -> list[str]:
    """The networks that were timed, in the order of the file."""
    return list(dict.fromkeys(candidate.work[0] for candidate in _networks(groups.values())))
