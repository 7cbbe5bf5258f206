"""The authors' network: ours gives its answers for the same weights, at a few places here and everywhere outside."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lldiffusion.config import load_config
from lldiffusion.engines.sampler import plan
from lldiffusion.schedule import make_schedule
from support.golden_oracle import ANSWERS, FILE, Floats, load, make_pictures, make_weights, summarise

torch = pytest.importorskip("torch")

from lldiffusion.model.convert import fill  # noqa: E402

# Of the largest value. float32 sums in another order differ by about 1e-6; 25 steps of random weights multiply it.
TOLERANCE = dict.fromkeys(ANSWERS, 1e-4) | {"ddim25": 1e-3}


@pytest.fixture(scope="module")
def network() -> Any:
    """Ours with the authors' weights, which are made by rule."""
    weights = {name: torch.from_numpy(value) for name, value in make_weights(load()["parameters"]).items()}
    model, left_out = fill(load_config("paper"), weights, "golden")
    assert left_out
    assert all("fus" in name for name in left_out)
    return model


@pytest.fixture(scope="module")
def answers(network: Any) -> dict[str, Floats]:
    """Everything that our network answers, each computed once for all tests (8 s on a core)."""
    config = load_config("paper")
    y, x_t, x0 = (torch.from_numpy(picture) for picture in make_pictures().values())
    with torch.inference_mode():
        features, c = network.encoder(y), network.color_map(y)
        found = {f"feature_{i}": feature for i, feature in enumerate(features)}
        found |= {f"eps_t{t}": network.denoiser(x_t, y, c, t, features) for t in (960, 40)}
        found["degraded"] = network.degrade(x0, features)
        x = x_t
        for s in plan(make_schedule(config.diffusion), config.sampling):
            x = s.a * x + s.b * (s.k_x * x + s.k_p * network.denoiser(x, y, c, s.t, features))
        found["ddim25"] = x
    return {name: tensor.numpy() for name, tensor in found.items()}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_few_values_of_every_answer(answers: dict[str, Floats], name: str) -> None:
    wanted = load()["answers"][name]
    ours = answers[name]
    assert list(ours.shape) == wanted["shape"]
    slack = TOLERANCE[name] * wanted["largest"]
    np.testing.assert_allclose(ours.ravel()[wanted["positions"]], wanted["values"], rtol=0, atol=slack)
    found = summarise(name, ours)
    for what in ("mean", "rms", "largest"):
        assert found[what] == pytest.approx(wanted[what], abs=slack)


def test_the_oracle_is_small() -> None:
    assert FILE.stat().st_size < 100_000


# ---- against the whole of it, where it is at hand ----


def test_every_value_of_every_answer(answers: dict[str, Floats], shared: Path) -> None:
    with np.load(shared / "golden/official_lol.npz") as large:
        for name, ours in answers.items():
            theirs = large[name]
            assert np.abs(ours - theirs).max() / np.abs(theirs).max() < TOLERANCE[name], name


def test_the_small_oracle_is_made_of_the_large_one(shared: Path) -> None:
    small = load()
    assert small["parameters"] == json.loads((shared / "golden/official_lol.json").read_text())["state_dict"]
    with np.load(shared / "golden/official_lol.npz") as large:
        for name, picture in make_pictures().items():
            np.testing.assert_array_equal(picture, large[name])
        assert small["answers"] == {name: summarise(name, large[name]) for name in ANSWERS}


def test_the_rule_for_weights_is_the_published_one(shared: Path) -> None:
    every = load()["parameters"]
    some = {name: shape for name, shape in every.items() if name.startswith("encoder.") or len(shape) == 1}
    theirs = runpy.run_path(str(shared / "golden/weights.py"))["state_dict"](some)
    for name, ours in make_weights(some).items():
        np.testing.assert_allclose(ours, theirs[name], rtol=0, atol=1e-6, err_msg=name)
