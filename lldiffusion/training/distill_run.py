"""A distillation from start to end: what is planned, where its state lies, and how it goes on after a stop.

STUDENT is the finished checkpoint; until then, and for `--resume`, everything lies beside it in STUDENT.run.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lldiffusion.atomic import new_path, write_text
from lldiffusion.bundle import MANIFEST
from lldiffusion.bundle.find import find_model
from lldiffusion.config import Config, DiffusionConfig, change_config, load_config
from lldiffusion.data.dataset import Source, find_sources
from lldiffusion.data.layouts import Pair
from lldiffusion.documents import read_json
from lldiffusion.errors import LLDiffusionError
from lldiffusion.hashing import sha256_of
from lldiffusion.model import LLDiffusion, load_model
from lldiffusion.model.checkpoint import check_free, read_info, save_checkpoint
from lldiffusion.schedule import make_schedule
from lldiffusion.tables import build

from .accelerated import accelerated
from .distill import DistillObjective, Recipe
from .journal import Journal
from .level import collect, fit_guess
from .state import checkpoints
from .trainer import Trainer

if TYPE_CHECKING:
    from accelerate import Accelerator

FINAL_SHARE = 0.25  # of the samples, beside their even share, at T-1: every student's first step
SUFFIX = ".run"  # of the folder beside STUDENT
RECORD = "distill.json"  # in STUDENT.run: teacher, student and recipe


@dataclass(frozen=True)
class Record:
    """`distill.json`."""

    teacher: str
    teacher_sha256: str
    student: str | None
    recipe: Recipe


@dataclass(frozen=True)
class DistillPlan:
    """What a distillation is about to do."""

    config: Config  # of the student
    recipe: Recipe
    teacher: str  # checkpoint folder or shipped model
    student: str | None  # a checkpoint folder to start from, or a network: preset or TOML file; None: the teacher
    out: Path
    sources: list[Source]
    held_out: list[Pair]

    @property
    def run(self) -> Path:
        """Where state and curves lie."""
        return run_folder(self.out)


def run_folder(out: Path) -> Path:
    """The folder of a student's training state."""
    return out.with_name(out.name + SUFFIX)


def plan_distillation(
    teacher: str,
    out: Path,
    recipe: Recipe,
    student: str | None = None,
    file: Path | None = None,
    overrides: Sequence[str] = (),
) -> DistillPlan:
    """Check everything without touching anything.

    Args:
        teacher: checkpoint folder or shipped model.
        out: where the student's checkpoint goes.
        student: where it starts, see `DistillPlan`.
        file, overrides: changes to the student's configuration, as `train` takes them.
    Raises LLDiffusionError for what cannot be taught or trained on, and when `out` or its run exists.
    """
    if out.name.endswith(SUFFIX):
        raise LLDiffusionError(f"'{out}': STUDENT{SUFFIX} is where the state of STUDENT lies; choose another name")
    check_free(out)
    if run_folder(out).exists():
        raise LLDiffusionError(
            f"'{run_folder(out)}' holds a distillation already: continue it with --resume {out}, or remove it"
        )
    config = _student_config(teacher, student, recipe, file, overrides)
    recipe = recipe.settled(_same_schedule(config.diffusion, read_teacher(teacher).diffusion))
    sources, held_out = find_sources(config.data)
    return DistillPlan(
        config, recipe, _absolute(teacher), _absolute(student) if student else None, out, sources, held_out
    )


def plan_resumed(out: Path, overrides: Sequence[str] = ()) -> DistillPlan:
    """The plan of a distillation that was begun, given STUDENT or STUDENT.run; `overrides` may lengthen it."""
    out = out.with_name(out.name.removesuffix(SUFFIX))
    path = run_folder(out) / RECORD
    if not path.is_file():
        raise LLDiffusionError(f"'{out}' cannot be resumed: there is no '{path}'; name the student that was begun")
    try:
        record = build(Record, read_json(path), "", "its", ignore_unknown=True)
    except LLDiffusionError as error:
        raise LLDiffusionError(f"'{path}' is damaged ({error}): remove '{path.parent}' and start again") from error
    recipe, teacher, student, known = record.recipe, record.teacher, record.student, record.teacher_sha256
    config = load_config(path.parent / "config.json", tuple(overrides))
    _check(config, read_teacher(teacher), recipe, teacher)
    if weights_hash(teacher) != known:
        raise LLDiffusionError(f"teacher '{teacher}' is not the one '{out}' began with: its weights have changed")
    sources, held_out = find_sources(config.data)
    return DistillPlan(config, recipe, teacher, student, out, sources, held_out)


def read_teacher(teacher: str) -> Config:
    """The configuration of a checkpoint; LLDiffusionError for a bundle and for everything else."""
    path = find_model(teacher)
    if path.is_file() or ((path / MANIFEST).is_file() and not (path / "config.json").is_file()):
        raise LLDiffusionError(
            f"'{teacher}' is a bundle, whose graphs cannot teach: give the checkpoint folder that it was exported from"
        )
    return read_info(teacher).config


def weights_hash(checkpoint: str) -> str:
    """SHA-256 of a checkpoint's weights."""
    path = find_model(checkpoint) / "model.safetensors"
    if not path.is_file():
        raise LLDiffusionError(f"'{checkpoint}' is not a checkpoint: it has no model.safetensors")
    return sha256_of(path)


