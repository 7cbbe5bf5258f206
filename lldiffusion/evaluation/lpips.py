"""LPIPS (Zhang et al. 2018) through torchmetrics, where its AlexNet is at hand; nothing is downloaded."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .metrics import Metric, Uint8

# torchvision's ImageNet weights of AlexNet, in torch's hub cache: what torchmetrics would otherwise download.
WEIGHTS = "alexnet-owt-7be5be79.pth"


def load_lpips() -> Metric | str:
    """LPIPS (AlexNet) of two (H, W, 3) uint8 images, or the sentence that says why it cannot be measured."""
    missing = [name for name in ("torch", "torchmetrics", "torchvision") if importlib.util.find_spec(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)}; torchvision must match the torch build"
    weights = _hub() / "checkpoints" / WEIGHTS
    if not weights.is_file():
        return f"no AlexNet weights at '{weights}': torchvision.models.alexnet(weights='DEFAULT') fetches them"
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    return measure_with(LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True).eval())


def measure_with(network: Callable[[Any, Any], Any]) -> Metric:
    """The metric of uint8 images for a network that takes two (1, 3, H, W) float32 tensors in [0, 1]."""
    import torch

    def measure(prediction: Uint8, target: Uint8) -> float:
        tensors = [torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None] / 255 for pixels in (prediction, target)]
        with torch.inference_mode():
            return float(network(*tensors))

    return measure


def _hub() -> Path:
    import torch

    return Path(torch.hub.get_dir())
