"""LLDiffusion: encoder, colour map, denoiser (DDDM) and degradation generation network (DGNET) together."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lldiffusion.config import Config

from .color_map import ColorMap
from .encoder import LatentMapEncoder
from .level import LevelHead, brighten, log_tone, unit
from .polish import Polish
from .unet import UNet

Features = tuple[Tensor, ...]
AnyModule = TypeVar("AnyModule", bound=nn.Module)


def tone(y: Tensor, kind: str) -> Tensor:
    """The curve applied to y in [-1, 1] inside the networks: "none", or "log".

    "log" is `level.log_tone` of u = (y + 1) / 2: the darks keep their level and get most of the range.
    """
    return y if kind == "none" else 2 * log_tone(unit(y)) - 1


class Encoder(nn.Module):
    """E(y) with the model's tone curve in front of it.

    A model with `level` returns one more feature, the last: (N, 2, 1, 1), see `level.LevelHead`.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.tone = config.model.tone
        self.net = LatentMapEncoder(config.model.encoder)
        self.level = LevelHead() if config.model.level else None

    def forward(self, y: Tensor) -> Features:
        features = self.net(tone(y, self.tone))
        return features if self.level is None else (*features, self.level(y))


class Denoiser(nn.Module):
    """DDDM: prediction = UNet(concat[x_t, y, C(y)], t; E(y)), paper section 3.4.

    x_t, y, c: (N, 3, H, W), y and c in [-1, 1]; t: (N,) or a number in 0..T-1; returns (N, 3, H, W).
    A model with `level` also sees y brightened to it, moved by `exposure` stops.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.tone, self.gain, self.level = config.model.tone, config.model.denoiser.gain, config.model.level
        seen, said = 12 if self.level else 9, 6 if self.gain else 3
        self.net = UNet(config.model.denoiser, seen, said, config.model.encoder.ladder, timed=True)
        self.polish = Polish(config.model.denoiser.polish) if config.model.denoiser.polish else None

    def forward(
        self,
        x_t: Tensor,
        y: Tensor,
        c: Tensor,
        t: Tensor | float,
        features: Features,
        exposure: Tensor | float = 0.0,
    ) -> Tensor:
        t = torch.as_tensor(t, device=x_t.device).expand(x_t.shape[0])
        toned = base = tone(y, self.tone)
        seen = [x_t, toned, c]
        if self.level:
            base = brighten(y, features[-1], exposure)
            features = features[:-1]
            seen.append(base)
        prediction = self.net(torch.cat(seen, dim=1), features, t)
        if not self.gain:
            return prediction
        offset, gain = prediction.chunk(2, dim=1)
        x0 = offset + gain * base  # detail comes straight from y, at full resolution
        return x0 if self.polish is None else self.polish(x0, base)


class LLDiffusion(nn.Module):
    """The whole model.  `degrader` is None in a checkpoint of stage 2, which no longer needs it."""

    def __init__(self, config: Config, with_degrader: bool = True) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.color_map = ColorMap()
        self.denoiser = Denoiser(config)
        features = config.model.encoder.ladder
        if with_degrader:
            config.model.check_grids("degrader")
        self.degrader = UNet(config.model.degrader, 3, 3, features, timed=False) if with_degrader else None

    def degrade(self, x: Tensor, features: Features) -> Tensor:
        """DGNET: the low-light image y' that x would have been, (N, 3, H, W) in about [-1, 1] (paper, section 3.2)."""
        if self.degrader is None:
            raise RuntimeError("this checkpoint holds no degradation network: it was dropped for stage 2")
        return self.degrader(x, features[:-1] if self.config.model.level else features)


def fold_spectral_norm(model: AnyModule) -> AnyModule:
    """Replace every spectral-norm parametrisation by the weight it computes: same outputs, plain layers."""
    for module in model.modules():
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
    return model
