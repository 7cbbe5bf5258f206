"""Training state on disk: raw weights, Adam's moments and the averages, as safetensors (nothing is pickled)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lldiffusion.atomic import discard
from lldiffusion.config import Config
from lldiffusion.errors import LLDiffusionError
from lldiffusion.model.checkpoint import read_info, save_checkpoint

from .ema import EMA

KEEP = 2  # newest checkpoints kept of each stage
STEP_FOLDER = re.compile(r"^step-(\d+)$")


def save_state(
    folder: Path, config: Config, model: nn.Module, optimizer: torch.optim.Optimizer, ema: EMA, notes: dict[str, Any]
) -> Path:
    """Write `folder/step-N` (averaged weights, configuration, training state); drop all but the newest few."""
    state = {f"weights.{name}": value for name, value in model.state_dict().items()}
    for index, entry in optimizer.state_dict()["state"].items():
        state |= {f"adam.{index}.{key}": torch.as_tensor(value) for key, value in entry.items()}
    notes = notes | {"ema_updates": ema.updates}
    target = folder / f"step-{notes['step']:07d}"
    # overwrite: of the same step the newer one wins
    save_checkpoint(target, config, ema.average, notes, extra={"training_state": state}, overwrite=True)
    for old in checkpoints(folder)[:-KEEP]:
        discard(old)
    return target


def checkpoints(folder: Path) -> list[Path]:
    """Finished checkpoints of a stage, oldest first."""
    found = folder.iterdir() if folder.is_dir() else []
    return sorted((p for p in found if STEP_FOLDER.match(p.name)), key=lambda p: int(p.name.removeprefix("step-")))


def load_state(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, ema: EMA) -> dict[str, Any]:
    """Put a checkpoint's state back; returns its notes (step, best score)."""
    info = read_info(folder)
    try:
        state = load_file(str(folder / "training_state.safetensors"))
        average = load_file(str(folder / "model.safetensors"))
    except Exception as error:  # safetensors raises its own kinds for missing and for truncated files
        raise LLDiffusionError(f"'{folder}' cannot be resumed from: {error}; remove it to use an older one") from error
    try:
        model.load_state_dict(_part(state, "weights."))
        ema.load(average, int(info.notes["ema_updates"]))
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": _moments(_part(state, "adam.")), "param_groups": groups})
        _lay_out_alike(optimizer)
        return info.notes | {"step": int(info.notes["step"]), "best": info.notes["best"]}
    except (KeyError, ValueError, TypeError, RuntimeError) as error:  # torch's for names and shapes
        reason = " ".join(str(error).split())[:200]
        raise LLDiffusionError(f"'{folder}' does not fit its run: {reason}; remove it to use an older one") from error


def _lay_out_alike(optimizer: torch.optim.Optimizer) -> None:
    """Give the moments the memory layout of their weights: a fused step reads both as they lie."""
    for weight, entry in optimizer.state.items():
        for key, value in entry.items():
            if value.shape == weight.shape:
                entry[key] = torch.empty_like(weight).copy_(value)


def _part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _moments(flat: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    nested: dict[int, dict[str, Tensor]] = {}
    for name, value in flat.items():
        index, key = name.split(".")
        nested.setdefault(int(index), {})[key] = value
    return nested
