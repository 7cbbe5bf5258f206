"""What each way of distilling is worth: one teacher, every method alike, students measured at 1, 2 and 4 steps.

    python -m benchmarks.distillation tiny --data PAIRS -o benchmarks/results

Every student starts from its teacher's weights and takes equally many optimiser steps; their time differs, since a
path of the teacher costs denoiser calls, and is in the table.  "regression" has no teacher: what it gains is what
training a little longer gains, and a method that teaches must beat it.  Run again, it goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import typer

from lldiffusion.config import Config
from lldiffusion.errors import LLDiffusionError, require
from lldiffusion.tables import build

from .lab.measures import measure_model
from .lab.training import NEVER, step_seconds
from .markdown import mean_and_spread, table_lines
from .program import run_program
from .result_file import read_result, write_result

STEPS = (1, 2, 4)  # at which students are measured
TEACHER_STEPS = (1, 2, 4, 8, 25)
TEACHER = "teacher"  # its rows in the table
MEASURES = {"psnr": 2, "gtmean_psnr": 2, "ssim": 3, "brightness_abs": 1}  # digits


@dataclass(frozen=True)
class StudentScore:
    """One model at one number of steps; means over the held-out pairs."""

    method: str  # TEACHER for the teacher itself
    seed: int  # of the training; 0 for the teacher
    steps: int  # of the sampler
    means: dict[str, float | None]


@dataclass
class Notebook:
    """Everything measured so far, in one JSON file."""

    path: Path
    facts: dict[str, Any]  # that decide the results: another call must agree
    results: list[StudentScore] = field(default_factory=list)
    step_seconds: dict[str, float] = field(default_factory=dict)  # by method, a training step's median, last seed

    def read(self) -> None:
        """Take over what an earlier call with the same facts measured."""
        found = read_result(self.path, ("facts", "results", "step_seconds"))
        if found is None:
            return
        if found["facts"] != self.facts:
            raise LLDiffusionError(f"'{self.path}' was measured with other settings: move it away, or give another -o")
        self.results = [build(StudentScore, entry, "results", f"'{self.path}'") for entry in found["results"]]
        self.step_seconds = found["step_seconds"]

    @property
    def key(self) -> str:
        """A hash of the facts: students of other settings have other folders."""
        return hashlib.sha256(json.dumps(self.facts).encode()).hexdigest()[:12]

    def has(self, method: str, seed: int) -> bool:
        """Whether a model was measured already."""
        return any((result.method, result.seed) == (method, seed) for result in self.results)

    def save(self) -> Path:
        """Write the JSON file and the table beside it; returns the latter."""
        body = {"facts": self.facts, "step_seconds": self.step_seconds, "results": [asdict(r) for r in self.results]}
        return write_result(self.path, body, to_markdown(self))


def measure_teacher(teacher: str, notebook: Notebook, overrides: list[str]) -> None:
    """The teacher at few steps and at many."""
    from lldiffusion.model import load_model

    if not notebook.has(TEACHER, 0):
        model = load_model(teacher)
        notebook.results += _measure(model, model.config, TEACHER, 0, TEACHER_STEPS, overrides)


def measure_student(teacher: str, method: str, seed: int, work: Path, notebook: Notebook, overrides: list[str]) -> None:
    """Distil (or go on distilling) one student and measure it."""
    from lldiffusion.model import load_model
    from lldiffusion.training.distill import Recipe
    from lldiffusion.training.distill_run import distill, plan_distillation, plan_resumed, run_folder

    if notebook.has(method, seed):
        return
    out = work / f"{method}-{seed}-{notebook.key}"
    if not out.exists():
        begun, recipe = run_folder(out).exists(), Recipe(steps=max(STEPS), method=method)
        settings = [*overrides, f"train.seed={seed}", f"train.validate_every={NEVER}"]
        distill(plan_resumed(out) if begun else plan_distillation(teacher, out, recipe, overrides=settings))
    model = load_model(str(out))
    notebook.results += _measure(model, model.config, method, seed, STEPS, overrides)
    if (seconds := step_seconds(model.config, run_folder(out), "distill")) is not None:
        notebook.step_seconds[method] = seconds


def _measure(
    model: object, config: Config, method: str, seed: int, counts: Sequence[int], overrides: list[str]
) -> list[StudentScore]:
    from lldiffusion.config import change_config
    from lldiffusion.data.dataset import find_sources

    held_out, found = find_sources(change_config(config, None, tuple(overrides)).data)[1], []
    for count in counts:
        at = replace(config, sampling=replace(config.sampling, steps=count, spacing="trailing"))
        means = measure_model(model, at, held_out, "not measured here", "not measured here")
        found.append(StudentScore(method, seed, count, {name: means[name] for name in MEASURES}))
    return found


def to_markdown(notebook: Notebook) -> str:
    """The table and how it was made."""
    heads = ["method", "steps", "PSNR, dB", "PSNR gtmean, dB", "SSIM", "brightness error, /255", "s/training step"]
    rows = []
    for method, count in dict.fromkeys((result.method, result.steps) for result in notebook.results):
        here = [r.means for r in notebook.results if (r.method, r.steps) == (method, count)]
        times = [seconds for name, seconds in notebook.step_seconds.items() if name == method]
        known = {name: [value for m in here if (value := m[name]) is not None] for name in MEASURES}
        cells = [mean_and_spread(known[name], digits) for name, digits in MEASURES.items()]
        rows.append([method, str(count), *cells, mean_and_spread(times, 2)])
    facts = [f"- {name.replace('_', ' ')}: {value}" for name, value in notebook.facts.items()]
    note = "± is the standard deviation over the seeds of the training; the sampler's seed is 0."
    return "\n".join(["# Distillation, by method", "", *table_lines(heads, rows), "", note, "", *facts]) + "\n"


def main(
    teacher: str = typer.Argument("tiny", help="Checkpoint folder or shipped model."),
    data: list[str] = typer.Option(..., help="Folder of pairs; repeatable, pairs are held out of the first."),
    steps: int = typer.Option(250, min=1, help="Optimiser steps of every student."),
    seeds: int = typer.Option(2, min=1, help="Students of each method."),
    rate: float = typer.Option(1e-4, min=1e-9, help="Learning rate, train.enhance_lr."),
    set_: list[str] = typer.Option([], "--set", help="Override for every student, e.g. train.precision=bf16."),
    out: Path = typer.Option(Path("distillation"), "-o", "--out", help="Folder for distillation.json and .md."),
    work: Path = typer.Option(Path("runs/distillation"), help="Folder for the training runs."),
) -> None:
    """Distil students by every method alike and compare them at 1, 2 and 4 steps."""
    from lldiffusion.engines.allocator import keep_freed_memory
    from lldiffusion.training import Stopped
    from lldiffusion.training.distill import METHODS
    from lldiffusion.training.distill_run import weights_hash

    keep_freed_memory()
    require("accelerate", "train", "distillation")
    facts: dict[str, Any] = {"teacher": Path(teacher).name, "teacher_sha256": weights_hash(teacher)}
    facts |= {"training_steps": steps, "learning_rate": rate, "settings": [s for s in set_ if "/" not in s]}
    facts |= {"data": [Path(folder).name for folder in data]}
    for folder in (out, work):
        folder.mkdir(parents=True, exist_ok=True)
    notebook = Notebook(out / "distillation.json", facts)
    notebook.read()
    fixed = [f"data.pairs={json.dumps(data)}", "data.normal=[]", "data.weights=[]", "data.include=[]"]
    overrides = [*fixed, f"train.enhance_steps={steps}", f"train.enhance_lr={rate}", *set_]
    try:
        measure_teacher(teacher, notebook, overrides)
        notebook.save()
        for seed in range(seeds):
            for method in METHODS:
                typer.echo(f"{method}, seed {seed}", err=True)
                measure_student(teacher, method, seed, work, notebook, overrides)
                notebook.save()
    except (Stopped, KeyboardInterrupt) as stop:
        typer.echo("stopped; the same command goes on from here", err=True)
        raise SystemExit(130) from stop
    typer.echo(f"written: {notebook.save()}, {notebook.path}")


if __name__ == "__main__":
    run_program(main)
