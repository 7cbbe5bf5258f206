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
from lldiffusion.network_size import check_size
from lldiffusion.tables import build, merge, override

PRESETS = ("tiny", "tiny-lol", "live", "fast", "paper", "paper-v2")


@dataclass(frozen=True)
class EncoderConfig:
    """The latent map encoder E(y) (paper, section 3.3): a stride-2 pyramid, a head and a ladder back up."""

    channels: tuple[int, ...] = (16, 32, 64, 128, 256)  # one stride-2 convolution each
    residual_blocks: int = 3  # at the lowest resolution
    head_channels: int = 512  # of the three-convolution head
    ladder: tuple[int, ...] = (512, 512, 256)  # channels of the features handed to the denoiser, coarse to fine
    ladder_scales: tuple[int, ...] = (2, 2, 2)  # upsampling before each of them
    norm: str = "instance"  # "instance" removes the brightness level, "none" keeps it
    spectral_norm: bool = True  # of the pyramid, head and ladder convolutions
    shrink: int = 1  # side of the squares of pixels that are averaged before the pyramid

    @property
    def reduction(self) -> int:
        """How many pixels of a side lie behind one place of the lowest resolution."""
        return self.shrink * 2 ** len(self.channels)

    def __post_init__(self) -> None:
        check_bounds(self)
        choose(self.norm, ("instance", "none"), "encoder norm")
        if len(self.ladder) != len(self.ladder_scales):
            raise LLDiffusionError("model.encoder: 'ladder' and 'ladder_scales' must have the same length")


@dataclass(frozen=True)
class UNetConfig:
    """One U-Net: the denoiser (DDDM) or the degradation generation network (DGNET)."""

    channels: int = 64  # at the first level
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4, 4)  # of `channels`, one a level, fine to coarse
    blocks: int = 2  # residual blocks a level going down; one more going up
    block_type: str = "res"  # "res": two conv3, as the paper; "naf": NAFNet's, mostly 1x1 convolutions
    attention_down: tuple[int, ...] = (2,)  # levels with self-attention, counted from the finest
    attention_up: tuple[int, ...] = (2,)
    attention_pool: int = 1  # side of the squares that keys and values are averaged over: 1, or 2 for large images
    patch: int = 1  # pixel-unshuffle factor of the stem: the first level works at 1/patch
    norm: str = "group"  # "group": GroupNorm over the image; "pixel": over the channels of each pixel; "none": a
    # plain U-Net of convolutions alone (`model.plain`): no attention, tiles agree with the whole, made for runtimes
    activation: str = "silu"  # of the residual blocks: "silu", "relu" or "leaky_relu"; with norm "none"
    groups: int = 32  # of "group"
    channel_attention: bool = True  # reweights [h, E_i] after concatenation
    middle_time: bool = True  # the middle blocks receive the timestep (the authors' never do)
    gain: bool = False  # denoiser of x0: predict offset and gain of every pixel, x0 = offset + gain * tone(y);
    # with model.level, x0 = offset + gain * brightened y
    refine: int = 0  # with gain: channels of a last residual at full resolution, which sees across the patches; 0: none

    def __post_init__(self) -> None:
        check_bounds(self)
        choose(self.norm, ("group", "pixel", "none"), "U-Net norm")
        choose(self.activation, ("silu", "relu", "leaky_relu"), "U-Net activation")
        choose(self.block_type, ("res", "naf"), "U-Net block")
        self._check_plain()
        if self.attention_pool not in (1, 2):  # the coarsest level of a picture is a multiple of 2, of nothing more
            raise LLDiffusionError(f"attention_pool {self.attention_pool}: accepted are 1 and 2")
        if self.refine and not self.gain:
            raise LLDiffusionError(
                "model.denoiser.refine smooths offset + gain * y: it needs model.denoiser.gain = true"
            )
        if self.norm == "group" and self.channels % self.groups:
            raise LLDiffusionError(f"channels {self.channels} is not a multiple of groups {self.groups}")

    def _check_plain(self) -> None:
        """Norm "none" is convolutions alone: what looks at the whole picture, and what needs a norm, is refused."""
        whole = self.attention_down or self.attention_up or self.channel_attention or self.block_type != "res"
        if self.norm == "none" and whole:
            raise LLDiffusionError(
                "norm 'none' is a plain U-Net of convolutions: set attention_down = [], attention_up = [], "
                "channel_attention = false and block_type = 'res'"
            )
        if self.norm != "none" and self.activation != "silu":
            raise LLDiffusionError(f"activation '{self.activation}' needs norm = 'none': with norms it is SiLU")


