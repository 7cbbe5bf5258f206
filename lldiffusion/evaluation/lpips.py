"""LPIPS (learned perceptual image patch similarity), v0.1 on AlexNet: 0 for equal images, lower is better.

Zhang, Isola, Efros, Shechtman, Wang: The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, CVPR 2018,
arXiv 1801.03924.  What it needs of AlexNet is five convolutions (13 GFLOP for a pair of 600x400), which NumPy does as
matrix products in a fraction of a second: so measuring results needs neither PyTorch nor torchvision.

    lpips = Lpips.load(path)        # or Lpips.load(None): see `lpips_weights` for where the weights are looked for
    distance = lpips(result, target)  # two (H, W, 3), uint8 or float in [0, 1]
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from lldiffusion.errors import LLDiffusionError

from .lpips_weights import VARIABLE, Weights, find_weights, is_at_hand, is_named, read_weights
from .metrics import Pixels

Planes = NDArray[np.float32]  # (H, W, C): the channels last, so that a window's rows are contiguous

SMALLEST = 31  # pixels on the short side: below it nothing is left after AlexNet's two poolings
SHIFT = np.array([-0.030, -0.088, -0.188], np.float32)  # ImageNet's mean and spread, for RGB in [-1, 1]
SCALE = np.array([0.458, 0.448, 0.450], np.float32)
STRIP = 1 << 20  # values gathered for one matrix product: 4 MB stay in the cache, whatever the size of the image


@dataclass(frozen=True)
class Lpips:
    """The metric with its weights."""

    weights: Weights

    @classmethod
    def load(cls, path: Path | None = None) -> Lpips:
        """Read the weights in `path`, or where `find_weights` finds them; raises LLDiffusionError saying what to do."""
        return cls(read_weights(find_weights(path)))

    @property
    def definition(self) -> str:
        """What is printed and saved beside the numbers."""
        return f"AlexNet, v0.1, of the protocol's 8-bit pair; weights sha256 {self.weights.sha256}"

    def __call__(self, prediction: Pixels, target: Pixels) -> float:
        """LPIPS of two (H, W, 3) RGB images, uint8 or float in [0, 1]; NaN where a side is below 31 px."""
        if prediction.shape != target.shape or target.ndim != 3 or target.shape[2] != 3:
            raise LLDiffusionError(
                f"LPIPS compares two RGB images of one size, (H, W, 3): given are {prediction.shape} and {target.shape}"
            )
        if min(target.shape[:2]) < SMALLEST:
            return math.nan
        features = zip(self.features(prediction), self.features(target))
        return sum(_distance(*pair, head) for pair, head in zip(features, self.weights.heads))

    def features(self, pixels: Pixels) -> list[Planes]:
        """AlexNet's five activations of (H, W, 3): 64, 192, 384, 256, 256 channels at about 1/4, 1/8 and 1/16."""
        unit = pixels.astype(np.float32) / np.float32(255 if pixels.dtype == np.uint8 else 1)
        x = (2 * unit - 1 - SHIFT) / SCALE
        found = []
        for layer, (kernel, bias) in enumerate(zip(self.weights.kernels, self.weights.biases)):
            if layer in (1, 2):
                x = max_pool(x)
            stride, padding = (4, 2) if layer == 0 else (1, kernel.shape[0] // 2)
            x = np.maximum(convolve(x, kernel, stride, padding) + bias, 0)
            found.append(x)
        return found


def load_lpips(path: Path | None) -> Lpips | str:
    """The metric, or the sentence that says how to get its weights; raises where named weights cannot be used."""
    try:
        return Lpips.load(path)
    except LLDiffusionError as error:
        if is_named(path):
            raise
        return str(error)


def lpips_at_hand() -> Lpips | str:
    """The same as `load_lpips(None)`, but nothing is fetched: for programs whose numbers do not depend on it."""
    return load_lpips(None) if is_at_hand() else f"no weights at hand: name a file in ${VARIABLE}"


def convolve(x: Planes, kernel: Planes, stride: int, padding: int) -> Planes:
    """Correlate (H, W, C) with (k, k, C, O) after zero-padding: (H', W', O), H' = (H + 2 padding - k) / stride + 1."""
    size, channels = kernel.shape[0], kernel.shape[3]
    padded = np.pad(x, ((padding, padding), (padding, padding), (0, 0)))
    windows = sliding_window_view(padded, (size, size), axis=(0, 1))[::stride, ::stride]  # (H', W', C, k, k)
    windows = windows.transpose(0, 1, 3, 4, 2)
    height, width = windows.shape[:2]
    matrix = kernel.reshape(-1, channels)  # (k k C, O)
    out = np.empty((height, width, channels), np.float32)
    rows = max(1, STRIP // (width * len(matrix)))
    for top in range(0, height, rows):
        strip = windows[top : top + rows]
        out[top : top + rows] = (strip.reshape(-1, len(matrix)) @ matrix).reshape(len(strip), width, channels)
    return out


def max_pool(x: Planes) -> Planes:
    """The largest of every 3x3 window, one window every 2: (H, W, C) -> ((H - 1) // 2, (W - 1) // 2, C)."""
    x = np.maximum(np.maximum(x[:-2:2], x[1:-1:2]), x[2::2])
    return np.maximum(np.maximum(x[:, :-2:2], x[:, 1:-1:2]), x[:, 2::2])


def _distance(a: Planes, b: Planes, head: NDArray[np.float32]) -> float:
    """mean over h, w of  sum over c of head_c (a_hwc / |a_hw| - b_hwc / |b_hw|)^2: one layer of the paper's equation 1.

    The published heads are the squares of the equation's w.
    """
    return float(((_normalise(a) - _normalise(b)) ** 2 @ head).mean(dtype=np.float64))


def _normalise(x: Planes) -> Planes:
    length = np.sqrt(np.einsum("hwc,hwc->hw", x, x))
    return x / (length + np.float32(1e-10))[..., None]  # where every channel is 0, so is the result
