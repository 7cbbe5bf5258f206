"""Validation: the averaged weights enhance held-out pairs, whole, from pure noise in one step.

Told the level, and with the level guessed: the first says how well the denoiser restores, the second what users see.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from lldiffusion.config import Config
from lldiffusion.data.dataset import load_bytes
from lldiffusion.data.layouts import Pair
from lldiffusion.diffusion import ForwardProcess
from lldiffusion.engines.level import reduce_picture
from lldiffusion.model import LLDiffusion
from lldiffusion.model.plain import PlainBlock
from lldiffusion.model.tone import log_mean

GRID = 4  # pairs shown in TensorBoard


@dataclass(frozen=True)
class Validation:
    """Means over the held-out pairs, and a picture: low, enhanced and normal side by side."""

    psnr: float  # dB, 8-bit, no GT mean (protocol "standard"), level guessed
    brightness: float  # signed error of the mean, in 1/255
    grid: NDArray[np.uint8]  # (H, W, 3)
    told: float  # dB, with the level of the normal picture
    groups: dict[str, tuple[float, float]]  # by folder: dB guessed, dB told
    idle: float  # share of the denoiser's block channels that no pixel of any pair brought above zero


def validate(model: LLDiffusion, config: Config, pairs: list[Pair]) -> Validation:
    """Enhance every pair's low image and compare with the normal one."""
    rows: list[NDArray[Any]] = []
    scores: list[tuple[float, float]] = []
    errors: list[float] = []
    alive = _Alive(model)
    for pair in pairs:
        low, normal = load_bytes(pair.low), load_bytes(pair.normal)
        with alive:
            guessed, told = enhance(model, config, low), enhance(model, config, low, normal)
        scores.append((_psnr(guessed, normal), _psnr(told, normal)))
        errors.append(float(guessed.mean() - normal.mean()))
        if len(rows) < GRID:
            rows.append(np.concatenate([side[::2, ::2] for side in (low, guessed, normal)], axis=1))
    width = min(row.shape[1] for row in rows)
    folders = [pair.low.parent.parent.name for pair in pairs]
    groups = {
        name: _mean([s for s, f in zip(scores, folders, strict=True) if f == name]) for name in sorted({*folders})
    }
    guessed_mean, told_mean = _mean(scores)
    grid = np.concatenate([row[:, :width] for row in rows])
    return Validation(guessed_mean, float(np.mean(errors)), grid, told_mean, groups, alive.idle())


class _Alive:
    """Watches which channels inside the plain blocks are ever above zero while the block of a `with` runs.

    A trunk can die while the scores stand still: what passes at full resolution hides it.
    """

    def __init__(self, model: LLDiffusion) -> None:
        self.seen = {m: torch.zeros(m.conv2.in_channels) for m in model.denoiser.modules() if isinstance(m, PlainBlock)}

    def __enter__(self) -> None:
        self.hooks = [block.conv2.register_forward_pre_hook(self._look(block)) for block in self.seen]

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()

    def _look(self, block: PlainBlock) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def look(_: nn.Module, given: tuple[Tensor, ...]) -> None:  # (N, C, H, W), activated
            self.seen[block] = torch.maximum(self.seen[block], given[0].detach().float().amax(dim=(0, 2, 3)).cpu())

        return look

    def idle(self) -> float:
        """Share of the channels that stayed at or below zero; 0 for a network without such blocks."""
        return float((torch.cat(list(self.seen.values())) <= 0).float().mean()) if self.seen else 0.0


def _mean(scores: list[tuple[float, float]]) -> tuple[float, float]:
    guessed, told = np.mean(scores, axis=0)
    return float(guessed), float(told)


@torch.inference_mode()
def enhance(
    model: LLDiffusion, config: Config, low: NDArray[np.uint8], normal: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """One whole picture, one step at T-1; `normal`: told its level."""
    device = next(model.parameters()).device
    height, width, _ = low.shape
    multiple = config.model.size_multiple
    bottom, right = -height % multiple, -width % multiple
    y = F.pad(_planes(low).to(device), (0, right, 0, bottom), mode="reflect")
    level = window = None
    if model.level is not None:
        small = _planes(reduce_picture(low)).to(device)
        told = None if normal is None else log_mean(_planes(reduce_picture(normal)).to(device))
        level = model.level(small) if told is None else model.level.level(small, told)
        window = torch.tensor([[0, 0, (height + bottom) / height, (width + right) / width]], device=device)
    process = ForwardProcess(config.diffusion).to(device)
    t = torch.tensor([config.diffusion.timesteps - 1], device=device)
    x_t = torch.randn(y.shape, generator=torch.Generator().manual_seed(0)).to(device)
    x_t = x_t * (not config.model.recurrent)  # which has no previous result of a single picture
    prediction = model.denoiser(x_t, y, model.color_map(y), t, model.encoder(y), level, window).float()
    x0 = _to_x0(process, config, prediction, x_t, t)[0, :, :height, :width]
    return ((x0.permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu().numpy()


def _to_x0(process: ForwardProcess, config: Config, prediction: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    if config.diffusion.prediction != "eps":
        return process.to_x0(prediction, x_t, t)
    alpha, sigma = (values[t][:, None, None, None] for values in (process.alpha, process.sigma))
    return (x_t - sigma * prediction) / alpha


def _planes(picture: NDArray[Any]) -> Tensor:
    """(H, W, 3) in [0, 255] -> (1, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1), np.float32))[None] / 127.5 - 1


def _psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    return float(-10 * np.log10(max(np.mean((a.astype(np.float32) - b) ** 2) / 255**2, 1e-10)))
