"""A run: stage 1, then stage 2 on its encoder, then the model folder that everything else opens."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lldiffusion.atomic import write_text
from lldiffusion.config import Config, load_config
from lldiffusion.data.dataset import Source, find_sources
from lldiffusion.data.layouts import Pair
from lldiffusion.errors import LLDiffusionError, choose
from lldiffusion.model import LLDiffusion, load_model
from lldiffusion.model.checkpoint import read_info, save_checkpoint

from .accelerated import accelerated
from .clips import ClipObjective
from .journal import Journal
from .level import collect, fit_guess, guess_error
from .losses import Objective
from .state import checkpoints
from .trainer import STAGES, Trainer

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Plan:
    """What a run is about to do; `--dry-run` prints it."""

    config: Config
    stages: tuple[str, ...]
    folder: Path
    sources: list[Source]
    held_out: list[Pair]
    start: str | None  # checkpoint whose weights the first stage starts from


def plan_run(config: Config, folder: str | Path, stage: str = "all", start: str | None = None) -> Plan:
    """Check configuration, data and stages without touching anything: a folder left behind would be in the way."""
    choose(stage, (*STAGES, "all"), "stage")
    stages = STAGES if stage == "all" else (stage,)
    if config.model.recurrent != (config.data.frames > 1):
        raise LLDiffusionError(
            f"data.frames is {config.data.frames}: a model of video (model.recurrent) learns from clips of 2 frames or "
            "more, every other one from single pictures (data.frames = 1)"
        )
    if "joint" in stages:
        config.model.check_grids("degrader")
    if start is not None:
        _check_network(config, start)
    elif stage == "enhance" and not any((Path(folder) / name).is_dir() for name in STAGES):
        raise LLDiffusionError(
            "stage 'enhance' starts from a stage-1 model: give it with --init MODEL, or --resume RUN"
        )
    sources, held_out = find_sources(config.data)
    return Plan(config, stages, Path(folder), sources, held_out, start)


def read_run(folder: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Config:
    """The configuration that a run was started with, and changes to it such as "train.joint_steps=5000".

    Raises LLDiffusionError for what is no run, and for changes of the network, which its weights do not fit.
    """
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise LLDiffusionError(f"'{folder}' is not a run that can be resumed: it has no config.json")
    begun, config = load_config(path), load_config(path, overrides)
    for part in ("model", "diffusion"):
        if getattr(begun, part) != getattr(config, part):
            raise LLDiffusionError(
                f"--set {part}.* cannot be changed while '{folder}' is resumed: its weights are those of another "
                f"[{part}]; start a new run for it (everything else may be set)"
            )
    return config


def train(config: Config, folder: str | Path, stage: str = "all", start: str | None = None) -> Path:
    """Train a model in `folder`, which becomes (or already is) a run; returns the finished model's folder.

    Args:
        config: from `load_config`; it names the data.
        stage: "joint", "enhance", or "all" for both in order.
        start: checkpoint to start from instead of random weights (or, for "enhance", instead of the run's stage 1).
    Raises trainer.Stopped when interrupted (state saved; the same call continues) and LLDiffusionError for mistakes
    in the configuration or the data, and when the loss is no longer finite.
    """
    return execute(plan_run(config, folder, stage, start))


def execute(plan: Plan) -> Path:
    """Carry out a plan, continuing whatever part of it is already done; returns the finished model's folder.

    Raises trainer.Stopped when interrupted (state saved) and LLDiffusionError when the loss is no longer finite.
    """
    with accelerated(plan.config, "training") as accelerator:
        plan.folder.mkdir(parents=True, exist_ok=True)
        if accelerator.is_main_process:
            write_text(plan.folder / "config.json", json.dumps(plan.config.to_dict(), indent=1) + "\n")
        with closing(Journal(plan.folder, accelerator.is_main_process)) as journal:
            last = plan.start
            for stage in plan.stages:
                last = str(_train_stage(plan, stage, last, accelerator, journal))
            assert last is not None
            return _finish(plan, Path(last)) if accelerator.is_main_process else plan.folder / "model"


def _train_stage(plan: Plan, stage: str, start: str | None, accelerator: Accelerator, journal: Journal) -> Path:
    folder = plan.folder / stage
    if stage == "enhance" and start is None:
        begun = bool(checkpoints(folder))  # a run of stage 2 alone goes on from itself
        start = str(_last(folder if begun else plan.folder / "joint"))
    model = _started(plan.config, start, stage) if start else LLDiffusion(plan.config)
    if stage == "joint" and model.level is not None and start is None and not checkpoints(folder):
        seen = collect(plan.sources, plan.config.data)
        fit_guess(model.level, seen, plan.config.train.guess_steps, plan.config.train.seed)
        error = guess_error(model.level, seen.low, seen.normal)
        journal.say(f"brightness guessed to {error:.1f}/255 on the training images")
    trainer = Trainer(
        plan.config,
        stage,
        model,
        sources=plan.sources,
        held_out=plan.held_out,
        folder=folder,
        accelerator=accelerator,
        journal=journal,
        make_objective=ClipObjective if plan.config.model.recurrent else Objective,
    )
    trainer.resume()
    return trainer.run() if trainer.step < trainer.total else _last(folder)


def _started(config: Config, start: str, stage: str) -> LLDiffusion:
    """The network with the weights of `start`; stage 1 gets a fresh DGNET when they come from stage 2."""
    _check_network(config, start)
    model = load_model(start).requires_grad_(True).train()
    if stage == "joint" and model.degrader is None:
        model.degrader = LLDiffusion(config).degrader
    return model


def _check_network(config: Config, start: str) -> None:
    given, wanted = asdict(read_info(start).config.model), asdict(config.model)
    if other := [f"model.{name}" for name in wanted if given[name] != wanted[name]]:
        raise LLDiffusionError(
            f"'{start}' holds another network than the configuration '{config.name}' describes "
            f"({', '.join(other)} differ): set them as in its config.json"
        )


def _last(folder: Path) -> Path:
    found = checkpoints(folder)
    if not found:
        raise LLDiffusionError(f"'{folder}' holds no checkpoint: train stage 'joint' first")
    return found[-1]


def _finish(plan: Plan, last: Path) -> Path:
    """Copy the averaged weights of the last checkpoint to RUN/model, with the run's own configuration."""
    info, target = read_info(last), plan.folder / "model"
    save_checkpoint(target, plan.config, load_model(last).state_dict(), info.notes, overwrite=True)
    return target
