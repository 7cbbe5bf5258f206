"""The objective of models of video (`model.live`): every frame of a clip from the result of the one before it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lldiffusion.config import Config
from lldiffusion.model import LLDiffusion
from lldiffusion.model.tone import log_mean

from .losses import Objective, View


class ClipObjective(Objective):
    """The losses of `Objective` on every frame, and `steady`: the changes from frame to frame shall be the true ones.

    The level, shape and guess, is another model's and stays as it is: a model of video is as bright as the model of
    pictures that it takes it from.  The perceptual loss and DGNET's see the last frame.
    """

    def __init__(self, model: LLDiffusion, config: Config, stage: str) -> None:
        super().__init__(model, config, stage)
        assert model.level is not None
        model.level.requires_grad_(False)

    def forward(
        self, low: Tensor, normal: Tensor, noise: Tensor, t: Tensor, view: View | None = None
    ) -> dict[str, Tensor]:
        """low, normal (N, T, 3, H, W) -> weighted loss terms by name; `noise` has no part in it."""
        assert view is not None and self.model.level is not None
        with torch.no_grad():
            level = self.model.level.level(view["thumbnail"], log_mean(view["normal_thumbnail"]))
        x, results = torch.zeros_like(normal[:, 0]), []
        for i in range(low.shape[1]):
            with torch.set_grad_enabled(self.joint and torch.is_grad_enabled()):
                features = self.model.encoder(low[:, i])
            c = self.model.color_map(low[:, i])
            x = self.model.denoiser(x, low[:, i], c, t, features, level, view["window"][:, i]).float()
            results.append(x)
        made, times = torch.stack(results, dim=1), t.repeat_interleave(low.shape[1])
        terms = self._frame_terms(made, normal, times)
        if self.joint and self.weights.degradation:
            dark = (self.model.degrade(normal[:, -1], features).float() + 1) / 2
            terms["degradation"] = self.weights.degradation * F.l1_loss(dark, (low[:, -1] + 1) / 2)
        return terms

    def _frame_terms(self, made: Tensor, normal: Tensor, t: Tensor) -> dict[str, Tensor]:
        flat, wanted, perceptual = made.flatten(0, 1), normal.flatten(0, 1), self.perceptual
        self.perceptual = None
        terms = {"prediction": self.weights.prediction * F.mse_loss(flat, wanted)}
        terms |= self._image_terms(flat, flat, wanted, t)
        self.perceptual = perceptual
        if perceptual is not None:
            side = self.weights.perceptual_crop
            last = [(clip[:, -1, :, :side, :side] + 1) / 2 for clip in (made, normal)]
            distance = perceptual(*last)
            terms["perceptual"] = self.weights.perceptual * distance
        if self.weights.steady:
            changes = (made[:, 1:] - made[:, :-1]) - (normal[:, 1:] - normal[:, :-1])
            terms["steady"] = self.weights.steady * changes.abs().mean()
        return terms
