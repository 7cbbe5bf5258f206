"""A perceptual training loss: the distance of two pictures in the features of a VGG16 trained on photographs.

Johnson, Alahi, Fei-Fei, "Perceptual losses for real-time style transfer and super-resolution", ECCV 2016, on features
of unit length per pixel as in Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric",
CVPR 2018.  LPIPS-AlexNet, which is reported, is another network: it stays a measure that was not trained on.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from lldiffusion.errors import LLDiffusionError

LAYERS = ((64, 64), (128, 128), (256, 256, 256))  # VGG16 up to relu3_3; a max-pool between the rows
MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, of RGB in [0, 1]


class PerceptualLoss(nn.Module):
    """Mean squared distance of unit-length features after each row of LAYERS, a third of the weight each."""

    mean: Tensor
    spread: Tensor

    def __init__(self, weights: str | Path) -> None:
        """`weights`: a file with VGG16's convolutions in their order, whatever their names."""
        super().__init__()
        channels = [3, *(c for row in LAYERS for c in row)]
        self.convs = nn.ModuleList([nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(channels)])
        _fill(cast("list[nn.Conv2d]", list(self.convs)), Path(weights))
        for name, values in (("mean", MEAN), ("spread", SPREAD)):
            self.register_buffer(name, torch.tensor(values)[None, :, None, None], persistent=False)
        self.requires_grad_(False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """a, b (N, 3, H, W) in [0, 1]; gradients flow to a alone."""
        with torch.no_grad():
            wanted = self._features(b)
        pairs = zip(self._features(a), wanted, strict=True)
        distances = [(x - y).square().sum(dim=1).mean() for x, y in pairs]
        return sum(distances, start=torch.zeros((), device=a.device)) / len(distances)

    def _features(self, u: Tensor) -> list[Tensor]:
        h, found, convs = (u - self.mean) / self.spread, [], iter(self.convs)
        for number, row in enumerate(LAYERS):
            h = F.max_pool2d(h, 2) if number else h
            for _ in row:
                h = F.relu(next(convs)(h))
            features = h.float()
            found.append(features * torch.rsqrt(features.square().sum(dim=1, keepdim=True) + 1e-6))
        return found


def _fill(convs: list[nn.Conv2d], path: Path) -> None:
    """The first convolutions of a file: torchvision's VGG16, or any other whose trunk comes first and in order."""
    state = _read(path)
    names = [name for name, value in state.items() if name.endswith(".weight") and value.shape[2:] == (3, 3)]
    names = [name for name in names if state[name].shape[1] > 1]  # not a fixed blur
    for conv, name in zip(convs, _ordered(names), strict=False):
        weight, bias = state[name], state[name.removesuffix("weight") + "bias"]
        if weight.shape != conv.weight.shape:
            raise LLDiffusionError(
                f"loss.perceptual_weights: '{path}' has {name} {tuple(weight.shape)} where VGG16 has "
                f"{tuple(conv.weight.shape)}"
            )
        conv.load_state_dict({"weight": weight.float(), "bias": bias.float()})


def _ordered(names: list[str]) -> list[str]:
    """By the numbers in them: features.2 before features.10."""
    return sorted(names, key=lambda name: [int(part) for part in name.split(".") if part.isdigit()])


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise LLDiffusionError(
            f"loss.perceptual needs a VGG16: loss.perceptual_weights is '{path}', which is no file; give "
            "torchvision's vgg16 .pth, or the one inside the package stlpips-pytorch"
        )
    try:
        return load_file(str(path)) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # torch's own words advise to load the file without its safeguards
        raise LLDiffusionError(
            f"'{path}' is not a file of weights: it is damaged, or asks for Python objects, which no file is given"
        ) from error
