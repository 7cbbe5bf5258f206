"""Before and after: real photographs, darkened, beside what the model made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lldiffusion.evaluation.baselines import automatic_gamma
from lldiffusion.evaluation.metrics import psnr
from lldiffusion.images import to_uint8

Uint8 = NDArray[np.uint8]  # (H, W, 3) RGB
WIDEST = 1000  # pixels of a picture on the page
QUALITY = 86  # of its WebP, 1 to 100


@dataclass(frozen=True)
class Version:
    """One version of a photograph; `psnr` in dB against the original, None for itself."""

    name: str
    pixels: Uint8
    psnr: float | None = None


@dataclass(frozen=True)
class BeforeAfter:
    """A photograph: what may stand on the left, first what does at first, and the model's answer on the right."""

    name: str
    before: tuple[Version, ...]
    after: Version


def compare_pictures(
    photographs: Iterable[tuple[str, Uint8, Uint8]], enhance: Callable[[Uint8], NDArray[Any]]
) -> list[BeforeAfter]:
    """Enhance every (name, original, dark), and measure dark, automatic gamma and the model's answer."""
    return [_compare(name, original, dark, to_uint8(enhance(dark))) for name, original, dark in photographs]


def _compare(name: str, original: Uint8, dark: Uint8, bright: Uint8) -> BeforeAfter:
    gamma = to_uint8(automatic_gamma(dark))
    measured = [
        Version(kind, pixels, psnr(pixels, original))
        for kind, pixels in (("dark", dark), ("gamma", gamma), ("enhanced", bright))
    ]
    return BeforeAfter(name, (*measured[:2], Version("original", original)), measured[2])


def webp(pixels: Uint8) -> bytes:
    """A WebP file of the picture, at most WIDEST pixels wide."""
    import pyvips

    image = pyvips.Image.new_from_array(pixels, interpretation="srgb")
    if image.width > WIDEST:
        image = image.thumbnail_image(WIDEST)
    return bytes(image.webpsave_buffer(Q=QUALITY))
