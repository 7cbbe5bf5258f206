"""The estimate of a network's size, against networks; what is absurd ends before it is built."""

from __future__ import annotations

import pytest

from lldiffusion.config import load_config
from lldiffusion.errors import LLDiffusionError
from lldiffusion.network_size import MOST_PARAMETERS, parameters


@pytest.mark.parametrize("preset", ["tiny", "paper"])
def test_the_estimate_is_about_right(preset: str) -> None:
    torch = pytest.importorskip("torch")
    from lldiffusion.model import LLDiffusion

    config = load_config(preset)
    with torch.device("meta"):
        model = LLDiffusion(config, with_degrader=True)
    for name, about in parameters(config.model).items():
        real = sum(p.numel() for p in getattr(model, name).parameters())
        assert 0.5 * real < about < 2.5 * real, f"{name}: {real:,} parameters, {about:,} expected"
        assert about < MOST_PARAMETERS / 2


@pytest.mark.parametrize(
    ("given", "part"),
    [
        (["model.denoiser.channels=2048", "model.denoiser.blocks=32"], "denoiser"),
        (["model.denoiser.multipliers=[64,64,64,64]", "model.denoiser.channels=512"], "denoiser"),
        (["model.degrader.channels=2048", "model.degrader.multipliers=[64,64,64]"], "degrader"),
        (["model.encoder.head_channels=4096", "model.encoder.ladder=[4096,4096]"], "encoder"),
        (["model.encoder.channels=[2048,2048,2048,2048]", "model.encoder.residual_blocks=64"], "encoder"),
    ],
)
def test_an_absurd_product_is_one_line_at_once(given: list[str], part: str) -> None:
    with pytest.raises(LLDiffusionError, match=rf"model\.{part} would have about [\d,]+ million parameters") as caught:
        load_config("tiny", given)
    assert "\n" not in str(caught.value)


def test_pictures_are_not_padded_to_absurd_sizes() -> None:
    levels = ["model.encoder.channels=[1,1,1,1,1,1,1,1,1,1]", "model.denoiser.multipliers=[1,1,1,1,1,1,1,1,1,1]"]
    with pytest.raises(LLDiffusionError, match="multiples of 1024 pixels, accepted are 512 at most"):
        load_config("tiny", levels)
