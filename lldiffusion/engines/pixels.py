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


def to_planes(pixels: NDArray[Any], planes: Floats | None = None) -> Floats:
    """(H, W, 3) or (N, H, W, 3), uint8 or float in [0, 1] -> (N, 3, H, W) float32 in [-1, 1], written to `planes`.

    Raises LLDiffusionError for another shape, type or range, and for non-finite values.
    """
    check_pixels(pixels)
    batch = (pixels if pixels.ndim == 4 else pixels[None]).transpose(0, 3, 1, 2)
    if planes is None:
        planes = np.empty(batch.shape, np.float32)
    whole = pixels.dtype == np.uint8
    np.multiply(batch, np.float32(2 / 255 if whole else 2), out=planes, casting="same_kind")
    planes -= 1
    if not whole and not (planes.min() >= -1.02 and planes.max() <= 1.02):  # NaN is neither
        raise LLDiffusionError("a float image must be finite and in [0, 1]; for 0..255 pass uint8")
    return planes


def check_pixels(pixels: Any) -> None:
    """Raises LLDiffusionError for what is no picture by its shape or type."""
    if not isinstance(pixels, np.ndarray) or pixels.ndim not in (3, 4) or pixels.shape[-1] != 3 or not pixels.size:
        given = getattr(pixels, "shape", type(pixels).__name__)
        raise LLDiffusionError(f"an image must be an array of shape (H, W, 3) or (N, H, W, 3), not {given}")
    if max(pixels.shape[-3:-1]) > LARGEST:
        raise LLDiffusionError(
            f"an image of {pixels.shape[-2]}x{pixels.shape[-3]} is too large: at most {LARGEST} a side"
        )
    if pixels.dtype != np.uint8 and not np.issubdtype(pixels.dtype, np.floating):
        raise LLDiffusionError(f"an image must be uint8 or float in [0, 1], not {pixels.dtype}")


def from_planes(
    planes: Floats, like: NDArray[Any], stops: float = 0.0, pixels: NDArray[Any] | None = None
) -> NDArray[Any]:
    """The inverse of `to_planes`, `stops` brighter, clipped, with the shape, type and layout of `like`.

    Args:
        pixels: where to write it.
    Raises NotFiniteError when the network produced NaN or infinity: never a black picture.
    """
    pixels = np.empty_like(like) if pixels is None else pixels
    batch = (pixels if like.ndim == 4 else pixels[None]).transpose(0, 3, 1, 2)
    for top in range(0, planes.shape[2], STRIP):
        part, target = planes[:, :, top : top + STRIP], batch[:, :, top : top + STRIP]
        shown = np.multiply(part, np.float32(0.5), out=target if target.dtype == np.float32 else None)
        shown += np.float32(0.5)
        least, most = shown.min(), shown.max()
        if not (least > -np.inf and most < np.inf):
            raise NotFiniteError(
                "the network produced NaN or infinity for this image: use float32, or report the image"
            )
        if least < 0 or most > 1:
            np.clip(shown, 0, 1, out=shown)
        shown = expose(shown, stops)
        if like.dtype == np.uint8:
            shown *= 255
            shown += np.float32(0.5)  # and what follows it is cut off
        if shown is not target:
            np.copyto(target, shown, casting="unsafe")
    return pixels


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
    height, width = planes.shape[2:]
    shape = (*planes.shape[:2], *padded_sides(height, width, multiple))
    if shape == planes.shape:
        return planes
    padded = np.empty(shape, planes.dtype)
    padded[:, :, :height, :width] = planes
    fill_border(padded, height, width)
    return padded


def padded_sides(height: int, width: int, multiple: int) -> tuple[int, int]:
    """Height and width of what `pad_to_multiple` returns."""
    tall, wide = (max(-(-side // multiple), 2) * multiple for side in (height, width))
    return tall, wide


def fill_border(padded: Floats, height: int, width: int) -> None:
    """Write the reflection of the picture, the first rows and columns of (N, C, H, W), right of it and below it."""
    tall, wide = padded.shape[2:]
    if tall > height:
        padded[:, :, height:, :width] = padded[:, :, reflected(height, tall - height, height), :width]
    if wide > width:
        padded[:, :, :, width:] = padded[:, :, :, reflected(width, wide - width, width)]


def reflected(start: int, length: int, size: int) -> NDArray[np.int64]:
    """Indices start..start+length into `size` places, going to and fro between the first and the last."""
    there_and_back = max(2 * (size - 1), 1)
    at = np.arange(start, start + length) % there_and_back
    return np.minimum(at, there_and_back - at) if size > 1 else at


def expose(pixels: NDArray[Any], stops: float) -> NDArray[Any]:
    """Multiply float pixels in [0, 1] by 2^stops in linear light (sRGB transfer function, IEC 61966-2-1), clipped."""
    if stops == 0:
        return pixels
    linear = np.where(pixels <= 0.04045, pixels / 12.92, ((pixels + 0.055) / 1.055) ** 2.4) * 2.0**stops
    linear = np.clip(linear, 0, 1)
    curved = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return curved.astype(pixels.dtype)
