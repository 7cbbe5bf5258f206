"""What the laboratory keeps: every finished run, in one JSON file that is written again after each."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lldiffusion.config import Config
from lldiffusion.tables import build

from ..result_file import read_result, write_result

MEASURES = ("psnr", "ssim", "gtmean_psnr", "gtmean_ssim", "lpips", "brightness", "brightness_abs", "niqe", "seconds")


@dataclass(frozen=True)
class Run:
    """One row trained with one seed, measured on the held-out pairs; means over the images."""

    row: str
    seed: int
    key: str  # of everything that decides the result
    steps: int  # optimiser steps
    step_seconds: float | None  # median of a training step; None: too few steps to say
    parameters: int  # encoder and denoiser
    images: int  # held-out pairs
    means: dict[str, float | None]  # of MEASURES; brightness in 1/255, seconds an image


@dataclass
class Notebook:
    """The finished runs; the file is written again after each."""

    path: Path
    runs: list[Run] = field(default_factory=list)

    @staticmethod
    def open(path: Path) -> Notebook:
        """Read what is there already; LLDiffusionError where it is something else."""
        found = read_result(path, ("runs",)) or {"runs": []}
        return Notebook(path, [build(Run, run, "runs", f"'{path}'") for run in found["runs"]])

    def find(self, row: str, seed: int, key: str) -> Run | None:
        """The finished run, unless it was of other settings or data."""
        return next((run for run in self.runs if (run.row, run.seed, run.key) == (row, seed, key)), None)

    def add(self, run: Run) -> None:
        """Keep a run in the place of an older one of the same row and seed."""
        self.runs = [old for old in self.runs if (old.row, old.seed) != (run.row, run.seed)] + [run]

    def save(self, extra: dict[str, Any], page: str) -> Path:
        """Write everything; `extra`: rows, data and conclusions.  Returns the path of the page."""
        return write_result(self.path, extra | {"runs": [asdict(run) for run in self.runs]}, page)


def run_key(config: Config, names: list[str]) -> str:
    """Changes with the configuration (but not with where its data lies) and with the pairs' names."""
    table = config.to_dict()
    for place in ("pairs", "normal", "include"):
        table["data"][place] = [Path(folder).name for folder in table["data"][place]]
    return hashlib.sha256(json.dumps([table, names]).encode()).hexdigest()[:12]
