"""The learning rate as a function of the step, so that resuming needs no scheduler state."""

from __future__ import annotations

import math

from lldiffusion.config import TrainConfig


def learning_rate(config: TrainConfig, stage: str, step: int) -> float:
    """Rate at optimiser step 0, 1, ... of a stage: warm-up, then constant, cosine to 1 % or halved at milestones;
    "cooldown" is constant in stage 1, so that its length need not be known, and a cosine in stage 2."""
    base, total = (config.lr, config.joint_steps) if stage == "joint" else (config.enhance_lr, config.enhance_steps)
    if step < config.warmup:
        return base * (step + 1) / config.warmup
    if config.schedule == "cosine" or (config.schedule == "cooldown" and stage != "joint"):
        progress = (step - config.warmup) / max(1, total - config.warmup)
        return base * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))
    if config.schedule == "multistep":
        return base * 0.5 ** sum(step >= milestone for milestone in config.milestones)
    return base
