"""Configuration: presets load, every mistake is named, order of authority holds."""

import json
from pathlib import Path

import pytest

from lldiffusion.config import PRESETS, config_from_dict, load_config
from lldiffusion.errors import LLDiffusionError


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_load_and_survive_json(preset: str) -> None:
    config = load_config(preset)
    assert config.name == preset
    assert config_from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_order_is_preset_then_file_then_command_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('preset = "tiny"\n[train]\nlr = 5e-4\nbatch = 3\n')
    config = load_config(file, ["train.batch=2"])
    assert (config.train.lr, config.train.batch) == (5e-4, 2)
    assert config.model == load_config("tiny").model


def test_overrides_take_toml_values_and_bare_words() -> None:
    config = load_config("tiny", ['data.pairs=["a", "b"]', "sampling.sampler=dpm++", "train.lr=1"])
    assert config.data.pairs == ("a", "b")
    assert config.sampling.sampler == "dpm++"
    assert config.train.lr == 1.0


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.learning_rate=1", ["learning_rate", "train"]),
        ("train.lr=fast", ["train.lr", "fast", "float"]),
        ("train.batch=0", ["train.batch", "at least 1"]),
        ("sampling.sampler=ddmi", ["ddmi", "did you mean 'ddim'"]),
        ("train.lr", ["key=value"]),
        ("name.x=1", ["name.x"]),
        ("data.crop=100", ["multiple of 32"]),
        ("diffusion.prediction=eps", ["zero_terminal_snr"]),
        ("diffusion.prediction=v", ["model.denoiser.gain", "x0"]),
        ("model.denoiser.patch=4", ["model.denoiser", "feature 1", "at 1/8", "level at 1/16"]),
        ("model.encoder.ladder_scales=[2,4]", ["feature 2", "at 1/2", "level at 1/4"]),
    ],
)
def test_every_mistake_is_named(override: str, words: list[str]) -> None:
    with pytest.raises(LLDiffusionError) as caught:
        load_config("tiny", [override])
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(("source", "words"), [("tinny", "did you mean 'tiny'"), ("no/such.toml", "no configuration")])
def test_unknown_sources(source: str, words: str) -> None:
    with pytest.raises(LLDiffusionError, match=words):
        load_config(source)


def test_a_file_that_is_no_toml(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text("a = = 1")
    with pytest.raises(LLDiffusionError, match="not a readable configuration"):
        load_config(file)
