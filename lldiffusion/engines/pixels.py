"""Pictures (H, W, 3) in [0, 1] or uint8, made into and from the planes (N, 3, H, W) in [-1, 1] that engines take."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lldiffusion.errors import LLDiffusionError

from .backends.base import Floats

LARGEST = 65_500  # pixels a side: what the image formats hold
STRIP = 64  # rows converted at a time: a large picture is never held twice in float


class NotFiniteError(LLDiffusionError):
    """The network produced NaN or infinity; video tries such a frame again in float32."""


def to_planes(pixels: NDArray[Any]) -> Floats:
    """(H, W, 3) or (N, H, W, 3), uint8 or float in [0, 1] -> (N, 3, H, W) float32 in [-1, 1].

    Raises LLDiffusionError for another shape, type or range, and for non-finite values.
    """
    if not isinstance(pixels, np.ndarray) or pixels.ndim not in (3, 4) or pixels.shape[-1] != 3 or not pixels.size:
        given = getattr(pixels, "shape", type(pixels).__name__)
        raise LLDiffusionError(f"an image must be an array of shape (H, W, 3) or (N, H, W, 3), not {given}")
    if max(pixels.shape[-3:-1]) > LARGEST:
        raise LLDiffusionError(
            f"an image of {pixels.shape[-2]}x{pixels.shape[-3]} is too large: at most {LARGEST} a side"
        )
    batch = pixels if pixels.ndim == 4 else pixels[None]
    planes = np.array(batch.transpose(0, 3, 1, 2), dtype=np.float32, order="C")  # a copy, to be changed in place
    if pixels.dtype == np.uint8:
        planes *= np.float32(2 / 255)
        planes -= 1
        return planes
    if not np.issubdtype(pixels.dtype, np.floating):
        raise LLDiffusionError(f"an image must be uint8 or float in [0, 1], not {pixels.dtype}")
    if not np.isfinite(planes).all() or planes.min() < -0.01 or planes.max() > 1.01:
        raise LLDiffusionError("a float image must be finite and in [0, 1]; for 0..255 pass uint8")
    planes *= 2
    planes -= 1
    return planes


def from_planes(planes: Floats, like: NDArray[Any], stops: float = 0.0) -> NDArray[Any]:
    """The inverse of `to_planes`, `stops` brighter, clipped, with the shape and type of `like`.

    Raises NotFiniteError when the network produced NaN or infinity: never a black picture.
    """
    count, _, height, width = planes.shape
    pixels = np.empty((count, height, width, 3), like.dtype)
    for top in range(0, height, STRIP):
        strip = planes[:, :, top : top + STRIP]
        if not np.isfinite(strip).all():
            raise NotFiniteError(
                "the network produced NaN or infinity for this image: use float32, or report the image"
            )
        shown = expose(np.clip((strip.transpose(0, 2, 3, 1) + 1) / 2, 0, 1), stops)
        if like.dtype == np.uint8:
            shown = np.floor(shown * 255 + np.float32(0.5))
        pixels[:, top : top + STRIP] = shown
    return pixels if like.ndim == 4 else pixels[0]


def of_shape(planes: Floats, wanted: tuple[int, ...]) -> Floats:
    """The planes that an engine answered with.  Raises LLDiffusionError when they have another shape than `wanted`."""
    if planes.shape != wanted:
        raise LLDiffusionError(
            f"the model answered with planes of shape {planes.shape} to some of shape {wanted}: its graphs are "
            "damaged, export it again"
        )
    return planes


def pad_to_multiple(planes: Floats, multiple: int) -> Floats:
    """Reflect-pad (N, C, H, W) right and below to multiples of `multiple`, at least two of them a side."""
    pads = [max(-size % multiple, 2 * multiple - size) for size in planes.shape[2:]]
    while any(pads):  # a reflection brings at most size - 1 pixels
        now = [min(pad, size - 1) for pad, size in zip(pads, planes.shape[2:], strict=True)]
        if any(now):
            planes = np.pad(planes, ((0, 0), (0, 0), (0, now[0]), (0, now[1])), mode="reflect")
        else:  # what is left is one pixel wide or high: it has nothing to reflect
            return np.pad(planes, ((0, 0), (0, 0), (0, pads[0]), (0, pads[1])), mode="edge")
        pads = [pad - done for pad, done in zip(pads, now, strict=True)]
    return planes


def expose(pixels: NDArray[Any], stops: float) -> NDArray[Any]:
    """Multiply float pixels in [0, 1] by 2^stops in linear light (sRGB transfer function, IEC 61966-2-1), clipped."""
    if stops == 0:
        return pixels
    linear = np.where(pixels <= 0.04045, pixels / 12.92, ((pixels + 0.055) / 1.055) ** 2.4) * 2.0**stops
    linear = np.clip(linear, 0, 1)
    curved = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return curved.astype(pixels.dtype)