@dataclass(frozen=True)
class ModelConfig:
    """The network: encoder, denoiser and the training-only DGNET."""

    tone: str = "none"  # curve applied to y inside the networks: "none", or "log", which spreads the darks
    level: str = "none"  # how y is brightened for the denoiser: "none", or "grid": log-gain by place and brightness,
    # made once from the whole picture (`model.level`)
    white: float = 0.0  # with a level: brightened value (1: white) that 1 % of a picture may newly reach; the guessed
    # level is lowered to keep to it, so that lamps do not burn; 0: no limit
    rest: float = 0.0  # with a level and gain: pixels whose log2 gain is below this fade into y, and so does a picture
    # whose mean shall change by less than a third of it, but for its shadows beside much light; 0: never
    recurrent: bool = False  # a model for video (`model.live`): x_t is its own previous result, zeros where there is
    # none; one step; its U-Net sees `denoiser.patch` pixels a side averaged; needs level, gain, refine, norm "none"
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    denoiser: UNetConfig = field(default_factory=lambda: UNetConfig(middle_time=False))
    degrader: UNetConfig = field(default_factory=lambda: UNetConfig(channels=32))

    def __post_init__(self) -> None:
        check_bounds(self)
        choose(self.tone, ("none", "log"), "tone curve")
        choose(self.level, ("none", "grid"), "level")
        self._check_recurrent()
        self.check_grids("denoiser")
        check_size(self)

    def _check_recurrent(self) -> None:
        d = self.denoiser
        if self.recurrent and not (self.level == "grid" and d.gain and d.refine and d.norm == "none" and d.patch > 1):
            raise LLDiffusionError(
                "model.recurrent needs model.level = 'grid', and of model.denoiser norm = 'none', gain = true, "
                "refine and patch above 1"
            )

    def check_grids(self, name: str) -> None:
        """Of "denoiser" or "degrader": its level i above the coarsest must be of the size of the i-th feature.

        The degrader's are checked where one is built: many models have none.
        """
        unet: UNetConfig = getattr(self, name)
        levels, size = len(unet.multipliers), self.encoder.reduction
        for i, scale in enumerate(self.encoder.ladder_scales, start=1):
            size, level = size // scale, unet.patch * 2 ** (levels - 1 - min(i, levels - 1))
            if i > levels or size != level:
                where = f"joins a level at 1/{level}" if i <= levels else f"has no level among {levels}"
                raise LLDiffusionError(
                    f"model.{name}: feature {i} of the encoder is at 1/{size} of the image and {where}; patch "
                    f"({unet.patch}) times 2^(multipliers - 1) must be encoder.shrink times 2^(encoder.channels), "
                    f"here {self.encoder.reduction}, and ladder_scales 2 each"
                )

    @property
    def size_multiple(self) -> int:
        """Height and width must be multiples of this many pixels (DESIGN: 32 for every model)."""
        coarsest = self.denoiser.patch * 2 ** (len(self.denoiser.multipliers) - 1)
        return max(32, coarsest, self.encoder.reduction)


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


@dataclass(frozen=True)
class DataConfig:
    """What is trained on: folders of pairs, and normal photographs darkened by the simulator."""

    pairs: tuple[str, ...] = ()  # folders in any layout of `lldiffusion.data.layouts`
    normal: tuple[str, ...] = ()  # folders of normal-light photographs for simulated pairs
    weights: tuple[float, ...] = ()  # draw probability of each folder (pairs, then normal); empty: by image count
    include: tuple[str, ...] = ()  # optional text files naming the pairs to keep, one a line: NAME, which keeps it in
    # every folder, or FOLDER/NAME (FOLDER: the last part of its path), which restricts that folder alone
    held_out: tuple[str, ...] = ()  # text files naming the validation pairs, one FOLDER/NAME a line: write them by
    # scene, so that no view of a scene is on both sides; they take the place of `validation`
    never: tuple[str, ...] = ()  # text files naming pairs that are left out of training and of validation
    validation: int = 8  # pairs held out of the first `pairs` folder: its last names, so that a burst stays on one side
    crop: int = 128  # side of a training crop in pixels
    frames: int = 1  # of a clip: for model.recurrent, 2 or more; the crop then moves over the photograph
    crops_per_image: int = 1  # crops drawn from each image of a batch
    part_min: float = 1.0  # smallest part of each side of a picture that stands for the whole (model.level sees it)
    scale_min: float = 1.0  # smallest random resize before cropping (1: never resized)
    expose: float = 0.0  # random exposure change of the low image, +- this many stops
    simulated_share: float = 0.0  # share of `pairs` samples whose low image is simulated from the normal one
    as_is: float = 0.0  # share of the simulated samples that need nothing: the low image is the normal one
    uneven: float = 0.0  # share of the other simulated samples whose light is uneven (lamps, windows, backlight)
    cast: float = 0.0  # random gain of each channel of the low image, in [1 - cast, 1 + cast]
    gamma: float = 0.0  # random gamma of the low image, exponent in [1 - gamma, 1 + gamma]
    stops: tuple[float, ...] = (5.6, 7.3)  # light that simulated low images lose, in stops: (least, most)
    rough: float = 0.0  # extra noise of half the low images: standard deviation up to this many 1/255, by photons too
    offset: float = 0.0  # black level of each channel of the low image moved by up to this many 1/255, either way
    saturate: float = 0.0  # half the pictures: chroma of both images times a factor in [1 - saturate, 1 + 2 saturate]
    recolor: float = (
        0.0  # share of the simulated samples whose channels are permuted, so that no colour is the usual one
    )
    target_expose: float = 0.0  # random exposure change of half the normal images, +- this many stops (model.level)

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.weights and len(self.weights) != len(self.pairs) + len(self.normal):
            raise LLDiffusionError("data.weights must name one weight for each folder of data.pairs and data.normal")
        if len(self.stops) != 2 or not 0 <= self.stops[0] <= self.stops[1]:
            raise LLDiffusionError(f"data.stops is {list(self.stops)}: expected [least, most], at least 0")
        if self.crop % 32:
            raise LLDiffusionError(f"data.crop is {self.crop}: it must be a multiple of 32")


