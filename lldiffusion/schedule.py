"""Noise schedules: the tables of the forward process, in float64 (no PyTorch)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lldiffusion.config import DiffusionConfig
from lldiffusion.errors import LLDiffusionError

Table = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Schedule:
    """alpha_bar[t], t = 0..T-1: x_t = sqrt(alpha_bar[t]) x_0 + sqrt(1 - alpha_bar[t]) noise (Ho et al. 2020, eq. 4)."""

    alpha_bar: Table
    prediction: str  # "eps", "x0" or "v"

    @property
    def timesteps(self) -> int:
        """T, the length of the forward process."""
        return len(self.alpha_bar)


def make_schedule(config: DiffusionConfig) -> Schedule:
    """The schedule of a configuration."""
    betas = linear_betas(config) if config.schedule == "linear" else cosine_betas(config.timesteps)
    alpha_bar: Table = np.cumprod(1 - betas, dtype=np.float64)
    return Schedule(zero_terminal_snr(alpha_bar) if config.zero_terminal_snr else alpha_bar, config.prediction)


def linear_betas(config: DiffusionConfig) -> Table:
    """beta_t rising linearly from beta_start to beta_end (Ho et al. 2020)."""
    return np.linspace(config.beta_start, config.beta_end, config.timesteps, dtype=np.float64)


def cosine_betas(timesteps: int) -> Table:
    """alpha_bar(s) = cos^2((s + 0.008) / 1.008 * pi / 2), betas capped at 0.999 (Nichol & Dhariwal 2021, eq. 17)."""
    s = np.arange(timesteps + 1) / timesteps
    curve = np.cos((s + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.minimum(1 - curve[1:] / curve[:-1], 0.999)


def zero_terminal_snr(alpha_bar: Table) -> Table:
    """Shift and scale sqrt(alpha_bar) so that the last is 0 and the first unchanged (Lin et al. 2024, algorithm 1)."""
    root = np.sqrt(alpha_bar)
    rescaled: Table = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
    return rescaled


def timesteps(total: int, steps: int, spacing: str) -> NDArray[np.int64]:
    """`steps` timesteps, descending: "leading" k * (T // steps), "trailing" from T-1 (Lin et al. 2024, table 2)."""
    if not 1 <= steps <= total:
        raise LLDiffusionError(f"{steps} steps asked for: 1 to {total} are possible")
    if spacing == "leading":
        return (np.arange(steps) * (total // steps))[::-1].astype(np.int64)
    return np.round(np.arange(total, 0, -total / steps)).astype(np.int64)[:steps] - 1
