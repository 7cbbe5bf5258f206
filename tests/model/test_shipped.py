"""The shipped weights are alive: what the denoiser's trunk says changes the picture."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from lldiffusion.data.photographs import dark_photographs  # noqa: E402
from lldiffusion.model import load_model  # noqa: E402


@pytest.mark.parametrize("name", ["tiny", "tiny-lol", "live"])
def test_the_trunk_changes_the_picture(name: str) -> None:
    """A trunk that is zero for every picture has no gradient: no validation score says that it died."""
    pytest.importorskip("skimage")
    model = load_model(name)
    _, _, dark = next(iter(dark_photographs()))
    y = torch.from_numpy(dark[:320, :512].transpose(2, 0, 1)[None].copy()).float() / 127.5 - 1
    noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(0)) * (not model.config.model.recurrent)
    with torch.no_grad():
        assert model.level is not None
        level = model.level(torch.nn.functional.interpolate(y, (64, 96), mode="area"))
        features, c = model.encoder(y), model.color_map(y)
        seen = model.denoiser(noise, y, c, 999, features, level)
        model.denoiser.net.conv_out.register_forward_pre_hook(lambda _, given: (torch.zeros_like(given[0]),))
        blind = model.denoiser(noise, y, c, 999, features, level)
    assert 127.5 * (seen - blind).abs().mean() > 2
