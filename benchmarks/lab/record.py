"""What the laboratory keeps: every finished run, in one JSON file that is written again after each."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lldiffusion.atomic import write_text
from lldiffusion.bench.machine import made_here
from lldiffusion.config import Config
from lldiffusion.errors import LLDiffusionError

SCHEMA = 1
MEASURES = ("psnr", "ssim", "gtmean_psnr", "gtmean_ssim", "brightness", "brightness_abs", "niqe", "seconds")


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
    """The finished runs, and what they were made with."""

    path: Path
    runs: list[Run] = field(default_factory=list)

    @staticmethod
    def open(path: Path) -> Notebook:
        """Read what is there already; LLDiffusionError where it is something else."""
        if not path.exists():
            return Notebook(path)
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            if document["schema"] != SCHEMA:
                raise ValueError(f"schema {document['schema']}, this version writes {SCHEMA}")
            return Notebook(path, [Run(**run) for run in document["runs"]])
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise LLDiffusionError(f"'{path}' holds no results of the laboratory ({error}): move it away") from error

    def find(self, row: str, seed: int, key: str) -> Run | None:
        """The finished run, unless it was of other settings or data."""
        return next((run for run in self.runs if (run.row, run.seed, run.key) == (row, seed, key)), None)

    def add(self, run: Run) -> None:
        """Keep a run in the place of an older one of the same row and seed."""
        self.runs = [old for old in self.runs if (old.row, old.seed) != (run.row, run.seed)] + [run]

    def save(self, extra: dict[str, Any]) -> None:
        """Write everything; `extra`: rows, data and conclusions."""
        document = made_here(SCHEMA) | extra | {"runs": [asdict(run) for run in self.runs]}
        write_text(self.path, json.dumps(document, indent=1, allow_nan=False) + "\n")


def run_key(config: Config, names: list[str]) -> str:
    """Changes with the configuration (but not with where its data lies) and with the pairs' names."""
    table = config.to_dict()
    for place in ("pairs", "normal", "include"):
        table["data"][place] = [Path(folder).name for folder in table["data"][place]]
    return hashlib.sha256(json.dumps([table, names]).encode()).hexdigest()[:12]
