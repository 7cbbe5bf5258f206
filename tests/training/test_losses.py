"""Training losses of their own: photometric alignment and VGG features."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402

from lldiffusion.errors import LLDiffusionError  # noqa: E402
from lldiffusion.training.alignment_loss import aligned_l1  # noqa: E402
from lldiffusion.training.perceptual import LAYERS, PerceptualLoss  # noqa: E402


def test_alignment_forgives_a_colour_transform_and_nothing_else() -> None:
    generator = torch.Generator().manual_seed(0)
    normal = torch.rand(2, 3, 16, 16, generator=generator) - 0.5
    tinted = 0.6 * normal + 0.2 * normal.flip(1) + torch.tensor([0.1, -0.2, 0.0])[None, :, None, None]
    assert aligned_l1(tinted, normal) < 0.02
    assert aligned_l1(normal, normal) < 1e-5
    assert aligned_l1(normal.flip(2), normal) > 0.1
    flat = torch.zeros(1, 3, 8, 8)
    assert torch.isfinite(aligned_l1(flat, flat + 0.5))


@pytest.fixture(scope="module")
def vgg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VGG16's shapes with random weights, named as torchvision names them."""
    channels, weights, number = [3, *(c for row in LAYERS for c in row)], {}, 0
    generator = torch.Generator().manual_seed(0)
    for c_in, c_out in pairwise(channels):
        weights[f"features.{number}.weight"] = torch.randn(c_out, c_in, 3, 3, generator=generator) * c_in**-0.5 / 3
        weights[f"features.{number}.bias"] = torch.zeros(c_out)
        number += 2
    path = tmp_path_factory.mktemp("vgg") / "vgg16.safetensors"
    save_file(weights, str(path))
    return path


def test_perceptual_loss_is_zero_for_equals_and_moves_the_first_alone(vgg: Path) -> None:
    loss = PerceptualLoss(vgg)
    a, b = torch.rand(1, 3, 32, 32, requires_grad=True), torch.rand(1, 3, 32, 32, requires_grad=True)
    assert loss(a, a).item() == 0
    loss(a, b).backward()
    assert a.grad is not None and a.grad.abs().sum() > 0
    assert b.grad is None and all(p.grad is None for p in loss.parameters())


def test_perceptual_weights_that_do_not_fit_are_named(vgg: Path, tmp_path: Path) -> None:
    with pytest.raises(LLDiffusionError, match="no file"):
        PerceptualLoss(tmp_path / "none.pth")
    small = tmp_path / "small.safetensors"
    save_file({"features.0.weight": torch.zeros(8, 3, 3, 3), "features.0.bias": torch.zeros(8)}, str(small))
    with pytest.raises(LLDiffusionError, match=r"features\.0\.weight .*\(64, 3, 3, 3\)"):
        PerceptualLoss(small)
