"""The laboratory's table: means and spread over seeds, and what differs by more than the noise of the seeds.

Every row has its own seeds, all rows the same noise, so its size is pooled over rows:
    s^2 = sum of squared deviations from each row's mean / sum of (seeds - 1)
    a difference of two means counts when it exceeds  t(0.975, sum of (seeds - 1)) * s * sqrt(1 / n + 1 / m)
One in twenty comparisons without any effect still does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from lldiffusion.errors import require

from ..markdown import mean_and_spread, table_lines
from .notebook import Run
from .rows import Row

# measure: head of its column, digits, what is better: +1 more, -1 less, 0 neither
COLUMNS = {
    "psnr": ("PSNR, dB", 2, 1),
    "ssim": ("SSIM", 3, 1),
    "gtmean_psnr": ("PSNR gtmean, dB", 2, 1),
    "gtmean_ssim": ("SSIM gtmean", 3, 1),
    "lpips": ("LPIPS", 3, -1),
    "brightness_abs": ("brightness error, /255", 1, -1),
    "niqe": ("NIQE", 2, -1),
}
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Difference:
    """A row against the one it changes, in one measure."""

    row: str
    against: str
    measure: str
    value: float  # mean of the row minus mean of the other
    threshold: float  # what noise alone would exceed once in twenty times

    @property
    def real(self) -> bool:
        """Whether it is more than noise."""
        return abs(self.value) > self.threshold


def values(runs: Sequence[Run], row: str, measure: str) -> list[float]:
    """A measure's values of all seeds of a row."""
    found = (run.means.get(measure) for run in runs if run.row == row)
    return [value for value in found if value is not None]


def differences(rows: Sequence[Row], runs: Sequence[Run]) -> list[Difference]:
    """Every row that was measured against the row it changes; none where no row has two seeds."""
    found = []
    for measure in COLUMNS:
        noise = _noise([values(runs, row.name, measure) for row in rows])
        for row in rows:
            mine, others = values(runs, row.name, measure), values(runs, row.against, measure)
            if noise and mine and others:
                spread, t = noise
                threshold = t * spread * math.sqrt(1 / len(mine) + 1 / len(others))
                found.append(Difference(row.name, row.against, measure, fmean(mine) - fmean(others), threshold))
    return found


def _noise(groups: Sequence[list[float]]) -> tuple[float, float] | None:
    """(s, t) of the docstring above; None without two seeds of any row."""
    freedom = sum(len(group) - 1 for group in groups if group)
    if not freedom:
        return None
    squares = sum((value - fmean(group)) ** 2 for group in groups if group for value in group)
    t = require("scipy.stats", "eval", "comparing rows").t.ppf((1 + CONFIDENCE) / 2, freedom)
    return math.sqrt(squares / freedom), float(t)


def to_markdown(rows: Sequence[Row], runs: Sequence[Run], facts: Sequence[str], left_out: Sequence[str]) -> str:
    """The table, what was learned, and how it was measured."""
    shown = [measure for measure in COLUMNS if any(values(runs, row.name, measure) for row in rows)]
    heads = ["row", *(COLUMNS[measure][0] for measure in shown), "s/image", "s/training step", "parameters, M"]
    lines = [
        "# Quality laboratory",
        "",
        *table_lines(heads, [_cells(row, runs, shown) for row in rows if _of(runs, row)]),
    ]
    lines += ["", "± is the standard deviation over seeds.", "", "## What was learned", ""]
    lines += [f"- {sentence}" for sentence in learned(rows, runs)]
    lines += ["", "## Rows", "", *(f"- **{row.name}**: {row.about}" for row in rows if _of(runs, row))]
    lines += [f"- {name}: not measured" for name in left_out]
    return "\n".join([*lines, "", "## How it was measured", "", *(f"- {fact}" for fact in facts)]) + "\n"


def learned(rows: Sequence[Row], runs: Sequence[Run]) -> list[str]:
    """One sentence a row: what it changed by more than the noise, or that it did not."""
    found = differences(rows, runs)
    if not found:
        return ["Nothing can be told from noise: that needs two seeds of a row."]
    sentences = []
    for row in rows:
        mine = [difference for difference in found if difference.row == row.name]
        told = [_told(difference) for difference in mine if difference.real]
        if mine:
            verdict = ", ".join(told) or f"no difference beyond the noise (PSNR {mine[0].value:+.2f} dB)"
            sentences.append(f"**{row.name}** against {row.against}: {verdict}")
    return sentences


def _told(difference: Difference) -> str:
    head, digits, sense = COLUMNS[difference.measure]
    name, _, unit = head.partition(", ")
    better = "better" if difference.value * sense > 0 else "worse"
    value = f"{difference.value:+.{digits}f}{unit if unit.startswith('/') else f' {unit}' if unit else ''}"
    return f"{name} {value} ({better}; noise {difference.threshold:.{digits}f})"


def _of(runs: Sequence[Run], row: Row) -> list[Run]:
    return [run for run in runs if run.row == row.name]


def _cells(row: Row, runs: Sequence[Run], shown: Sequence[str]) -> list[str]:
    mine = _of(runs, row)
    numbers = [mean_and_spread(values(runs, row.name, measure), COLUMNS[measure][1]) for measure in shown]
    steps = [run.step_seconds for run in mine if run.step_seconds is not None]
    times = [mean_and_spread(values(runs, row.name, "seconds"), 2), mean_and_spread(steps, 3)]
    return [row.name, *numbers, *times, f"{mine[0].parameters / 1e6:.2f}"]
