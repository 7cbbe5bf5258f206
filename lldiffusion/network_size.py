"""About how large a network a configuration asks for, before anything allocates it.

Every number has a range of its own (`bounds`), but their product may still be absurd: 2048 channels times 64, in twelve
levels of 32 blocks, are more parameters than there is memory.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from lldiffusion.errors import LLDiffusionError

if TYPE_CHECKING:
    from lldiffusion.network_config import EncoderConfig, ModelConfig, UNetConfig

MOST_PARAMETERS = 500_000_000  # 2 GiB of float32; the paper's network has some ten million
MOST_MULTIPLE = 512  # pixels: pictures are padded to multiples of the coarsest level's stride, at least to two
CONV = 9  # weights of a 3x3 convolution for each pair of channels


def check_size(model: ModelConfig) -> None:
    """Raises LLDiffusionError, naming what to make smaller, for a network that no machine would hold."""
    if model.size_multiple > MOST_MULTIPLE:
        raise LLDiffusionError(
            f"model: pictures would be padded to multiples of {model.size_multiple} pixels, accepted are "
            f"{MOST_MULTIPLE} at most: make patch, or the levels of multipliers and encoder.channels, fewer"
        )
    for name, count in parameters(model).items():
        if count > MOST_PARAMETERS:
            raise LLDiffusionError(
                f"model.{name} would have about {count / 1e6:,.0f} million parameters, accepted are "
                f"{MOST_PARAMETERS / 1e6:,.0f} million at most: make channels, their multipliers or the blocks fewer"
            )


def parameters(model: ModelConfig) -> dict[str, int]:
    """About how many each part has: its convolutions, no biases, no norms."""
    ladder = model.encoder.ladder
    return {
        "encoder": _encoder(model.encoder),
        "denoiser": _unet(model.denoiser, ladder),
        "degrader": _unet(model.degrader, ladder),
    }


def _encoder(encoder: EncoderConfig) -> int:
    pyramid = (3, *encoder.channels)
    head = (pyramid[-1], *[encoder.head_channels] * 3)
    convolutions = [a * b for a, b in (*pairwise(pyramid), *pairwise(head))]
    convolutions += [2 * encoder.residual_blocks * pyramid[-1] ** 2]
    convolutions += [a * (a + b) for a, b in pairwise((encoder.head_channels, *encoder.ladder))]
    return CONV * sum(convolutions) + 49 * pyramid[1] ** 2  # the second convolution is 7x7


def _unet(unet: UNetConfig, features: tuple[int, ...]) -> int:
    widths = [unet.channels * multiplier for multiplier in unet.multipliers]
    down = sum(2 * unet.blocks * width**2 for width in widths)
    middle = 4 * widths[-1] ** 2
    beside = [0, *features, *[0] * len(widths)]
    up = sum(
        (unet.blocks + 1) * (3 * width + beside[i]) * width for i, width in enumerate(reversed(widths))
    )  # a skip beside what comes from below
    ends = (9 + 3) * unet.patch**2 * widths[0]
    return CONV * (down + middle + up + ends)
