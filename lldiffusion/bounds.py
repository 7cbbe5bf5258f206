"""What the numbers of a configuration may be: one table, checked by every dataclass before it computes with them.

A number that is not named here must be finite, at least 0 and at most `LARGEST`.  The upper ends are far beyond what
anybody trains; they are there so that a slip or a damaged file is a message, not an hour of waiting or a full memory.
"""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

from lldiffusion.errors import LLDiffusionError

LARGEST = 1e9
LONGEST = 1000  # values in a list of numbers
LEVELS = 12  # values in a list that has one for each level of a network

Range = tuple[float, float]
SHARE: Range = (0, 1)
COUNT: Range = (1, LARGEST)
ONE_FOR_EACH_LEVEL = ("channels", "ladder", "ladder_scales", "multipliers", "attention_down", "attention_up")

# Class of the section -> its name in a configuration, and the ranges of its numbers, both ends included.
BOUNDS: dict[str, tuple[str, dict[str, Range]]] = {
    "EncoderConfig": (
        "model.encoder",
        {
            "channels": (1, 2048),
            "residual_blocks": (0, 64),
            "head_channels": (1, 4096),
            "ladder": (1, 4096),
            "ladder_scales": (1, 8),
            "shrink": (1, 32),
        },
    ),
    "UNetConfig": (
        "model.denoiser (or .degrader)",
        {
            "channels": (1, 2048),
            "multipliers": (1, 64),
            "blocks": (1, 32),
            "attention_down": (0, LEVELS),
            "attention_up": (0, LEVELS),
            "patch": (1, 32),
            "groups": (1, 2048),
            "polish": (0, 512),
            "refine": (0, 512),
        },
    ),
    "ModelConfig": ("model", {"white": (0, 16), "rest": (0, 16)}),
    "DiffusionConfig": (
        "diffusion",
        {"timesteps": (2, 100_000), "beta_start": (1e-9, 0.999), "beta_end": (1e-9, 0.999)},
    ),
    "SamplingConfig": ("sampling", {"steps": (1, 100_000)}),
    "DataConfig": (
        "data",
        {
            "crop": (32, 8192),
            "crops_per_image": (1, 1024),
            "frames": (1, 64),
            "scale_min": (0.01, 1),
            "part_min": (0.01, 1),
            "simulated_share": SHARE,
            "as_is": SHARE,
            "uneven": SHARE,
            "cast": SHARE,
            "gamma": SHARE,
            "expose": (0, 20),
            "target_expose": (0, 20),
            "stops": (0, 20),
            "rough": (0, 255),
            "jpeg": SHARE,
            "offset": (0, 255),
        },
    ),
    "LossConfig": ("loss", {"perceptual_crop": (1, 8192)}),
    "TrainConfig": (
        "train",
        {
            "batch": (1, 65_536),
            "accumulate": (1, 65_536),
            "lr": (0, 10),
            "enhance_lr": (0, 10),
            "weight_decay": (0, 10),
            "beta2": (0, 1 - 1e-9),
            "ema": SHARE,
            "final_share": SHARE,
            "seed": (0, 2**63 - 1),
            "save_every": COUNT,
            "validate_every": COUNT,
            "workers": (0, 256),
        },
    ),
    "ParityConfig": ("parity", {}),
}


def check_bounds(section: Any) -> None:
    """Check every number in a dataclass of the configuration, those in its lists included.

    Raises LLDiffusionError naming the section, the value and what is accepted.
    """
    where, ranges = BOUNDS[type(section).__name__]
    for entry in fields(section):
        value, (least, most) = getattr(section, entry.name), ranges.get(entry.name, (0, LARGEST))
        numbers = value if isinstance(value, (tuple, list)) else (value,)
        longest = LEVELS if entry.name in ONE_FOR_EACH_LEVEL else LONGEST
        for number in numbers:
            if not _is_number(number):
                continue
            if len(numbers) > longest:
                raise LLDiffusionError(
                    f"{where}.{entry.name} has {len(numbers)} values: accepted are {longest} at most"
                )
            if not (math.isfinite(number) and least <= number <= most):
                raise LLDiffusionError(
                    f"{where}.{entry.name} is {number}: accepted are numbers of at least {least:g} and at most {most:g}"
                )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
