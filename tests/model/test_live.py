"""The model of video: what it does with a previous result, with nothing to lift, and what it costs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from lldiffusion.config import load_config
from lldiffusion.errors import LLDiffusionError
from lldiffusion.model import LLDiffusion
from lldiffusion.model.level import brighten, whole
from lldiffusion.model.live import BLACK, LiveDenoiser

HEIGHT, WIDTH = 96, 128


@pytest.fixture(scope="module")
def model() -> LLDiffusion:
    torch.manual_seed(0)
    made = LLDiffusion(load_config("live"), with_degrader=False).eval().requires_grad_(False)
    assert isinstance(made.denoiser, LiveDenoiser)
    torch.nn.init.normal_(made.denoiser.refine.mend.weight, std=0.05)
    return made


@pytest.fixture(scope="module")
def y() -> Tensor:
    """A dark picture with soft shapes and some noise."""
    generator = torch.Generator().manual_seed(1)
    soft = torch.nn.functional.interpolate(torch.rand(1, 3, 6, 8, generator=generator), (HEIGHT, WIDTH), mode="bicubic")
    noise = 0.01 * torch.randn(1, 3, HEIGHT, WIDTH, generator=generator)
    return (2 * (0.02 + 0.2 * soft + noise) - 1).clamp(-1, 1)


LEVEL = torch.cat([torch.full((1, 6, 8, 12), 1.5), torch.zeros(1, 3, 8, 12)], dim=1)  # a gain, and the tint of grey


def run(model: LLDiffusion, x: Tensor, y: Tensor, level: Tensor = LEVEL) -> Tensor:
    return model.denoiser(x, y, model.color_map(y), 999, model.encoder(y), level)


def test_without_a_network_it_is_the_brightened_picture(y: Tensor) -> None:
    model = LLDiffusion(load_config("live"), with_degrader=False).eval().requires_grad_(False)
    model.denoiser.net.conv_out.weight.zero_()
    made, wanted = run(model, torch.zeros_like(y), y), brighten(y, LEVEL, whole(1, y))
    assert (made - wanted).abs().mean() < 0.01  # a straight line around each four pixels' mean
    assert (made - wanted).abs().max() < 0.1


def test_what_needs_nothing_comes_back_as_it_is(model: LLDiffusion, y: Tensor) -> None:
    assert torch.equal(run(model, torch.zeros_like(y), y, torch.zeros_like(LEVEL)), y)


def test_a_previous_result_counts_and_zeros_are_none(model: LLDiffusion, y: Tensor) -> None:
    alone, before = run(model, torch.zeros_like(y), y), torch.full_like(y, 0.3)
    after = run(model, before, y)
    pulled = (after - alone) / (before - alone)
    assert 0.15 < pulled.median() < 0.4  # keep starts at 0.27
    alone_again = run(model, torch.full_like(y, 1e-9), y)  # too small to be a picture
    assert torch.allclose(alone_again, alone, atol=1e-5)


def test_each_picture_of_a_batch_has_its_own_previous_result(model: LLDiffusion, y: Tensor) -> None:
    before = torch.cat([torch.zeros_like(y), torch.full_like(y, 0.3)])
    both = run(model, before, y.repeat(2, 1, 1, 1), LEVEL.repeat(2, 1, 1, 1))
    assert torch.allclose(both[:1], run(model, before[:1], y), atol=1e-5)
    assert torch.allclose(both[1:], run(model, before[1:], y), atol=1e-5)


def test_the_recursion_averages_noise_away(model: LLDiffusion, y: Tensor) -> None:
    """On a still scene with new noise in every frame the result changes less from frame to frame than the first."""
    generator, x, results = torch.Generator().manual_seed(2), torch.zeros_like(y), []
    for _ in range(6):
        x = run(model, x, y + 0.02 * torch.randn(y.shape, generator=generator))
        results.append(x)
    alone = [run(model, torch.zeros_like(y), y + 0.02 * torch.randn(y.shape, generator=generator)) for _ in range(2)]
    assert (results[-1] - results[-2]).std() < 0.8 * (alone[1] - alone[0]).std()


def test_it_costs_at_most_12_thousand_operations_a_pixel(model: LLDiffusion) -> None:
    y = torch.rand(1, 3, 192, 256) * 2 - 1
    with FlopCounterMode(display=False) as counter:
        run(model, y.clone(), y)
    assert counter.get_total_flops() / (192 * 256) <= 12_000


@pytest.mark.parametrize(
    "setting", ["model.level=none", "model.denoiser.patch=1", "model.denoiser.refine=0", "model.encoder.shrink=2"]
)
def test_what_it_needs_is_said(setting: str) -> None:
    with pytest.raises(LLDiffusionError, match=r"recurrent needs|encoder\.shrink"):
        load_config("live", [setting])


def test_nothing_is_made_of_nothing(y: Tensor) -> None:
    """A network that answers grey for squares of zeros, as the shipped one did, is not believed."""
    model = LLDiffusion(load_config("live"), with_degrader=False).eval().requires_grad_(False)
    model.denoiser.net.conv_out.weight.zero_()
    bias = model.denoiser.net.conv_out.bias
    assert bias is not None
    bias[:3] = -0.2  # grey
    black = y.clone()
    black[..., :48] = -1
    made = (run(model, torch.zeros_like(y), black) + 1) / 2
    assert made[..., :40].max() <= BLACK + 1e-5
    assert made[..., 56:].mean() > 0.3  # where there is something, it is
