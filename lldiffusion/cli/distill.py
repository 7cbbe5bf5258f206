"""`lldiff distill`: a student of few steps from a teacher of many."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lldiffusion.errors import LLDiffusionError, require

from .options import DryRun, Overrides

if TYPE_CHECKING:
    from lldiffusion.training.distill_run import DistillPlan

app = typer.Typer(add_completion=False)


@app.command()
def distill(
    teacher: str | None = typer.Argument(None, help="Checkpoint folder or shipped model that teaches."),
    out: Path | None = typer.Option(None, "-o", "--out", help="Folder of the student's checkpoint."),
    steps: int | None = typer.Option(None, help="Steps of the student, its default: 1, 2 or 4 [1]."),
    method: str | None = typer.Option(None, help="auto, trajectory, progressive or regression (no teacher) [auto]."),
    teacher_steps: int | None = typer.Option(None, min=1, help="Steps of the teacher's path [8]."),
    truth: float | None = typer.Option(None, help="Weight of the distance to the truth; 0: the teacher alone [0.5]."),
    student: str | None = typer.Option(
        None, help="Another network: a preset, a TOML file or a checkpoint folder [the teacher's, with its weights]."
    ),
    config: Path | None = typer.Option(None, help="TOML file laid over the student's configuration."),
    set_: Overrides = None,
    resume: Path | None = typer.Option(None, help="Continue this student with its own configuration."),
    dry_run: DryRun = False,
) -> None:
    """Teach a student to do in 1, 2 or 4 steps what its teacher does in many.

    train.enhance_steps and train.enhance_lr say for how long and how fast.  A student of 4 steps also takes 1 or 2.
    The method `auto` is `progressive` where both share a noise schedule, else `trajectory`.  Stops cleanly on Ctrl-C;
    `--resume STUDENT` continues as if it had never stopped.
    """
    require("torch", "train", "distillation")
    from lldiffusion.engines.allocator import keep_freed_memory
    from lldiffusion.training import Stopped
    from lldiffusion.training.distill_run import distill as execute

    keep_freed_memory()
    recipe = {"steps": steps, "method": method, "teacher_steps": teacher_steps, "truth": truth}
    given = {name: value for name, value in recipe.items() if value is not None}
    if resume is not None:
        plan = _resumed(resume, given | _named(teacher=teacher, out=out, student=student, config=config), set_ or [])
    else:
        plan = _new(teacher, out, given, student, config, set_ or [])
    if dry_run:
        _print_plan(plan)
        return
    try:
        model = execute(plan)
    except (Stopped, KeyboardInterrupt) as stop:
        raise KeyboardInterrupt(f"stopped; continue with  lldiff distill --resume {plan.out}") from stop
    typer.echo(f"model: {model} (its training state: {plan.run})\nuse it: lldiff enhance PHOTO -o OUT --model {model}")


def _named(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _resumed(student: Path, given: dict[str, Any], overrides: list[str]) -> DistillPlan:
    from lldiffusion.training.distill_run import plan_resumed

    if given:
        names = ", ".join("TEACHER" if name == "teacher" else f"--{name.replace('_', '-')}" for name in given)
        raise LLDiffusionError(f"--resume STUDENT goes on as it began: leave out {names} (only --set may be given)")
    return plan_resumed(student, overrides)


def _new(
    teacher: str | None,
    out: Path | None,
    recipe: dict[str, Any],
    student: str | None,
    config: Path | None,
    overrides: list[str],
) -> DistillPlan:
    from lldiffusion.training.distill import Recipe
    from lldiffusion.training.distill_run import plan_distillation

    if teacher is None or out is None:
        missing = "TEACHER (a checkpoint folder or a shipped model)" if teacher is None else "-o STUDENT"
        raise LLDiffusionError(f"{missing} is missing: lldiff distill TEACHER -o STUDENT, or --resume STUDENT")
    return plan_distillation(teacher, out, Recipe(**recipe), student, config, overrides)


def _print_plan(plan: DistillPlan) -> None:
    typer.echo(json.dumps(plan.config.to_dict(), indent=1))
    recipe, pairs = plan.recipe, sum(len(source.pairs) for source in plan.sources)
    path = f"{recipe.teacher_steps} steps of '{plan.teacher}'" if recipe.taught else "none: the truth alone"
    typer.echo(f"student: {plan.out}   method: {recipe.method}   steps: {recipe.steps}   teacher: {path}")
    typer.echo(f"training images: {pairs}   held out: {len(plan.held_out)} pairs")
