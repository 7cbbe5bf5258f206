"""Checkpoints: a folder with `model.safetensors` (averaged weights) and `config.json`, written atomically."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lldiffusion.atomic import new_path
from lldiffusion.bundle.checkpoint_record import FORMAT, read_record
from lldiffusion.bundle.find import find_model
from lldiffusion.config import Config, config_from_dict
from lldiffusion.errors import LLDiffusionError
from lldiffusion.versions import __version__

from .network import LLDiffusion


@dataclass(frozen=True)
class CheckpointInfo:
    """What `config.json` says beside the configuration."""

    path: Path
    config: Config
    has_degrader: bool
    notes: dict[str, Any]  # stage, step, metrics, source: whatever the writer recorded


def load_model(path: str | Path, device: str | torch.device = "cpu") -> LLDiffusion:
    """Load a checkpoint folder, or a shipped model by name ("tiny"), in float32 and evaluation mode.

    Raises LLDiffusionError when the folder is missing, incomplete, damaged or newer than this version.
    """
    info = read_info(path)
    model = LLDiffusion(info.config, with_degrader=info.has_degrader)
    weights = _read_weights(info.path / "model.safetensors")
    weights = {name.replace("denoiser.polish.", "denoiser.refine."): value for name, value in weights.items()}  # 0.1
    _check_names(weights, model.state_dict(), info.path)
    model.load_state_dict({name: value.float() for name, value in weights.items()})
    return model.eval().requires_grad_(False).to(device)


def read_info(path: str | Path) -> CheckpointInfo:
    """Read `config.json` of a checkpoint without its weights."""
    folder = find_model(path)
    try:
        record = read_record(folder / "config.json")
    except FileNotFoundError as error:
        raise LLDiffusionError(f"'{path}' is not a checkpoint: it has no config.json (see `lldiff convert`)") from error
    if record.format > FORMAT:
        raise LLDiffusionError(
            f"'{path}' has format {record.format}, this version reads up to {FORMAT}: upgrade lldiffusion"
        )
    return CheckpointInfo(folder, config_from_dict(record.config), record.degrader, record.notes)


def save_checkpoint(
    folder: str | Path,
    config: Config,
    weights: dict[str, Tensor],
    notes: dict[str, Any] | None = None,
    extra: dict[str, dict[str, Tensor]] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a checkpoint to a new folder; `extra` adds further `NAME.safetensors` files (training state).

    `overwrite` replaces, as a whole, a checkpoint that stands there.
    """
    record = {
        "format": FORMAT,
        "lldiffusion": __version__,
        "degrader": any(name.startswith("degrader.") for name in weights),
        "config": config.to_dict(),
        "notes": notes or {},
    }
    with new_path(Path(folder) if overwrite else check_free(folder)) as temporary:
        temporary.mkdir()
        _write_weights(weights, temporary / "model.safetensors")
        for name, tensors in (extra or {}).items():
            _write_weights(tensors, temporary / f"{name}.safetensors")
        (temporary / "config.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def check_free(folder: str | Path) -> Path:
    """Refuse a folder to write that holds something already."""
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise LLDiffusionError(f"'{target}' exists already: remove it or name another folder")
    return target


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}


def _write_weights(tensors: dict[str, Tensor], path: Path) -> None:
    try:
        save_file(_contiguous(tensors), str(path))
    except SafetensorError as error:  # it says what the system said, as text
        if said := re.search(r"os error (\d+)", str(error)):
            raise OSError(int(said[1]), os.strerror(int(said[1])), str(path)) from error
        raise


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(str(path))
    except MemoryError:
        raise
    except Exception as error:  # of safetensors, and of torch for types that it does not know
        raise LLDiffusionError(f"'{path}' is missing or damaged: {error}") from error


def _check_names(given: dict[str, Tensor], wanted: dict[str, Tensor], path: Path) -> None:
    wrong = [f"{n} (missing)" for n in wanted if n not in given]
    wrong += [f"{n} (not of this network)" for n in given if n not in wanted]
    wrong += [
        f"{n} {tuple(given[n].shape)} instead of {tuple(w.shape)}"
        for n, w in wanted.items()
        if n in given and given[n].shape != w.shape
    ]
    if wrong:
        raise LLDiffusionError(f"'{path}' does not fit its configuration: {'; '.join(wrong[:5])} ({len(wrong)} in all)")
