"""Configuration: frozen dataclasses that check themselves, read from TOML.

Order of authority: default < preset < file < command line.  A preset is a TOML file in
`lldiffusion/presets`; a user's file names the one it starts from with `preset = "tiny"`.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from lldiffusion.bounds import check_bounds
from lldiffusion.documents import read_json, read_toml
from lldiffusion.errors import LLDiffusionError, choose
from lldiffusion.network_config import EncoderConfig, ModelConfig, UNetConfig
from lldiffusion.tables import build, merge, override
from lldiffusion.training_config import DataConfig, LossConfig, TrainConfig

__all__ = [
    "PRESETS",
    "Config",
    "DataConfig",
    "DiffusionConfig",
    "EncoderConfig",
    "LossConfig",
    "ModelConfig",
    "ParityConfig",
    "SamplingConfig",
    "Thresholds",
    "TrainConfig",
    "UNetConfig",
    "change_config",
    "config_from_dict",
    "load_config",
]

PRESETS = ("tiny", "tiny-lol", "live", "fast", "paper", "paper-v2")


@dataclass(frozen=True)
class DiffusionConfig:
    """The forward process and what the denoiser predicts."""

    timesteps: int = 1000  # T
    schedule: str = "linear"  # of the betas: "linear" or "cosine"
    beta_start: float = 1e-4  # linear only
    beta_end: float = 0.02  # linear only
    zero_terminal_snr: bool = False  # rescale so that x_T is pure noise (Lin et al., WACV 2024)
    prediction: str = "eps"  # "eps", "x0" or "v"

    def __post_init__(self) -> None:
        check_bounds(self)
        choose(self.schedule, ("linear", "cosine"), "noise schedule")
        choose(self.prediction, ("eps", "x0", "v"), "prediction type")
        if self.zero_terminal_snr and self.prediction == "eps":
            raise LLDiffusionError(
                "zero_terminal_snr needs prediction 'v' or 'x0': at SNR 0, eps says nothing about x0"
            )


@dataclass(frozen=True)
class SamplingConfig:
    """How images are made by default; the command line may override each."""

    sampler: str = "ddim"  # "ddim", "dpm++" or "euler"
    steps: int = 25  # denoiser evaluations an image
    spacing: str = "leading"  # of the timesteps: "leading" starts below T (the paper), "trailing" at T-1
    clip: bool = False  # clip x0 to [-1, 1] at every step

    def __post_init__(self) -> None:
        check_bounds(self)
        choose(self.sampler, ("ddim", "dpm++", "euler"), "sampler")
        choose(self.spacing, ("leading", "trailing"), "timestep spacing")


FOR_TENSORRT = ("int8-gpu", "fp8")  # precisions of eight bits as TensorRT reads them


@dataclass(frozen=True)
class Thresholds:
    """How like the eager float32 model the graphs of one precision must answer."""

    psnr: float  # dB, at least, of every graph and of the whole loop
    brightness: float  # drift of the mean of the whole loop's picture in 1/255, at most


@dataclass(frozen=True)
class ParityConfig:
    """What an export must reach on dark images to be accepted, for each precision of its graphs."""

    fp32_psnr: float = 70.0  # float32 differs by the order of sums only
    fp32_brightness: float = 0.02
    fp16_psnr: float = 45.0  # float16 is invisible in 8 bits
    fp16_brightness: float = 0.2
    bf16_psnr: float = 30.0  # bfloat16 has 8 bits itself
    bf16_brightness: float = 1.0
    int8_psnr: float = 45.0  # of the whole loop; its graphs alone are measured, not judged
    int8_brightness: float = 0.2

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not value > 0:
                raise LLDiffusionError(f"parity.{name} is {value}: a positive number is needed")
        check_bounds(self)

    def of(self, precision: str) -> Thresholds:
        """The thresholds of a precision; all of eight bits share theirs."""
        precision = "int8" if precision in FOR_TENSORRT else precision
        return Thresholds(getattr(self, f"{precision}_psnr"), getattr(self, f"{precision}_brightness"))


@dataclass(frozen=True)
class Config:
    """Everything that defines a model and how it was trained."""

    name: str = "custom"  # shown by every command
    model: ModelConfig = field(default_factory=ModelConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    data: DataConfig = field(default_factory=DataConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    parity: ParityConfig = field(default_factory=ParityConfig)

    def __post_init__(self) -> None:
        if self.model.denoiser.gain and self.diffusion.prediction != "x0":
            raise LLDiffusionError(f"model.denoiser.gain needs prediction x0, not {self.diffusion.prediction}")

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dictionary, JSON-ready."""
        return json.loads(json.dumps(asdict(self)))


def load_config(source: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Config:
    """Read a preset's name, a TOML file or a run's config.json, then apply overrides such as "train.lr=2e-4".

    Raises LLDiffusionError for an unknown preset, file or key (naming the nearest known one) or a bad value.
    """
    table = _read(str(source))
    for text in overrides:
        override(table, text)
    return config_from_dict(table)


def change_config(config: Config, file: Path | None, overrides: list[str] | tuple[str, ...] = ()) -> Config:
    """`config` with a TOML file and then overrides laid over it; raises as `load_config` does."""
    table = config.to_dict() if file is None else merge(config.to_dict(), _read(str(file)))
    for text in overrides:
        override(table, text)
    return config_from_dict(table)


def config_from_dict(table: dict[str, Any]) -> Config:
    """Build a `Config` from nested dictionaries as TOML or JSON give them."""
    return build(Config, _renewed(table), "")


def _renewed(table: dict[str, Any]) -> dict[str, Any]:
    """`table` with the names of version 0.1 made today's: the level was true or false, `refine` was `polish`."""
    model = table.get("model")
    if not isinstance(model, dict):
        return table
    model = dict(model)
    if model.get("level") is True:
        raise LLDiffusionError(
            "model.level = true is a model of version 0.1, whose one global gain is gone: train it again with "
            "model.level = 'grid', or use it with lldiffusion 0.1"
        )
    if model.get("level") is False:
        model["level"] = "none"
    for name in ("denoiser", "degrader"):
        if isinstance(unet := model.get(name), dict) and "polish" in unet:
            model[name] = {"refine" if key == "polish" else key: value for key, value in unet.items()}
    return table | {"model": model}


def _read(source: str) -> dict[str, Any]:
    if source in PRESETS:
        text = (resources.files("lldiffusion") / "presets" / f"{source}.toml").read_text(encoding="utf-8")
        return _based(tomllib.loads(text))
    path = Path(source)
    if not path.is_file():
        if path.suffix == ".toml" or "/" in source:
            raise LLDiffusionError(
                f"no configuration file '{source}': give a TOML file or a preset ({', '.join(PRESETS)})"
            )
        choose(source, PRESETS, "preset (and there is no file of that name)")
    try:
        table = read_json(path) if path.suffix == ".json" else read_toml(path)
    except LLDiffusionError as error:
        raise LLDiffusionError(f"'{source}' is not a readable configuration: {error}") from error
    return _based(table)


def _based(table: dict[str, Any]) -> dict[str, Any]:
    """`table` laid over the preset that it starts from, if it names one."""
    base = table.pop("preset", None)
    return table if base is None else merge(_read(choose(str(base), PRESETS, "preset")), table)
