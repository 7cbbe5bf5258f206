"""LPIPS weights of the tests' making, in every format and naming."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from lldiffusion.evaluation import lpips_weights
from lldiffusion.evaluation.lpips_weights import SHAPES, URL, VARIABLE

Arrays = dict[str, np.ndarray]
# torchvision's names of the convolutions, torchmetrics' names of the heads.
THEIRS = {"conv1": "features.0", "conv2": "features.3", "conv3": "features.6", "conv4": "features.8"}
THEIRS |= {"conv5": "features.10", "lin1": "lin0.model.1", "lin2": "lin1.model.1", "lin3": "lin2.model.1"}
THEIRS |= {"lin4": "lin3.model.1", "lin5": "lin4.model.1"}


def random_arrays() -> Arrays:
    """Random weights of AlexNet's shapes, scaled by fan-in so that every layer has something to say."""
    rng = np.random.default_rng(3)
    made = {n: rng.standard_normal(s, np.float32) * math.sqrt(2 / max(math.prod(s[1:]), 8)) for n, s in SHAPES.items()}
    return {n: np.abs(a) if n.startswith("lin") else a for n, a in made.items()}


def write(path: Path, arrays: Arrays) -> Path:
    """A file of weights in the format that its name says."""
    if path.suffix == ".npz":
        np.savez(path, **arrays)  # type: ignore[arg-type]
    elif path.suffix == ".safetensors":
        save_file(arrays, path)
    else:
        torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, path)
    return path


def renamed(arrays: Arrays) -> Arrays:
    """The same arrays as torchvision and torchmetrics call them."""
    parts = {name: name.rpartition(".") for name in arrays}
    return {f"{THEIRS[layer]}.{kind}": arrays[name] for name, (layer, _, kind) in parts.items()}


def hide_weights(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """No weights of the machine's, and no network."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(folder / "torch"))
    monkeypatch.setattr(lpips_weights, "URL", f"http://127.0.0.1:9/{URL.rpartition('/')[2]}")
