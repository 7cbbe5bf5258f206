"""Hugging Face accelerate, from its start to its end: devices, processes and mixed precision of a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from lldiffusion.config import Config
from lldiffusion.errors import require

if TYPE_CHECKING:
    from accelerate import Accelerator


@contextmanager
def accelerated(config: Config, purpose: str) -> Iterator[Accelerator]:
    """Seed PyTorch with `train.seed` and hold an Accelerator of `train.precision` while the block runs.

    `purpose` says in the message of a missing accelerate what it is needed for.
    """
    accelerate = require("accelerate", "train", purpose)
    torch.manual_seed(config.train.seed)
    accelerator = accelerate.Accelerator(mixed_precision=config.train.precision)
    try:
        yield accelerator
    finally:
        accelerator.end_training()
        accelerate.state.AcceleratorState._reset_state()  # the next run in this process may want another precision
