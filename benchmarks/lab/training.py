"""One row with one seed: trained in stage 1, then measured on the pairs that were held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import median

from lldiffusion.config import Config, DataConfig, config_from_dict
from lldiffusion.data.dataset import find_sources
from lldiffusion.errors import require
from lldiffusion.evaluation.lpips import Lpips
from lldiffusion.evaluation.niqe import NiqeModel

from .measures import measure_model
from .notebook import Run, run_key
from .rows import Row

STAGE = "joint"  # the only one: the lengths of two stages would be one more thing to choose
NEVER = 10**9  # steps between validations during training: only the end counts here


@dataclass(frozen=True)
class Setup:
    """What all rows share."""

    pairs: tuple[str, ...]
    steps: int  # optimiser steps
    validation: int  # pairs held out of the first folder
    niqe: NiqeModel | str
    lpips: Lpips | str


def configure(row: Row, seed: int, setup: Setup) -> Config:
    """The configuration of one run."""
    config = config_from_dict(row.table)
    data = replace(config.data, pairs=setup.pairs, validation=setup.validation)
    train = replace(config.train, joint_steps=setup.steps, seed=seed, save_every=max(setup.steps // 4, 1))
    return replace(config, data=data, train=replace(train, validate_every=NEVER))


def key_of(config: Config) -> str:
    """See `notebook.run_key`."""
    return run_key(config, _pair_names(config.data))


@cache
def _pair_names(data: DataConfig) -> list[str]:
    """Names of all pairs: looked up once, since every row asks and a data set has hundreds."""
    sources, held_out = find_sources(data)
    return [pair.name for pair in (*held_out, *(pair for source in sources for pair in source.pairs))]


def train_and_measure(config: Config, folder: Path, setup: Setup) -> Run:
    """Train in `folder`, continuing what is there, and measure; raises training.Stopped after Ctrl-C."""
    require("torch", "train", "the laboratory")
    from lldiffusion.model import load_model
    from lldiffusion.training import train

    model = load_model(train(config, folder, STAGE))
    parameters = sum(p.numel() for part in (model.encoder, model.denoiser) for p in part.parameters())
    held_out = find_sources(config.data)[1]
    means = measure_model(model, config, held_out, setup.niqe, setup.lpips)
    seed, steps = config.train.seed, config.train.joint_steps
    return Run(config.name, seed, key_of(config), steps, step_seconds(config, folder), parameters, len(held_out), means)


def step_seconds(config: Config, folder: Path, stage: str = STAGE) -> float | None:
    """Median time of a training step, from the run's own log; None before its first entry."""
    rates = [value for _, value in scalars(folder, f"{stage}/images_per_second")]
    size = config.train.batch * config.data.crops_per_image * config.train.accumulate
    return round(size / median(rates), 4) if rates else None


def scalars(folder: Path, name: str) -> Sequence[tuple[int, float]]:
    """(step, value) of one curve in the TensorBoard log of a run; empty when there is none."""
    events = require("tensorboard.backend.event_processing.event_accumulator", "train", "reading the run's curves")
    if not (folder / "tensorboard").is_dir():
        return []
    log = events.EventAccumulator(str(folder / "tensorboard"), size_guidance={events.SCALARS: 0})
    log.Reload()
    known = name in log.Tags()[events.SCALARS]
    return [(entry.step, entry.value) for entry in log.Scalars(name)] if known else []
