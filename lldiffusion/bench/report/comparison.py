"""Measurements of the same work side by side: which backend is fastest, and which differences are more than noise."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from ..peers import PEERS
from ..record import BenchResult, Measurement
from .units import plain, steps_in_words, with_unit

Work = tuple[str, int, int, int, int]  # model, width, height, batch, steps
BASELINES = {"eager-authors": "the authors' way", "eager": "tuned eager"}


@dataclass(frozen=True)
class Speedup:
    """How many times as fast as something else."""

    factor: float
    noise: float | None  # relative, of both measurements together; None: not measured
    itself: bool = False

    @property
    def within_noise(self) -> bool:
        """Whether the difference is not more than the noise: none."""
        return self.noise is not None and 1 / (1 + self.noise) <= self.factor <= 1 + self.noise


@dataclass(frozen=True)
class Workload:
    """What was timed on one model, size, batch and number of steps."""

    work: Work
    rows: tuple[Measurement, ...]  # with samples

    def speedup(self, row: Measurement, backend: str) -> Speedup | None:
        """`row` beside `backend` (float32 first); None without samples, or when that was not measured."""
        others = sorted((m for m in self.rows if m.backend == backend), key=lambda m: m.precision != "fp32")
        if not others or not row.seconds:
            return None
        return Speedup(1, 0, itself=True) if others[0] is row else speedup(row, others[0])

    def fastest(self) -> tuple[Measurement, ...]:
        """The lowest median and those that differ from it by noise only, fastest first."""
        ordered = sorted(self.rows, key=lambda m: m.p50)
        return tuple(m for m in ordered if m is ordered[0] or speedup(ordered[0], m).within_noise)


def speedup(row: Measurement, other: Measurement) -> Speedup:
    """How many times as fast `row` is as `other`, by their medians."""
    known = [m.noise for m in (row, other) if m.noise is not None]
    return Speedup(other.p50 / row.p50 if row.p50 else math.inf, math.hypot(*known) if len(known) == 2 else None)


def work_of(row: Measurement) -> Work:
    """What was done, whoever did it."""
    return (row.model, row.width, row.height, row.batch, row.steps)


def workloads(measurements: Iterable[Measurement]) -> dict[Work, Workload]:
    """Everything timed, by the work that was done, in the order of the file."""
    rows: dict[Work, list[Measurement]] = {}
    for row in measurements:
        rows.setdefault(work_of(row), []).append(row)
    return {work: Workload(work, tuple(m for m in members if m.seconds)) for work, members in rows.items()}


def ordered(loads: dict[Work, Workload], rows: Iterable[Measurement]) -> list[Measurement]:
    """Rows of the same work together, fastest first.

    Networks come as in the file, then methods without one; small pictures before large ones, many steps before few.
    """
    names = list(dict.fromkeys(work[0] for work in loads))

    def place(row: Measurement) -> tuple[float, ...]:
        median = row.p50 if row.seconds else math.inf
        return (row.steps == 0, names.index(row.model), row.batch, row.pixels, -row.width, -row.steps, median)

    return sorted(rows, key=place)


def main_workloads(measurements: Iterable[Measurement]) -> list[Workload]:
    """The work that says most of each network, in the order of the file.

    That is the work with the most backends; among equals a batch of one, the most steps, the smallest size.
    """
    best: dict[str, Workload] = {}
    for load in workloads(measurements).values():
        if load.rows and load.work[4] > 0:
            best[load.work[0]] = max(best.get(load.work[0], load), load, key=_weight)
    return list(best.values())


def _weight(load: Workload) -> tuple[int, bool, int, int]:
    _, width, height, batch, steps = load.work
    return (len(load.rows), batch == 1, steps, -width * height)


@dataclass(frozen=True)
class Verdict:
    """The best of one model at its main size and number of steps."""

    model: str
    what: str  # "600x400, 25 steps"
    winner: str
    time: str
    details: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """All of it, on one line."""
        return f"{self.winner} is fastest at {self.what}: {self.time}" + "".join(f"; {text}" for text in self.details)


def verdicts(result: BenchResult) -> list[Verdict]:
    """One for each model that was timed."""
    return [_verdict(load) for load in main_workloads(result.measurements)]


def _verdict(load: Workload) -> Verdict:
    model, width, height, batch, steps = load.work
    winner, *equals = load.fastest()
    what = f"{width}x{height}, {steps_in_words(steps)}" + (f", batch {batch}" if batch != 1 else "")
    details = [f"{', '.join(map(_name, equals))} the same within the noise"] if equals else []
    for backend, words in BASELINES.items():
        found = load.speedup(winner, backend)
        if found is not None and not found.itself:
            details.append(_told(found, words))
    if winner.over_limit is not None:
        details.append(f"{winner.over_limit:.2f} times the machine's limit")
    return Verdict(plain(model, 60), what, _name(winner), with_unit("seconds", winner.p50), tuple(details))


def _told(found: Speedup, words: str) -> str:
    if found.within_noise:
        return f"the same as {words}"
    return f"{found.factor:.2f} times as fast as {words}" + (" (noise unknown)" if found.noise is None else "")


def _name(row: Measurement) -> str:
    return plain(f"{row.backend} {row.precision}".strip(), 40)


def facts(result: BenchResult) -> list[tuple[str, str]]:
    """(name, value) of machine, date, commit, versions, command; empty ones are left out."""
    machine = result.machine
    gpu = f"{machine.gpu}, {with_unit('bytes', machine.gpu_memory)}" if machine.gpu else ""
    pairs = [
        ("machine", f"{machine.cpu}, {machine.cores} cores, {with_unit('bytes', machine.memory)}, {machine.system}"),
        ("GPU", gpu),
        ("conditions", ", ".join(f"{name} {value}" for name, value in machine.conditions.items())),
        ("date", result.date + ("" if result.complete else " (stopped before all was measured)")),
        ("commit", result.commit),
        ("versions", ", ".join(f"{name} {value}" for name, value in result.versions.items())),
        ("command", result.command),
    ]
    return [(name, plain(value, 600)) for name, value in pairs if value]


def explained_backends(result: BenchResult) -> list[tuple[str, str]]:
    """(backend, what it is) of the backends that were measured and are known."""
    names = dict.fromkeys(m.backend for m in result.measurements)
    return [(name, PEERS[name].about) for name in names if name in PEERS]
