"""The forward process on tensors: noising, targets, and x0 from a prediction (equations in `schedule`)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lldiffusion.config import DiffusionConfig
from lldiffusion.schedule import make_schedule


class ForwardProcess(nn.Module):
    """q(x_t | x_0) and what a denoiser is trained to say about it."""

    alpha: Tensor
    sigma: Tensor

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__()
        alpha_bar = torch.from_numpy(make_schedule(config).alpha_bar)
        self.prediction, self.timesteps = config.prediction, config.timesteps
        self.register_buffer("alpha", alpha_bar.sqrt().float(), persistent=False)
        self.register_buffer("sigma", (1 - alpha_bar).sqrt().float(), persistent=False)

    def add_noise(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t = alpha_t x0 + sigma_t noise; x0, noise (N, 3, H, W), t (N,) integers."""
        alpha, sigma = self._at(t)
        return alpha * x0 + sigma * noise

    def target(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """eps = noise, x0 = x0, v = alpha_t noise - sigma_t x0 (Salimans & Ho 2022)."""
        alpha, sigma = self._at(t)
        return {"eps": noise, "x0": x0, "v": alpha * noise - sigma * x0}[self.prediction]

    def to_x0(self, prediction: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The image that an x0- or v-prediction stands for."""
        alpha, sigma = self._at(t)
        return prediction if self.prediction == "x0" else alpha * x_t - sigma * prediction

    def _at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return self.alpha[t][:, None, None, None], self.sigma[t][:, None, None, None]


def draw_timesteps(count: int, total: int, final_share: float, generator: torch.Generator) -> Tensor:
    """(count,) timesteps, antithetic (t and T-1-t in pairs, as in the paper), a share of them moved to T-1."""
    half = torch.randint(total, (count // 2 + 1,), generator=generator)
    t = torch.cat([half, total - 1 - half])[:count]
    last = torch.rand(count, generator=generator) < final_share
    return torch.where(last, total - 1, t)
