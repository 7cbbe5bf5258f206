"""What an evaluation found: means with their spread over seeds, as JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from lldiffusion.atomic import write_text
from lldiffusion.versions import installed_versions

from .measure import Instruments, Score

SCHEMA = 1  # of the JSON file
PACKAGES = (
    *("numpy", "scipy", "scikit-image", "pyvips", "torch", "torchmetrics"),
    *("av", "opencv-python-headless"),
)


@dataclass(frozen=True)
class Mean:
    """The mean over images, averaged over seeds; `spread` is its standard deviation over seeds (0 for one seed)."""

    value: float
    spread: float


@dataclass(frozen=True)
class EvaluationReport:
    """Everything needed to print an evaluation, save it and repeat it."""

    method: dict[str, Any]  # kind (model, results, baseline), name, and for models weights, sampler, steps, ...
    data: str
    instruments: Instruments
    scores: list[Score]
    versions: dict[str, str] = field(default_factory=lambda: installed_versions(PACKAGES))

    @property
    def seeds(self) -> list[int]:
        """The seeds in the order they were run."""
        return list(dict.fromkeys(score.seed for score in self.scores))

    @property
    def images(self) -> int:
        """How many images were measured."""
        return len(self.scores) // max(len(self.seeds), 1)

    def mean(self, metric: str, protocol: str | None = None) -> Mean | None:
        """The mean of psnr, ssim, lpips under a protocol, or of niqe, brightness, brightness_abs, seconds."""
        per_seed = [self._mean_of_seed(seed, metric, protocol) for seed in self.seeds]
        values = [value for value in per_seed if value is not None]
        if not values:
            return None
        spread = stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else 0.0
        return Mean(fmean(values), spread)

    def _mean_of_seed(self, seed: int, metric: str, protocol: str | None) -> float | None:
        values = [value_of(score, metric, protocol) for score in self.scores if score.seed == seed]
        known = [value for value in values if value is not None and not math.isnan(value)]
        return fmean(known) if known else None

    def columns(self) -> list[tuple[str, str | None]]:
        """(metric, protocol) of everything that was measured, in the order of the tables."""
        of_protocols = [(metric, p.name) for p in self.instruments.protocols for metric in ("psnr", "ssim", "lpips")]
        every = [*of_protocols, ("niqe", None), ("brightness", None), ("brightness_abs", None), ("seconds", None)]
        return [(metric, protocol) for metric, protocol in every if self.mean(metric, protocol) is not None]

    def to_dict(self) -> dict[str, Any]:
        """The JSON document."""
        tools = self.instruments
        return {
            "schema": SCHEMA,
            "method": self.method,
            "data": {"folder": self.data, "images": self.images},
            "protocols": {protocol.name: protocol.definition for protocol in tools.protocols},
            "lpips": tools.lpips if isinstance(tools.lpips, str) else tools.lpips.definition,
            "niqe": tools.niqe if isinstance(tools.niqe, str) else f"parameters sha256 {tools.niqe.sha256}",
            "means": {_label(*column): self._summary(*column) for column in self.columns()},
            "images": [_flat(score, self.columns()) for score in self.scores],
            "versions": self.versions,
        }

    def _summary(self, metric: str, protocol: str | None) -> dict[str, Any]:
        mean = self.mean(metric, protocol)
        assert mean is not None
        return {"mean": _plain(mean.value), "spread_over_seeds": _plain(mean.spread), "seeds": len(self.seeds)}

    def save(self, path: Path) -> tuple[Path, Path]:
        """Write `path` (JSON) and the same name with .csv (one line per image and seed); each is replaced at once."""
        table = io.StringIO()
        writer = csv.DictWriter(table, ["name", "seed", *(_label(*column) for column in self.columns())])
        writer.writeheader()
        writer.writerows(_flat(score, self.columns()) for score in self.scores)
        other = path.with_suffix(".csv")
        write_text(path, json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n")
        write_text(other, table.getvalue())
        return path, other


def value_of(score: Score, metric: str, protocol: str | None) -> float | None:
    """One number of a score; None where it was not measured."""
    if protocol is not None:
        return score.protocols.get(protocol, {}).get(metric)
    if metric == "brightness_abs":
        return None if score.brightness is None else abs(score.brightness)
    value: float | None = getattr(score, metric)
    return value


def _label(metric: str, protocol: str | None) -> str:
    return f"{protocol}_{metric}" if protocol else metric


def _flat(score: Score, columns: list[tuple[str, str | None]]) -> dict[str, Any]:
    numbers = {_label(*column): _plain(value_of(score, *column)) for column in columns}
    return {"name": score.name, "seed": score.seed, **numbers}


def _plain(value: float | None) -> float | str | None:
    """JSON has neither infinity (equal images) nor NaN (nothing to measure)."""
    if value is None or math.isnan(value):
        return None
    return round(value, 6) if math.isfinite(value) else "inf"
