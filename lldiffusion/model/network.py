"""LLDiffusion: encoder, colour map, denoiser (DDDM) and degradation generation network (DGNET) together."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lldiffusion.config import Config, UNetConfig

from .color_map import ColorMap
from .encoder import LatentMapEncoder
from .level import LevelHead, lit_by, log_gain, tint_of, whole
from .live import LiveDenoiser, SmallColorMap
from .plain import RESIDUAL_START, PlainUNet
from .refine import Refine
from .tone import log_tone, unit
from .unet import UNet

Features = tuple[Tensor, ...]
AnyModule = TypeVar("AnyModule", bound=nn.Module)


def tone(y: Tensor, kind: str) -> Tensor:
    """The curve applied to y in [-1, 1] inside the networks: "none", or "log".

    "log" is `tone.log_tone` of u = (y + 1) / 2: the darks keep their level and get most of the range.
    """
    return y if kind == "none" else 2 * log_tone(unit(y)) - 1


class Encoder(nn.Module):
    """E(y) with the model's tone curve in front of it."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.tone = config.model.tone
        self.net = LatentMapEncoder(config.model.encoder)

    def forward(self, y: Tensor) -> Features:
        return self.net(tone(y, self.tone))


def make_unet(
    config: UNetConfig, c_in: int, c_out: int, features: tuple[int, ...], timed: bool, tinted: bool = False
) -> UNet | PlainUNet:
    """The U-Net that `config.norm` asks for: "none" is convolutions alone, the only one that may be told a tint."""
    if config.norm == "none":
        return PlainUNet(config, c_in, c_out, features, timed, tinted)
    return UNet(config, c_in, c_out, features, timed)


class Denoiser(nn.Module):
    """DDDM: prediction = UNet(concat[x_t, y, C(y)], t; E(y)), paper section 3.4.

    x_t, y, c: (N, 3, H, W), y and c in [-1, 1]; t: (N,) or a number in 0..T-1; returns (N, 3, H, W).
    A model with a `level` also sees y brightened by it (`level.brighten`), moved by `exposure` stops; `window` says
    which part of the whole picture these pixels are, None: all of it.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        unet = config.model.denoiser
        self.tone, self.gain, self.level = config.model.tone, unet.gain, config.model.level
        self.rest, self.tinted = config.model.rest, config.model.tinted
        seen, said = 9 if self.level == "none" else 12, 6 if self.gain else 3
        self.net = make_unet(unet, seen, said, config.model.encoder.ladder, timed=True, tinted=self.tinted)
        self.refine = Refine(unet.refine, unet.activation) if unet.refine else None
        if self.gain and isinstance(self.net, PlainUNet):
            _start_as_base(self.net)

    def forward(
        self,
        x_t: Tensor,
        y: Tensor,
        c: Tensor,
        t: Tensor | float,
        features: Features,
        level: Tensor | None = None,
        window: Tensor | None = None,
        exposure: Tensor | float = 0.0,
    ) -> Tensor:
        t = torch.as_tensor(t, device=x_t.device).expand(x_t.shape[0])
        toned = base = tone(y, self.tone)
        seen = [x_t, toned, c]
        if level is not None:
            lift = log_gain(y, level, whole(y.shape[0], y) if window is None else window, exposure)
            base = lit_by(y, lift)
            seen.append(base)
        tint = [tint_of(level)] if self.tinted and level is not None else []
        prediction = self.net(torch.cat(seen, dim=1), features, t, *tint)
        if not self.gain:
            return prediction
        offset, gain = prediction.chunk(2, dim=1)
        x0 = offset + gain * base  # detail comes straight from y, at full resolution
        x0 = x0 if self.refine is None else self.refine(x0, base)
        if not self.rest or level is None:
            return x0
        return y + (lift.abs() / self.rest).clamp_max(1) * (x0 - y)  # what is not lifted stays as it is


def _start_as_base(net: PlainUNet) -> None:
    """Gain near 1 and offset near 0 at the start: x0 is then the brightened picture, and learning begins there.

    x_t, pure noise in nine steps of ten, is not seen at first: it would be what the blocks learn to shut out.
    """
    out = net.conv_out
    with torch.no_grad():
        net.conv_in.weight[:, : 3 * net.patch**2] = 0.0
        out.weight.mul_(RESIDUAL_START)
        assert out.bias is not None
        out.bias.zero_()
        out.bias[out.out_channels // 2 :] = 1.0  # pixel-shuffled, the second half is the gain


class LLDiffusion(nn.Module):
    """The whole model.  `degrader` is None in a checkpoint of stage 2, which no longer needs it.

    `level` is the head that looks at the reduced whole picture, None in a model without a level.
    """

    def __init__(self, config: Config, with_degrader: bool = True) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        recurrent = config.model.recurrent
        self.color_map = SmallColorMap(config.model.denoiser.patch) if recurrent else ColorMap()
        head = (config.model.white, config.model.rest, config.model.tinted, config.model.tones)
        self.level = None if config.model.level == "none" else LevelHead(*head)
        self.denoiser = LiveDenoiser(config) if recurrent else Denoiser(config)
        features = config.model.encoder.ladder
        if with_degrader:
            config.model.check_grids("degrader")
        self.degrader = make_unet(config.model.degrader, 3, 3, features, timed=False) if with_degrader else None

    def degrade(self, x: Tensor, features: Features) -> Tensor:
        """DGNET: the low-light image y' that x would have been, (N, 3, H, W) in about [-1, 1] (paper, section 3.2)."""
        if self.degrader is None:
            raise RuntimeError("this checkpoint holds no degradation network: it was dropped for stage 2")
        return self.degrader(x, features)


def fold_spectral_norm(model: AnyModule) -> AnyModule:
    """Replace every spectral-norm parametrisation by the weight it computes: same outputs, plain layers."""
    for module in model.modules():
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
    return model
