"""The training objective of both stages."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lldiffusion.config import Config
from lldiffusion.diffusion import ForwardProcess
from lldiffusion.errors import LLDiffusionError
from lldiffusion.model import LLDiffusion
from lldiffusion.model.level import true_level


class Objective(nn.Module):
    """The model and its losses as one module, so that `accelerate` can wrap it.

    Stage "joint" trains encoder, denoiser and DGNET; stage "enhance" trains the denoiser on a frozen encoder.
    """

    def __init__(self, model: LLDiffusion, config: Config, stage: str) -> None:
        super().__init__()
        self.model, self.weights, self.joint = model, config.loss, stage == "joint"
        self.process = ForwardProcess(config.diffusion)
        extra = config.loss.l1 or config.loss.ssim or config.loss.brightness
        if extra and config.diffusion.prediction == "eps":
            raise LLDiffusionError("loss.l1, loss.ssim and loss.brightness compare x0: they need prediction x0 or v")
        if not self.joint:
            model.degrader = None
            model.encoder.requires_grad_(False)
        if model.encoder.level is not None:
            model.encoder.level.requires_grad_(False)  # fitted on whole images before stage 1

    def forward(self, low: Tensor, normal: Tensor, noise: Tensor, t: Tensor) -> dict[str, Tensor]:
        """low, normal, noise (N, 3, H, W), t (N,) -> weighted loss terms by name; their sum is the loss."""
        x_t = self.process.add_noise(normal, noise, t)
        features = self._features(low, normal)
        prediction = self.model.denoiser(x_t, low, self.model.color_map(low), t, features).float()  # losses in float32
        target = self.process.target(normal, noise, t)
        terms = {"prediction": self.weights.prediction * F.mse_loss(prediction, target)}
        if self.joint and self.weights.degradation:
            dark = (self.model.degrade(normal, features).float() + 1) / 2
            terms["degradation"] = self.weights.degradation * F.l1_loss(dark, (low + 1) / 2)
        return terms | self._image_terms(prediction, x_t, normal, t)

    def _features(self, low: Tensor, normal: Tensor) -> tuple[Tensor, ...]:
        with torch.set_grad_enabled(self.joint):
            features = self.model.encoder(low)
        # The denoiser learns to obey the level that it is given: the true one.
        return (*features[:-1], true_level(low, normal)) if self.model.config.model.level else features

    def _image_terms(self, prediction: Tensor, x_t: Tensor, normal: Tensor, t: Tensor) -> dict[str, Tensor]:
        w, terms = self.weights, {}
        if w.l1 or w.ssim or w.brightness:
            x0 = self.process.to_x0(prediction, x_t, t)
            if w.l1:
                terms["l1"] = w.l1 * F.l1_loss(x0, normal)
            if w.ssim:
                terms["ssim"] = w.ssim * (1 - ssim((x0 + 1) / 2, (normal + 1) / 2))
            if w.brightness:
                terms["brightness"] = w.brightness * F.l1_loss(x0.mean(dim=(2, 3)), normal.mean(dim=(2, 3)))
        return terms


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Mean SSIM of images in [0, 1] with an 8x8 box window of stride 4 (Wang et al. 2004): a fast training loss.

    Evaluation uses the library implementations named in `lldiffusion.evaluation`, never this one.
    """
    pool = lambda x: F.avg_pool2d(x, 8, 4)  # noqa: E731
    mean_a, mean_b = pool(a), pool(b)
    var_a, var_b = pool(a * a) - mean_a**2, pool(b * b) - mean_b**2
    covariance = pool(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return (similarity / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean()
