"""`lldiff train`: both stages, resumable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lldiffusion.config import PRESETS
from lldiffusion.errors import LLDiffusionError, require

from .options import DryRun, Overrides

if TYPE_CHECKING:
    from lldiffusion.training import Plan

app = typer.Typer(add_completion=False)


@app.command()
def train(
    config: str | None = typer.Argument(None, help=f"A preset ({', '.join(PRESETS)}) or a TOML file."),
    out: Path | None = typer.Option(None, "-o", "--out", help="Folder of the run [runs/NAME]."),
    stage: str = typer.Option("all", help="joint, enhance or all (both in order)."),
    set_: Overrides = None,
    resume: Path | None = typer.Option(None, help="Continue this run with its own configuration."),
    init: str | None = typer.Option(None, help="Start from these weights (checkpoint folder)."),
    dry_run: DryRun = False,
) -> None:
    """Train both stages of LLDiffusion on pairs of low- and normal-light images.

    Stops cleanly on Ctrl-C; `--resume RUN` continues as if it had never stopped.
    """
    require("torch", "train", "training")
    from lldiffusion.engines.allocator import keep_freed_memory
    from lldiffusion.training import Stopped, execute
    from lldiffusion.training.accelerated import is_first_process

    keep_freed_memory()
    plan = _plan(config, out, stage, set_ or [], resume, init)
    if dry_run:
        _print_plan(plan)
        return
    try:
        model = execute(plan)
    except (Stopped, KeyboardInterrupt) as stop:
        hint = f"lldiff train --resume {plan.folder}" + ("" if stage == "all" else f" --stage {stage}")
        raise KeyboardInterrupt(f"stopped; continue with  {hint}") from stop
    if is_first_process():
        typer.echo(f"model: {model}\nuse it: lldiff enhance PHOTO -o OUT --model {model}")


def _plan(
    config: str | None, out: Path | None, stage: str, overrides: list[str], resume: Path | None, init: str | None
) -> Plan:
    from lldiffusion.config import PRESETS, load_config
    from lldiffusion.training import plan_run, read_run

    if resume is not None:
        if config is not None or out is not None:
            raise LLDiffusionError(
                "--resume RUN takes the run's own configuration and folder: give no CONFIG and no --out"
            )
        return plan_run(read_run(resume, overrides), resume, stage, init)
    if config is None:
        raise LLDiffusionError(
            f"no configuration given: name a preset ({', '.join(PRESETS)}), a TOML file, or --resume RUN"
        )
    settings = load_config(config, overrides)
    folder = out or Path("runs") / settings.name
    if (folder / "config.json").exists():
        raise LLDiffusionError(
            f"'{folder}' already holds a run: continue it with --resume {folder}, or name another --out"
        )
    return plan_run(settings, folder, stage, init)


def _print_plan(plan: Plan) -> None:
    typer.echo(json.dumps(plan.config.to_dict(), indent=1))
    typer.echo(f"run folder: {plan.folder}   stages: {', '.join(plan.stages)}   held out: {len(plan.held_out)} pairs")
    for source in plan.sources:
        kind = "simulated from normal photographs" if source.simulated else "pairs"
        typer.echo(f"{len(source.pairs)} {kind} in {source.pairs[0].normal.parent}")
