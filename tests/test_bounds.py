"""Every number of a configuration has a range, and is checked before anything computes with it."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest

from lldiffusion.bounds import BOUNDS
from lldiffusion.config import PRESETS, Config, load_config
from lldiffusion.errors import LLDiffusionError


def numbers(section: Any, where: str = "") -> list[tuple[str, Any]]:
    """Dotted names and values of every number, and of every list that holds or may hold numbers."""
    found: list[tuple[str, Any]] = []
    for entry in fields(section):
        value, name = getattr(section, entry.name), f"{where}{entry.name}"
        if is_dataclass(value):
            found += numbers(value, f"{name}.")
        elif (isinstance(value, (int, float)) and not isinstance(value, bool)) or "[int" in str(entry.type):
            found.append((name, value))
    return found


NUMBERS = numbers(load_config("paper"))


@pytest.mark.parametrize("number", ["-1", "nan", "inf", "-inf", "1e300", "1099511627776"])
@pytest.mark.parametrize("name", [name for name, _ in NUMBERS])
def test_no_number_may_be_absurd(name: str, number: str) -> None:
    given = f"[{number}, {number}, {number}]" if isinstance(dict(NUMBERS)[name], tuple) else number
    if name == "train.seed" and number == "1099511627776":
        return
    with pytest.raises(LLDiffusionError) as caught:
        load_config("paper", [f"{name}={given}"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        "model.encoder.head_channels=0",
        "model.encoder.residual_blocks=1000000",
        "model.encoder.ladder_scales=[0, 2, 2]",
        "model.denoiser.groups=0",
        "model.denoiser.channels=0",
        "model.denoiser.patch=0",
        "model.denoiser.multipliers=[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]",
        "diffusion.timesteps=1099511627776",
        "diffusion.timesteps=0",
        "train.workers=100000",
        "train.lr=-1e-4",
        "train.lr=nan",
        "train.ema=1.5",
        "data.simulated_share=2.0",
    ],
)
def test_what_was_found_is_named_with_what_is_accepted(given: str) -> None:
    with pytest.raises(LLDiffusionError, match=f"{given.partition('=')[0].rpartition('.')[2]} .*accepted are"):
        load_config("paper", [given])


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_lies_inside(preset: str) -> None:
    load_config(preset)


def test_every_section_has_its_bounds() -> None:
    config = load_config("tiny")
    sections = [config.model, config.model.encoder, config.model.denoiser]
    sections += [getattr(config, name) for name in ("diffusion", "sampling", "data", "loss", "train", "parity")]
    assert {type(section).__name__ for section in sections} == set(BOUNDS)
    assert replace(config) == config and isinstance(config, Config)
