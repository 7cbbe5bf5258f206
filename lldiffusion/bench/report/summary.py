"""What a reader must know before the first number, and the first sentence about each model."""

from __future__ import annotations

from dataclasses import dataclass

from ..peers import PEERS
from ..record import Measurement, Result
from .comparison import Comparison, Group, group, main_group, models
from .units import plain, steps_in_words, with_unit

BASELINES = {"eager-authors": "the authors' way", "eager": "tuned eager"}


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


def facts(result: Result) -> list[tuple[str, str]]:
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


def peers(result: Result) -> list[tuple[str, str]]:
    """(backend, what it is) of the backends that were measured and are known."""
    names = dict.fromkeys(m.backend for m in result.measurements)
    return [(name, PEERS[name].about) for name in names if name in PEERS]


def verdicts(result: Result) -> list[Verdict]:
    """One for each model that was timed."""
    groups = group(result.measurements)
    chosen = [main_group(groups, model) for model in models(groups)]
    return [_verdict(candidate) for candidate in chosen if candidate is not None]


def _verdict(best: Group) -> Verdict:
    model, width, height, batch, steps = best.work
    winner, *level = best.fastest()
    what = f"{width}x{height}, {steps_in_words(steps)}" + (f", batch {batch}" if batch != 1 else "")
    compared = [(best.compare(winner, backend), words) for backend, words in BASELINES.items()]
    details = [
        _against(comparison, words)
        for comparison, words in compared
        if comparison is not None and not comparison.itself
    ]
    if level:
        details.insert(0, f"{', '.join(map(_name, level))} level with it")
    if winner.over_limit is not None:
        details.append(f"{winner.over_limit:.2f} times the machine's limit")
    return Verdict(plain(model, 60), what, _name(winner), with_unit("seconds", winner.p50), tuple(details))


def _against(comparison: Comparison, words: str) -> str:
    if comparison.level:
        return f"level with {words}"
    return f"{comparison.factor:.2f} times as fast as {words}" + (
        " (noise unknown)" if comparison.noise is None else ""
    )


def _name(row: Measurement) -> str:
    return plain(f"{row.backend} {row.precision}".strip(), 40)
