"""Runs the laboratory: row by row, seed by seed, within a time; run again, it goes on where it stopped."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import typer

from lldiffusion.errors import LLDiffusionError

from ..program import run_program
from .notebook import Notebook, Run
from .rows import ORDER, Row, choose_rows
from .table import differences, learned, to_markdown
from .training import Setup, configure, key_of, train_and_measure

STEPS = 250  # of the optimiser: the rows of a short run, twice, are meant to fit MINUTES on two cores
MINUTES = 20.0


@dataclass
class Laboratory:
    """One call of the laboratory."""

    rows: list[Row]
    seeds: list[int]
    setup: Setup
    notebook: Notebook
    work: Path  # training runs
    end: float  # monotonic time after which nothing is begun
    others: list[Row] = field(default_factory=list)  # shown where they were measured alike before
    longest: float = 0.0  # seconds of the slowest run so far
    _keys: dict[tuple[str, int], str] = field(default_factory=dict)  # of (row, seed): asked for after every run

    def go(self) -> list[str]:
        """Train and measure what is missing; returns the rows that there was no time for."""
        for number, row in enumerate(self.rows):
            for seed in self.seeds:
                if not self._one(row, seed, f"{number + 1}/{len(self.rows)} {row.name}, seed {seed}"):
                    return self._missing()
        return []

    def current(self) -> list[Run]:
        """The finished runs with these seeds and settings; others in the file stay, and are not compared."""
        wanted = [(row.name, seed, self._key(row, seed)) for row in self.every for seed in self.seeds]
        return [run for where in wanted if (run := self.notebook.find(*where)) is not None]

    @property
    def every(self) -> list[Row]:
        """All rows that the table may show."""
        return [*self.rows, *self.others]

    def _key(self, row: Row, seed: int) -> str:
        if (row.name, seed) not in self._keys:
            self._keys[row.name, seed] = key_of(configure(row, seed, self.setup))
        return self._keys[row.name, seed]

    def _one(self, row: Row, seed: int, label: str) -> bool:
        """Whether the run is there, now or already."""
        key = self._key(row, seed)
        if self.notebook.find(row.name, seed, key) is not None:
            typer.echo(f"{label}: done already", err=True)
            return True
        start = time.monotonic()
        if self.longest and start + self.longest > self.end:
            return False
        typer.echo(label, err=True)
        self.notebook.add(
            train_and_measure(configure(row, seed, self.setup), self.work / f"{row.name}-{seed}-{key}", self.setup)
        )
        self.save([])
        self.longest = max(self.longest, time.monotonic() - start)
        return True

    def _missing(self) -> list[str]:
        done = {(run.row, run.seed) for run in self.current()}
        lacking = ((row.name, [seed for seed in self.seeds if (row.name, seed) not in done]) for row in self.rows)
        return [f"{name} (seeds {', '.join(map(str, seeds))})" for name, seeds in lacking if seeds]

    def save(self, left_out: Sequence[str]) -> Path:
        """Write lab.json and lab.md; returns the latter."""
        runs = self.current()
        found = [vars(d) | {"more_than_noise": d.real} for d in differences(self.every, runs)]
        about = [{"name": r.name, "about": r.about, "against": r.against, "changes": r.changes} for r in self.every]
        facts = self._facts(runs)
        page = to_markdown(self.every, runs, facts, left_out)
        return self.notebook.save({"facts": facts, "rows": about, "differences": found}, page)

    def _facts(self, runs: list[Run]) -> list[str]:
        images = runs[0].images if runs else 0
        niqe, lpips = (tool if isinstance(tool, str) else "measured" for tool in (self.setup.niqe, self.setup.lpips))
        folders = ", ".join(Path(folder).name for folder in self.setup.pairs)
        return [
            f"{self.setup.steps} optimiser steps of stage 1 for every row, seeds {', '.join(map(str, self.seeds))}; "
            "equal steps are not equal work: the time of a step is in the table",
            f"data: {folders}; {images} pairs held out of the first folder, the same for all rows, are measured",
            "one seed of the sampler (0); PSNR and SSIM of 8-bit images under the protocols standard and gtmean",
            f"NIQE: {niqe}; LPIPS: {lpips}",
            "a short run tells what helps early; settings that pay late (averaging, large crops) need more steps",
        ]


def main(
    rows: list[str] = typer.Argument(None, metavar="[ROW]...", help="Rows or TOML files [all that fit a short run]."),
    data: list[str] = typer.Option(..., help="Folder of pairs; repeatable, pairs are held out of the first."),
    minutes: float = typer.Option(MINUTES, min=0, help="No run is begun that would not end within this time."),
    out: Path = typer.Option(Path("lab"), "-o", "--out", help="Folder for lab.json and lab.md."),
    seeds: str = typer.Option("0,1", help="Seeds of the training, comma-separated."),
    steps: int = typer.Option(STEPS, min=1, help="Optimiser steps of every run."),
    validation: int = typer.Option(8, min=1, help="Pairs held out."),
    niqe_params: Path | None = typer.Option(None, help="NIQE's model parameters, .mat or .npz [$LLDIFF_NIQE_PARAMS]."),
    work: Path = typer.Option(Path("runs/lab"), help="Folder for the training runs."),
) -> None:
    """Train every row alike and compare them; finished runs are kept in lab.json and not trained again."""
    from lldiffusion.engines.allocator import keep_freed_memory
    from lldiffusion.evaluation.lpips import lpips_at_hand
    from lldiffusion.evaluation.niqe import load_niqe
    from lldiffusion.training import Stopped

    keep_freed_memory()
    setup = Setup(tuple(data), steps, validation, load_niqe(niqe_params), lpips_at_hand())
    chosen, numbers = choose_rows(rows or []), _parse_seeds(seeds)
    notebook = Notebook.open(out / "lab.json")
    others = [row for row in choose_rows(ORDER) if row.name not in {row.name for row in chosen}]
    laboratory = Laboratory(chosen, numbers, setup, notebook, work, time.monotonic() + 60 * minutes, others)
    laboratory.current()  # a mistake in the data, or a bad path, should be seen before anything is trained
    for folder in (out, work):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        left_out = laboratory.go()
    except (Stopped, KeyboardInterrupt) as stop:
        typer.echo("stopped; the same command goes on from here", err=True)
        raise SystemExit(130) from stop
    page = laboratory.save(left_out)
    for sentence in learned(laboratory.every, laboratory.current()):
        typer.echo(sentence)
    if left_out:
        typer.echo(f"no time left for {'; '.join(left_out)}: the same command goes on with them", err=True)
    typer.echo(f"written: {page}, {notebook.path}")


def _parse_seeds(text: str) -> list[int]:
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise LLDiffusionError(f"--seeds '{text}': give whole numbers with commas, such as 0,1") from error
    if min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise LLDiffusionError(f"--seeds '{text}': seeds are 0 or more, and each is given once")
    return seeds


if __name__ == "__main__":
    run_program(main)
