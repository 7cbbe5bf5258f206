"""Models of two levels and few channels, for tests of the arithmetic around the network; teachers and settings."""

from __future__ import annotations

from pathlib import Path

import torch

from lldiffusion.config import load_config
from lldiffusion.model import LLDiffusion
from lldiffusion.model.checkpoint import save_checkpoint
from support.pictures import SMALL
from support.untrained import see_all

MICRO = [
    *SMALL,
    "model.encoder.channels=[8,8]",
    "model.encoder.residual_blocks=1",
    "model.encoder.ladder=[16]",
    "model.encoder.ladder_scales=[2]",
    "model.denoiser.multipliers=[1,2]",
    "model.denoiser.attention_down=[]",
    "model.denoiser.attention_up=[]",
    "model.degrader.multipliers=[1,2]",
    "model.degrader.patch=2",
    "data.crop=32",
]
EPS = ["diffusion.prediction=eps", "diffusion.zero_terminal_snr=false", "model.denoiser.gain=false"]
EPS += ["model.denoiser.refine=0", "loss.l1=0.0", "loss.ssim=0.0", "loss.brightness=0.0", "sampling.clip=false"]


def micro_model(*overrides: str) -> LLDiffusion:
    torch.manual_seed(0)
    model = see_all(LLDiffusion(load_config("tiny", [*MICRO, *overrides]), with_degrader=False))
    return model.eval().requires_grad_(False)


def save_teacher(folder: Path, *overrides: str) -> str:
    model = micro_model(*overrides)
    save_checkpoint(folder / "teacher", model.config, model.state_dict())
    return str(folder / "teacher")


def settings(pairs: Path, *overrides: str) -> list[str]:
    run = [f'data.pairs=["{pairs}"]', "train.warmup=0", "train.save_every=2", "train.validate_every=1000"]
    return [*run, "train.enhance_steps=2", "train.schedule=constant", *overrides]
