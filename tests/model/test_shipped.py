"""The shipped weights are alive: what the network is made of changes the picture."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from lldiffusion.data.photographs import dark_photographs  # noqa: E402
from lldiffusion.model import load_model  # noqa: E402

DEAD = "its trunk diverged while it was trained and is zero everywhere: said on its card"


@pytest.mark.parametrize("name", [pytest.param("tiny", marks=pytest.mark.xfail(reason=DEAD, strict=True)), "tiny-lol"])
def test_the_encoders_features_change_the_picture(name: str) -> None:
    """A ReLU that is zero for every picture has no gradient: no validation score says that a trunk died."""
    pytest.importorskip("skimage")
    model = load_model(name)
    _, _, dark = next(iter(dark_photographs()))
    y = torch.from_numpy(dark[:320, :512].transpose(2, 0, 1)[None].copy()).float() / 127.5 - 1
    noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert model.level is not None
        level = model.level(torch.nn.functional.interpolate(y, (64, 96), mode="area"))
        features = model.encoder(y)
        seen, blind = (
            model.denoiser(noise, y, model.color_map(y), 999, given, level)
            for given in (features, tuple(torch.zeros_like(f) for f in features))
        )
    assert 127.5 * (seen - blind).abs().mean() > 0.2
