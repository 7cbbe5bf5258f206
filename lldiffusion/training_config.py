"""Configuration of a training: data, losses, and the run itself."""

from __future__ import annotations

from dataclasses import dataclass

from lldiffusion.bounds import check_bounds
from lldiffusion.errors import LLDiffusionError, choose


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
    jpeg: float = 0.0  # share of the low images that are compressed, as photos and frames are, by any quality
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
