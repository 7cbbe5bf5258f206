"""Two result files against each other: what became slower, and what only looks so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

from lldiffusion.errors import LLDiffusionError

from .record import BenchResult, Measurement
from .statistics import FEWEST, noise

THRESHOLD = 0.1  # relative: a change of the median below this is not called one, whatever the noise
UNKNOWN = 0.25  # noise assumed of a series with fewer than three samples
SLOWER, FASTER, SAME, WORSE = "slower", "faster", "same", "worse pictures"
PSNR_DROP = 0.1  # dB against the truth that count as worse pictures
REGRESSIONS = (SLOWER, WORSE)


@dataclass(frozen=True)
class Change:
    """One measurement in both files."""

    old: Measurement
    new: Measurement
    ratio: float  # new median over old; NaN without times
    needed: float  # relative change that would count here: the threshold, or the noise where that is larger
    verdict: str  # SLOWER, FASTER, SAME or WORSE

    def to_dict(self) -> dict[str, Any]:
        """For JSON: medians in seconds; None without times."""
        row, timed = self.new, bool(self.old.seconds and self.new.seconds)
        table: dict[str, Any] = {"model": row.model, "backend": row.backend, "precision": row.precision}
        table |= {"size": row.size, "batch": row.batch, "steps": row.steps}
        table |= {"old": self.old.p50 if timed else None, "new": row.p50 if timed else None}
        table |= {"ratio": self.ratio if timed else None, "needed": self.needed, "verdict": self.verdict}
        return table


@dataclass(frozen=True)
class Comparison:
    """Everything that both files measured, and remarks on what cannot be compared."""

    changes: tuple[Change, ...]
    notes: tuple[str, ...]

    @property
    def regressions(self) -> tuple[Change, ...]:
        """What became slower or worse."""
        return tuple(change for change in self.changes if change.verdict in REGRESSIONS)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        changes = [change.to_dict() for change in self.changes]
        return {"changes": changes, "regressions": len(self.regressions), "notes": list(self.notes)}


def compare(old: BenchResult, new: BenchResult, threshold: float = THRESHOLD) -> Comparison:
    """Compare what both files measured.

    A median counts as changed when it moved by more than `threshold` and by more than both series' noise together.
    Raises LLDiffusionError when the files have nothing in common.
    """
    if not 0 < threshold < 10:
        raise LLDiffusionError(f"threshold {threshold:g}: a share such as 0.1 for 10 % is needed, above 0 and below 10")
    before = {row.key: row for row in old.measurements}
    common = [(before[row.key], row) for row in new.measurements if row.key in before]
    if not common:
        raise LLDiffusionError(
            "the two files share no measurement (model, backend, precision, size, batch and steps must all agree): "
            "measure the new one with the options of the old one"
        )
    changes = tuple(change(one, other, threshold) for one, other in common)
    return Comparison(changes, tuple(_notes(old, new, len(common))))


def change(old: Measurement, new: Measurement, threshold: float) -> Change:
    """The verdict on one measurement."""
    if not old.seconds or not new.seconds:
        return Change(old, new, float("nan"), threshold, WORSE if _worse(old, new) else SAME)
    ratio = median(new.seconds) / median(old.seconds)
    needed = max(threshold, (_noise(old) ** 2 + _noise(new) ** 2) ** 0.5)
    verdict = SAME
    if ratio > 1 + needed:
        verdict = SLOWER
    elif ratio < 1 / (1 + needed):
        verdict = FASTER
    return Change(old, new, ratio, needed, WORSE if verdict != SLOWER and _worse(old, new) else verdict)


def _noise(row: Measurement) -> float:
    measured = noise(row.seconds) if len(row.seconds) >= FEWEST else None
    return UNKNOWN if measured is None else measured


def _worse(old: Measurement, new: Measurement) -> bool:
    return old.psnr is not None and new.psnr is not None and new.psnr < old.psnr - PSNR_DROP


def _notes(old: BenchResult, new: BenchResult, common: int) -> Iterator[str]:
    """What makes a comparison doubtful."""
    mine, yours = old.machine, new.machine
    if (mine.cpu, mine.cores, mine.gpu) != (yours.cpu, yours.cores, yours.gpu):
        yield f"different machines: {_machine(old)} and {_machine(new)}: the times say little about the code"
    for package in sorted(set(old.versions) & set(new.versions)):
        if old.versions[package] != new.versions[package]:
            yield f"{package} {old.versions[package]} became {new.versions[package]}"
    for name, result in (("the old", old), ("the new", new)):
        if not result.complete:
            yield f"{name} run was stopped before its end"
        alone = len(result.measurements) - common
        if alone > 0:
            yield f"{alone} measurements are only in {name} file"


def _machine(result: BenchResult) -> str:
    return f"{result.machine.gpu or result.machine.cpu} ({result.machine.cores} cores)"