@dataclass(frozen=True)
class LossConfig:
    """Weights of the loss terms.  The paper uses the first two."""

    prediction: float = 1.0  # MSE between prediction and target (eps, x0 or v)
    degradation: float = 0.1  # L1(DGNET(x, E(y)), y) on [0, 1] images; stage 1 only (LOL 0.1, LOL-v2 1.0)
    l1: float = 0.0  # L1 of x0 on [-1, 1]; x0 and v only
    ssim: float = 0.0  # 1 - SSIM of x0; x0 and v only
    brightness: float = 0.0  # L1 between per-image channel means of x0; x0 and v only
    aligned: float = 0.0  # L1 of x0 after the colour transform that fits it best to the normal image; x0 and v only
    thumbnail: float = 0.0  # L1 of the brightened reduced picture against the normal one; model.level only
    steady: float = 0.0  # L1 of the changes from frame to frame against those of the normal clip; data.frames > 1 only
    perceptual: float = 0.0  # distance of VGG features of x0, in stage 2 alone (it halves the speed); x0 and v only
    perceptual_weights: str = ""  # of that VGG16: a .pth or .safetensors file of its convolutions
    perceptual_crop: int = 128  # side of the part of each crop that is compared, in pixels

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclass(frozen=True)
class TrainConfig:
    """One training run: both stages share these, each with its own number of steps."""

    joint_steps: int = 100_000  # optimiser steps of stage 1 (encoder, denoiser and DGNET together)
    enhance_steps: int = 100_000  # optimiser steps of stage 2 (denoiser alone, encoder frozen)
    guess_steps: int = 4000  # steps in which each network of the level's guess is fitted, before stage 1
    batch: int = 8  # images a step and process
    accumulate: int = 1  # batches summed before an optimiser step
    lr: float = 1e-4  # Adam learning rate
    enhance_lr: float = 1e-4  # of stage 2
    weight_decay: float = 0.0
    beta2: float = 0.999  # Adam
    schedule: str = "constant"  # of the learning rate: "constant", "cosine", "multistep", or "cooldown": constant in
    # stage 1 and a cosine in stage 2
    milestones: tuple[int, ...] = ()  # optimiser steps at which "multistep" halves the rate
    warmup: int = 0  # steps of linear warm-up
    clip_grad: float = 0.0  # largest gradient norm; 0: no clipping
    ema: float = 0.999  # decay of the averaged weights, which are what is validated and shipped
    precision: str = "no"  # "no" (float32), "bf16" or "fp16"
    final_share: float = 0.0  # share of samples trained at t = T-1, where few-step sampling starts
    seed: int = 0
    save_every: int = 1000  # steps between checkpoints
    validate_every: int = 1000  # steps between validations
    workers: int = 0  # loader processes
    compile: bool = False  # torch.compile the training step

    def __post_init__(self) -> None:
        check_bounds(self)
        choose(self.schedule, ("constant", "cosine", "multistep", "cooldown"), "learning-rate schedule")
        choose(self.precision, ("no", "bf16", "fp16"), "training precision")


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
        """The thresholds of "fp32", "fp16", "bf16" or "int8"."""
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
