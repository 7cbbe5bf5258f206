"""Named protocols: how 8-bit values are made, whether brightness is corrected with the target, and which SSIM.

Published numbers differ by several dB with these choices, so a number is only printed with its protocol's name.
Sources: `standard` as in BasicSR and most restoration papers; `gtmean` as in Retinexformer's test script
(--GT_mean), which follows KinD and LLFlow; `lldiffusion` as in utils/metrics.py of the LLDiffusion authors' code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lldiffusion.errors import LLDiffusionError, choose
from lldiffusion.images import to_uint8

from .metrics import SMALLEST, Metric, Pixels, Uint8, luminance, psnr, ssim_gaussian, ssim_uniform

# torchvision's convert_image_dtype from float to uint8 multiplies by 255 + 1 - 1e-3 and drops the fraction.
TRUNCATION = np.float32(255.999)


@dataclass(frozen=True)
class Protocol:
    """A way to turn a prediction and a target into PSNR and SSIM; `definition` is printed beside the numbers."""

    name: str
    definition: str
    quantise: Callable[[Pixels], Uint8]
    correct: Callable[[Uint8, Uint8], Uint8]  # (prediction, target) -> prediction
    ssim: Metric

    @property
    def uses_target(self) -> bool:
        """Whether the prediction is corrected with the target's brightness before it is compared with it."""
        return self.correct is not keep_brightness

    def prepare(self, prediction: Pixels, target: Pixels) -> tuple[Uint8, Uint8]:
        """The 8-bit (prediction, target) that is compared; raises where their sizes differ or are too small."""
        check_sizes(prediction, target)
        reference = self.quantise(target)
        return self.correct(self.quantise(prediction), reference), reference

    def measure(self, prediction: Pixels, target: Pixels, lpips: Metric | None = None) -> dict[str, float]:
        """`psnr` in dB, `ssim` and, given its metric, `lpips` of (H, W, 3) images, uint8 or float in [0, 1]."""
        pair = self.prepare(prediction, target)
        scores = {"psnr": psnr(*pair), "ssim": self.ssim(*pair)}
        return scores | ({"lpips": lpips(*pair)} if lpips else {})


def check_sizes(prediction: Pixels, target: Pixels) -> None:
    """Raise unless both are (H, W, 3), equal in size and large enough for SSIM's window."""
    if prediction.shape != target.shape:
        raise LLDiffusionError(f"the result is {size(prediction)} and its target {size(target)}: they must be equal")
    if target.ndim != 3 or target.shape[2] != 3 or min(target.shape[:2]) < SMALLEST:
        raise LLDiffusionError(
            f"images of shape {target.shape} cannot be compared: RGB of {SMALLEST} px or more needed"
        )


def size(pixels: Pixels) -> str:
    """Width x height, as people write it."""
    return f"{pixels.shape[1]}x{pixels.shape[0]}"


def get_protocol(name: str) -> Protocol:
    """The protocol called `name`, or an error with the nearest name."""
    return PROTOCOLS[choose(name, PROTOCOLS, "protocol")]


def truncate_to_uint8(pixels: Pixels) -> Uint8:
    """clip(x, 0, 1) * 255.999 without its fraction, so that k / 255 stays k; uint8 passes unchanged."""
    if pixels.dtype == np.uint8:
        return pixels
    return (np.clip(pixels, 0, 1).astype(np.float32) * TRUNCATION).astype(np.uint8)


def keep_brightness(prediction: Uint8, target: Uint8) -> Uint8:
    """No correction: the only honest choice where the target is not known in advance."""
    return prediction


def match_grey_mean(prediction: Uint8, target: Uint8) -> Uint8:
    """Multiply all channels by mean(grey(target)) / mean(grey(prediction)), clip to [0, 1], round to 8 bit.

    Grey is BT.601 of the RGB values. (Retinexformer's script feeds RGB to BGR2GRAY, which swaps the weights of
    red and blue, and scores without rounding; LLFlow takes the plain mean of the prediction.)
    """
    ratio = luminance(target).mean() / max(luminance(prediction).mean(), 1e-6)  # black stays black
    return to_uint8(prediction / 255.0 * ratio)


def match_channel_means(prediction: Uint8, target: Uint8) -> Uint8:
    """Scale each channel by mean(target) / mean(prediction), clip to [0, 1], truncate (the authors' --correct)."""
    scale = _channel_means(target) / np.maximum(_channel_means(prediction), 1e-6)  # (3,)
    return truncate_to_uint8(np.float32(prediction) / np.float32(255) * scale)


def _channel_means(pixels: Uint8) -> NDArray[np.float32]:
    return (pixels.mean(axis=(0, 1), dtype=np.float64) / 255).astype(np.float32)


STANDARD = Protocol(
    "standard",
    "8 bit by rounding, no GT mean; PSNR over RGB; SSIM Gaussian 11x11, sigma 1.5, per channel",
    to_uint8,
    keep_brightness,
    ssim_gaussian,
)
GTMEAN = Protocol(
    "gtmean",
    "prediction (8 bit) times mean(grey(GT))/mean(grey(prediction)), BT.601, clipped, rounded; then as standard",
    to_uint8,
    match_grey_mean,
    ssim_gaussian,
)
LLDIFFUSION = Protocol(
    "lldiffusion",
    "8 bit by truncation of 255.999 x, no GT mean; PSNR over RGB; scikit-image colour SSIM, uniform 7x7",
    truncate_to_uint8,
    keep_brightness,
    ssim_uniform,
)
LLDIFFUSION_CORRECTED = Protocol(
    "lldiffusion-corrected",
    "each channel times mean(GT)/mean(prediction), clipped, truncated to 8 bit; then as lldiffusion",
    truncate_to_uint8,
    match_channel_means,
    ssim_uniform,
)
PROTOCOLS = {protocol.name: protocol for protocol in (STANDARD, GTMEAN, LLDIFFUSION, LLDIFFUSION_CORRECTED)}
