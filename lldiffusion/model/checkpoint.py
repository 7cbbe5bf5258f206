"""Checkpoints: a folder with `model.safetensors` (averaged weights) and `config.json`, written atomically."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lldiffusion.atomic import new_path
from lldiffusion.bundle.find import find_model
from lldiffusion.config import Config, config_from_dict
from lldiffusion.errors import LLDiffusionError
from lldiffusion.versions import __version__

from .network import LLDiffusion

FORMAT = 1  # of config.json; raised when an older reader would misread a newer file


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
        record = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        version, table = int(record["format"]), record["config"]
    except FileNotFoundError as error:
        raise LLDiffusionError(f"'{path}' is not a checkpoint: it has no config.json (see `lldiff convert`)") from error
    except (ValueError, KeyError, TypeError) as error:
        raise LLDiffusionError(f"'{folder / 'config.json'}' is damaged: {error}") from error
    if version > FORMAT:
        raise LLDiffusionError(f"'{path}' has format {version}, this version reads up to {FORMAT}: upgrade lldiffusion")
    return CheckpointInfo(folder, config_from_dict(table), bool(record.get("degrader")), record.get("notes", {}))


def save_checkpoint(
    folder: str | Path,
    config: Config,
    weights: dict[str, Tensor],
    notes: dict[str, Any] | None = None,
    extra: dict[str, dict[str, Tensor]] | None = None,
) -> None:
    """Write a checkpoint to a new folder; `extra` adds further `NAME.safetensors` files (training state)."""
    record = {
        "format": FORMAT,
        "lldiffusion": __version__,
        "degrader": any(name.startswith("degrader.") for name in weights),
        "config": config.to_dict(),
        "notes": notes or {},
    }
    with new_folder(folder) as temporary:
        save_file(_contiguous(weights), str(temporary / "model.safetensors"))
        for name, tensors in (extra or {}).items():
            save_file(_contiguous(tensors), str(temporary / f"{name}.safetensors"))
        (temporary / "config.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def check_free(folder: str | Path) -> Path:
    """Refuse a folder to write that holds something already."""
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise LLDiffusionError(f"'{target}' exists already: remove it or name another folder")
    return target


@contextmanager
def new_folder(folder: str | Path) -> Iterator[Path]:
    """A temporary folder beside `folder` that becomes it when the block ends well, and vanishes when it does not."""
    with new_path(check_free(folder)) as temporary:
        temporary.mkdir()
        yield temporary


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(str(path))
    except (SafetensorError, OSError) as error:
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
