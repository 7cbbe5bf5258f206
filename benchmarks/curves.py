"""Loss curves and speed of a short training run: what a preset's full recipe would cost on this machine.

python -m benchmarks.curves paper --data PAIRS --steps 200 -o benchmarks/results
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import typer

from lldiffusion.atomic import new_path
from lldiffusion.bench.report.drawing import COLOURS, draw, legend
from lldiffusion.config import Config, load_config
from lldiffusion.data.dataset import find_sources
from lldiffusion.engines.allocator import keep_freed_memory
from lldiffusion.errors import LLDiffusionError, require
from lldiffusion.model import LLDiffusion
from lldiffusion.training import Stopped
from lldiffusion.training.accelerated import accelerated
from lldiffusion.training.journal import Journal
from lldiffusion.training.trainer import Trainer

from .program import run_program
from .result_file import write_result

SMOOTH = 0.9  # share of the past in the thick line
NEVER = 10**9  # steps between validations and between checkpoints: only losses and times are wanted


@dataclass(frozen=True)
class Entry:
    """One optimiser step."""

    step: int
    seconds: float  # since the one before
    terms: dict[str, float]  # weighted losses


class Recorder(Journal):
    """A journal that keeps every step."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, active=True)
        self.entries: list[Entry] = []
        self._last = time.perf_counter()

    def step(self, step: int, terms: dict[str, float], rate: float, images_per_second: float) -> None:
        """Record one optimiser step."""
        super().step(step, terms, rate, images_per_second)
        now = time.perf_counter()
        self.entries.append(Entry(step, round(now - self._last, 4), {n: round(v, 6) for n, v in terms.items()}))
        self._last = now


def record(config: Config) -> list[Entry]:
    """Train stage 1 for `train.joint_steps` and forget the weights; fewer steps after Ctrl-C."""
    sources, _ = find_sources(config.data)
    with tempfile.TemporaryDirectory() as name, accelerated(config, "training") as accelerator:
        journal = Recorder(Path(name))
        model, folder = LLDiffusion(config), Path(name) / "joint"
        try:
            Trainer(config, "joint", model, sources, [], folder, accelerator, journal).run()
        except Stopped:
            typer.echo("stopped early: the curve so far is kept", err=True)
        finally:
            journal.close()
    return journal.entries


def crops(config: Config) -> int:
    """Training crops of an optimiser step."""
    return config.train.batch * config.data.crops_per_image * config.train.accumulate


def cost(entries: Sequence[Entry], run: Config, recipe: Config) -> dict[str, float]:
    """Speed of the run, its first step left out, and the hours of both stages of the whole recipe at that speed.

    Stage 2 trains less than stage 1; it is counted as if it did not, so the hours are an upper bound.
    """
    seconds = median(entry.seconds for entry in entries[1:] or entries)
    steps = recipe.train.joint_steps + recipe.train.enhance_steps
    hours = steps * crops(recipe) * seconds / crops(run) / 3600
    speeds = {"seconds_per_step": seconds, "steps_per_second": 1 / seconds, "crops_per_second": crops(run) / seconds}
    return {name: round(value, 4) for name, value in speeds.items()} | {"full_recipe_hours": round(hours, 1)}


def paint(axes: Any, entries: Sequence[Entry]) -> None:
    """Every loss term: each step thin, its running mean thick."""
    for colour, name in zip(COLOURS, entries[0].terms):
        steps, values = [entry.step for entry in entries], [entry.terms[name] for entry in entries]
        axes.plot(steps, values, color=colour, linewidth=0.5, alpha=0.4)
        axes.plot(steps, running_mean(values), color=colour, linewidth=1.6, label=name)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")  # matplotlib's own writes powers in TeX, which is switched off
    axes.set_xlabel("optimiser step")
    axes.set_ylabel("weighted loss")
    legend(axes)


def running_mean(values: Sequence[float]) -> list[float]:
    """m <- s m + (1 - s) x, divided by 1 - s^n so that the first values count in full."""
    means, mean = [], 0.0
    for number, value in enumerate(values, start=1):
        mean = SMOOTH * mean + (1 - SMOOTH) * value
        means.append(mean / (1 - SMOOTH**number))
    return means


def write(out: Path, recipe: Config, run: Config, entries: Sequence[Entry]) -> dict[str, Any]:
    """Write NAME-curves.json and NAME-curves.png to `out`; returns the summary."""
    found = cost(entries, run, recipe) | {"steps": len(entries), "crops_per_step": crops(run), "crop": run.data.crop}
    found |= {"recipe_crops_per_step": crops(recipe)}
    body = {"preset": recipe.name, "summary": found, "entries": [asdict(entry) for entry in entries]}
    about = f"{found['crops_per_step']} crops of {run.data.crop} px a step, {found['seconds_per_step']:.2f} s a step"
    plot = draw("curves", f"{recipe.name}: losses of stage 1", about, lambda axes: paint(axes, entries))
    write_result(out / f"{recipe.name}-curves.json", body)
    with new_path(out / f"{recipe.name}-curves.png") as temporary:
        temporary.write_bytes(plot.png)
    return found


def main(
    preset: str = typer.Argument("paper", help="A preset or a TOML file."),
    data: list[str] = typer.Option(..., help="Folder of pairs; repeatable."),
    steps: int = typer.Option(100, min=2, help="Optimiser steps."),
    set_: list[str] = typer.Option([], "--set", help="Override of the run, not of the recipe, e.g. train.batch=1."),
    out: Path = typer.Option(Path("curves"), "-o", "--out", help="Folder for NAME-curves.json and .png."),
) -> None:
    """Record the losses and the speed of the first steps of a preset's training."""
    keep_freed_memory()
    require("matplotlib", "bench", "drawing the curves")
    recipe = load_config(preset)
    fixed = [f"data.pairs={json.dumps(data)}", "data.validation=0", f"train.joint_steps={steps}"]
    run = load_config(preset, [*fixed, f"train.save_every={NEVER}", f"train.validate_every={NEVER}", *set_])
    out.mkdir(parents=True, exist_ok=True)  # now: a bad path should not cost a long run
    entries = record(run)
    if len(entries) < 2:
        raise LLDiffusionError("stopped before the second step: there is no curve to write")
    found = write(out, recipe, run, entries)
    typer.echo(", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in found.items()))


if __name__ == "__main__":
    run_program(main)
