"""Hugging Face accelerate, from its start to its end: devices, processes and mixed precision of a run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from lldiffusion.config import Config
from lldiffusion.errors import require

if TYPE_CHECKING:
    from accelerate import Accelerator


def _several_on_cpus() -> bool:
    """Whether `torchrun` started several processes where there is no GPU.

    Unasked, accelerate would then let each train for itself, all in one folder; asked, they train together on gloo.
    """
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.cuda.is_available()


def is_first_process() -> bool:
    """Whether this process speaks for all that `torchrun` started."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def accelerated(config: Config, purpose: str) -> Iterator[Accelerator]:
    """Seed PyTorch with `train.seed` and hold an Accelerator of `train.precision` while the block runs.

    `purpose` says in the message of a missing accelerate what it is needed for.
    """
    accelerate = require("accelerate", "train", purpose)
    torch.manual_seed(config.train.seed)
    accelerator = accelerate.Accelerator(mixed_precision=config.train.precision, cpu=_several_on_cpus())
    try:
        yield accelerator
    finally:
        accelerator.end_training()
        accelerate.state.AcceleratorState._reset_state()  # the next run in this process may want another precision