def _student_config(
    teacher: str, student: str | None, recipe: Recipe, file: Path | None, overrides: Sequence[str]
) -> Config:
    taught = read_teacher(teacher)
    base = taught if student is None else load_config(student) if described(student) else read_teacher(student)
    sampling = replace(base.sampling, sampler="ddim", steps=recipe.steps, spacing="trailing")
    base = replace(base, name=f"{base.name}-distilled", sampling=sampling)
    base = replace(base, train=replace(base.train, final_share=FINAL_SHARE))
    config = change_config(base, file, tuple(overrides))
    if (config.model, config.diffusion) != (base.model, base.diffusion) and not described(student):
        raise LLDiffusionError(
            f"the student starts from the weights of '{student or teacher}', so [model] and [diffusion] cannot be "
            "changed: for another network, give --student a preset or a TOML file"
        )
    _check(config, taught, recipe, teacher)
    return config


def described(student: str | None) -> bool:
    """Whether a student is a network only (preset or TOML file), with weights still to come."""
    return student is not None and not Path(student).is_dir()


def _check(config: Config, teacher: Config, recipe: Recipe, name: str) -> None:
    if config.diffusion.prediction == "eps":
        raise LLDiffusionError(
            f"a student that predicts eps cannot take few steps: at pure noise, eps says nothing about the picture; "
            f"give --student a preset that predicts x0 (tiny, fast), or another teacher than '{name}'"
        )
    if config.sampling.spacing != "trailing":
        raise LLDiffusionError(
            f"sampling.spacing={config.sampling.spacing}: a distilled model starts at T-1, which is 'trailing'"
        )
    if recipe.method == "progressive" and not _same_schedule(config.diffusion, teacher.diffusion):
        raise LLDiffusionError(
            f"--method progressive needs the noise schedule of the teacher '{name}': use --method trajectory"
        )


def _same_schedule(a: DiffusionConfig, b: DiffusionConfig) -> bool:
    first, second = make_schedule(a).alpha_bar, make_schedule(b).alpha_bar
    return first.shape == second.shape and bool(np.allclose(first, second))


def _absolute(model: str) -> str:
    """Paths survive a change of the working folder; names stay."""
    return str(Path(model).resolve()) if Path(model).exists() else model


def distill(plan: DistillPlan) -> Path:
    """Carry out a plan, continuing whatever part of it is done; returns the student's folder.

    Raises trainer.Stopped when interrupted (state saved) and LLDiffusionError when the loss is no longer finite.
    """
    with accelerated(plan.config, "distillation") as accelerator:
        plan.run.mkdir(parents=True, exist_ok=True)
        if accelerator.is_main_process:
            _record(plan)
        with closing(Journal(plan.run, accelerator.is_main_process)) as journal:
            last = _train(plan, accelerator, journal)
            if accelerator.is_main_process:
                _finish(plan, last)
            return plan.out


def _record(plan: DistillPlan) -> None:
    record = Record(plan.teacher, weights_hash(plan.teacher), plan.student, plan.recipe)
    write_text(plan.run / "config.json", json.dumps(plan.config.to_dict(), indent=1) + "\n")
    write_text(plan.run / RECORD, json.dumps(asdict(record), indent=1) + "\n")


def _train(plan: DistillPlan, accelerator: Accelerator, journal: Journal) -> Path:
    folder = plan.run / "distill"
    teacher = load_model(plan.teacher)
    student = _first_student(plan, teacher, begun=bool(checkpoints(folder)))
    objective = partial(_objective, plan, teacher if plan.recipe.taught else None)
    trainer = Trainer(
        plan.config,
        "distill",
        student,
        sources=plan.sources,
        held_out=plan.held_out,
        folder=folder,
        accelerator=accelerator,
        journal=journal,
        make_objective=objective,
    )
    trainer.resume()
    return trainer.run() if trainer.step < trainer.total else checkpoints(folder)[-1]


def _objective(
    plan: DistillPlan, teacher: LLDiffusion | None, student: LLDiffusion, config: Config, stage: str
) -> DistillObjective:
    return DistillObjective(student, config, teacher, plan.recipe, fresh=described(plan.student))


def _first_student(plan: DistillPlan, teacher: LLDiffusion, begun: bool) -> LLDiffusion:
    """The student's starting weights; those of a run that was begun are read over them."""
    if not described(plan.student):
        return load_model(plan.student or plan.teacher).requires_grad_(True).train()
    student = LLDiffusion(plan.config)
    if student.level is not None and not begun:
        known = {} if teacher.level is None else teacher.level.state_dict()
        if student.level.load_state_dict(known, strict=False).missing_keys:  # no level, or one without tones
            train = plan.config.train
            fit_guess(student.level, collect(plan.sources, plan.config.data), train.guess_steps, train.seed)
    return student


def _finish(plan: DistillPlan, last: Path) -> None:
    """Write the averaged weights of the last checkpoint to STUDENT, without the degradation network."""
    weights = {n: v for n, v in load_model(last).state_dict().items() if not n.startswith("degrader.")}
    notes = read_info(last).notes | asdict(plan.recipe) | {"teacher": Path(plan.teacher).name}
    notes |= {"teacher_sha256": weights_hash(plan.teacher)}
    with new_path(plan.out) as temporary:
        save_checkpoint(temporary, plan.config, weights, notes)
