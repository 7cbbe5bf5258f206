"""The training objective of both stages."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lldiffusion.config import Config
from lldiffusion.diffusion import ForwardProcess
from lldiffusion.errors import LLDiffusionError
from lldiffusion.model import LLDiffusion
from lldiffusion.model.level import brighten, whole
from lldiffusion.model.network import Features
from lldiffusion.model.tone import log_mean

from .alignment_loss import aligned_l1
from .perceptual import PerceptualLoss

View = dict[str, Tensor]  # thumbnail, normal_thumbnail and window of each crop, see `data.dataset`
Conditions = tuple[Features, Tensor | None, Tensor | None]  # features, level, window
OF_X0 = ("l1", "ssim", "brightness", "aligned", "perceptual")  # terms that compare x0


class Objective(nn.Module):
    """The model and its losses as one module, so that `accelerate` can wrap it.

    Stage "joint" trains encoder, denoiser and DGNET; stage "enhance" trains the denoiser on a frozen encoder.  The
    shape of the level learns with the denoiser in both; its guess is fitted apart (`training.level`).
    """

    def __init__(self, model: LLDiffusion, config: Config, stage: str) -> None:
        super().__init__()
        self.model, self.weights, self.joint = model, config.loss, stage == "joint"
        self.process = ForwardProcess(config.diffusion)
        used = [name for name in OF_X0 if getattr(config.loss, name)]
        if used and config.diffusion.prediction == "eps":
            raise LLDiffusionError(f"loss.{used[0]} compares x0: it needs prediction x0 or v")
        if not self.joint:
            model.degrader = None
            model.encoder.requires_grad_(False)
        if model.level is not None:
            for guess in (model.level.mean, model.level.tones):  # fitted apart (`training.level`)
                guess.requires_grad_(False)
        perceptual = config.loss.perceptual and stage == "enhance"
        self.perceptual = PerceptualLoss(config.loss.perceptual_weights) if perceptual else None

    def forward(
        self, low: Tensor, normal: Tensor, noise: Tensor, t: Tensor, view: View | None = None
    ) -> dict[str, Tensor]:
        """low, normal, noise (N, 3, H, W), t (N,) -> weighted loss terms by name; their sum is the loss."""
        x_t = self.process.add_noise(normal, noise, t)
        features, level, window = self._conditions(low, view)
        c = self.model.color_map(low)
        prediction = self.model.denoiser(x_t, low, c, t, features, level, window).float()  # losses in float32
        target = self.process.target(normal, noise, t)
        terms = {"prediction": self.weights.prediction * F.mse_loss(prediction, target)}
        if self.joint and self.weights.degradation:
            dark = (self.model.degrade(normal, features).float() + 1) / 2
            terms["degradation"] = self.weights.degradation * F.l1_loss(dark, (low + 1) / 2)
        if level is not None and view is not None and self.weights.thumbnail:
            lit = brighten(view["thumbnail"], level, whole(len(low), low))
            terms["thumbnail"] = self.weights.thumbnail * F.l1_loss(lit, view["normal_thumbnail"])
        return terms | self._image_terms(prediction, x_t, normal, t)

    def _conditions(self, low: Tensor, view: View | None) -> Conditions:
        with torch.set_grad_enabled(self.joint and torch.is_grad_enabled()):
            features = self.model.encoder(low)
        return conditions(self.model, low, view, features)

    def _image_terms(self, prediction: Tensor, x_t: Tensor, normal: Tensor, t: Tensor) -> dict[str, Tensor]:
        w, terms = self.weights, {}
        if not any(getattr(w, name) for name in OF_X0):
            return {}
        x0 = self.process.to_x0(prediction, x_t, t)
        if w.l1:
            terms["l1"] = w.l1 * F.l1_loss(x0, normal)
        if w.ssim:
            terms["ssim"] = w.ssim * (1 - ssim((x0 + 1) / 2, (normal + 1) / 2))
        if w.brightness:
            terms["brightness"] = w.brightness * F.l1_loss(x0.mean(dim=(2, 3)), normal.mean(dim=(2, 3)))
        if w.aligned:
            terms["aligned"] = w.aligned * aligned_l1(x0, normal)
        if self.perceptual is not None:
            seen = (slice(None), slice(None), *[slice(0, w.perceptual_crop)] * 2)  # crops lie at random: any part does
            terms["perceptual"] = w.perceptual * self.perceptual((x0[seen] + 1) / 2, (normal[seen] + 1) / 2)
        return terms


def conditions(model: LLDiffusion, low: Tensor, view: View | None, features: Features | None = None) -> Conditions:
    """Features, level and window of crops.  The denoiser learns to obey the level that it is given: the true one."""
    features = model.encoder(low) if features is None else features
    if model.level is None:
        return features, None, None
    assert view is not None, "a model with a level is trained on crops that know their whole picture"
    return features, model.level.level(view["thumbnail"], log_mean(view["normal_thumbnail"])), view["window"]


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
