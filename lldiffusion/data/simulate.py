"""A low-light simulator: what a camera would have written of the same scene with a fraction of the light.

    x  = sRGB^-1(normal) * 2^(headroom normal^8)                  linear light; what was clipped gets its light back
    u  = x * 2^-stops * (r, 1, b) + floor                         exposed down, white balance off, black level lifted
    n  = sqrt(shot * u + read^2 + (relative * u)^2) * smooth(g)   g ~ N(0, 1), more of it in red and blue
    low = JPEG(quantise(sRGB(u + n)))

- Poisson-Gaussian noise with a variance affine in the signal: Foi, Trimeche, Katkovnik, Egiazarian, "Practical
  Poissonian-Gaussian noise modeling and fitting for single-image raw-data", IEEE TIP 17(10), 2008.
- Going back to linear light, random white-balance gains, log-uniform noise parameters: Brooks, Mildenhall, Xue, Chen,
  Sharlet, Barron, "Unprocessing images for learned raw denoising", CVPR 2019.
- In extreme low light the camera's electronics matter as much as photons, among them read noise whose mean depends on
  the colour (here: `floor`, `floor_tint`) and quantisation: Wei, Fu, Yang, Huang, "A physics-based noise formation
  model for extreme low-light raw denoising" (ELD), CVPR 2020.
- sRGB transfer function: IEC 61966-2-1.

The default ranges were tuned on 64 real pairs of 600x400 (JPEG-free, most of them indoors), comparing
the real low pictures with those simulated from the same normal ones (means over the pictures; noise is the
standard deviation of pixel minus 7x7 mean where the normal picture is flat, in 8-bit levels):

=======================================  =================  =================
measured                                 real               simulated
=======================================  =================  =================
mean brightness (5th, 50th, 95th pct)    .024  .037  .089   .020  .036  .079
mean over all, normal pictures .42       .043               .042
red/green, blue/green, stops (spread)    .22 (.45) .04 (.42)  .13 (.39) .04 (.39)
saturation of 9x9 means                  .43                .39
99th percentile, green                   .18                .14
noise of green at levels 3, 9, 25, 75    .53 .66 .88 1.3    .54 .80 .87 1.2
noise of red at the same                 1.2 1.3 1.9 2.6    .95 1.5 1.7 2.1
noise of blue at the same                1.0 1.3 1.3 1.7    .78 1.2 1.4 1.8
noise of 4x4 means, red, green, blue     .46 .24 .42        .45 .24 .37
correlation of neighbours, green         .21                .19
=======================================  =================  =================
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from lldiffusion.errors import LLDiffusionError
from lldiffusion.images import through_jpeg

Pixels = NDArray[np.float32]
Range = tuple[float, float]
_LEVELS = 2**16 - 1  # of the table to sRGB; one 8-bit step of a dark picture spans 20 of them
_INPUT_LEVELS = 2**12 - 1  # of the table to linear light
_LOG_UNIFORM = ("shot", "read")


@dataclass(frozen=True)
class LowLight:
    """What is drawn for each picture: (lowest, highest), uniform unless noted.  Linear light is in [0, 1]."""

    stops: Range = (5.6, 7.3)  # exposure taken away, in stops: 6 means 1/64 of the light
    headroom: Range = (0.0, 4.0)  # light the normal picture lost where it is white, in stops (real windows, lamps, sky)
    red: Range = (-1.3, 0.6)  # white balance of red against green, in stops
    blue: Range = (-1.3, 0.6)  # of blue against green, in stops
    floor: Range = (2.5e-4, 7e-4)  # black level of green, in linear light (dark current, flare); 3e-4: one level
    floor_tint: Range = (1.6, 3.2)  # black level of red and of blue, each as a multiple of green's
    shot: Range = (5e-6, 2e-5)  # variance per unit of linear light (photons; grows with ISO); log-uniform
    read: Range = (6e-5, 1.4e-4)  # standard deviation in the dark, in linear light; log-uniform
    relative: Range = (0.01, 0.06)  # standard deviation as a share of the light (sensor non-uniformity, sharpening)
    noise_red: Range = (1.7, 2.4)  # noise of red against green, a factor
    noise_blue: Range = (1.3, 1.9)  # of blue against green, a factor
    smooth: Range = (0.08, 0.25)  # spread of noise to neighbours by the camera: a of the kernel [a 1 a]
    jpeg: float = 0.1  # share of pictures that go through JPEG
    quality: tuple[int, int] = (75, 96)  # of those JPEGs: 1..100

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "jpeg":
                _check(0 <= value <= 1, "jpeg", value, "a share in [0, 1]")
                continue
            _check(len(value) == 2 and value[0] <= value[1], field.name, value, "(lowest, highest)")
            if field.name not in ("red", "blue"):
                _check(value[0] >= 0, field.name, value, "at least 0")
        for name in _LOG_UNIFORM:
            _check(getattr(self, name)[0] > 0, name, getattr(self, name), "above 0")


def at_exposure(stops: float) -> LowLight:
    """The settings for a picture that loses this much light: what goes with darkness goes with it.

    From the 5.6 stops that the ranges were tuned from on they are the defaults; below, black level and lost highlights
    shrink in proportion, so that a picture that lost nothing is itself with a little noise, and white balance with the
    third power: a camera balances what it sees.
    """
    whole, share = LowLight(), min(1.0, stops / LowLight.stops[0])
    shares = {"headroom": share, "red": share**3, "blue": share**3, "floor": share}
    headroom, red, blue, floor = (tuple(end * part for end in getattr(whole, n)) for n, part in shares.items())
    return replace(whole, stops=(stops, stops), headroom=headroom, red=red, blue=blue, floor=floor)


def _check(holds: bool, name: str, value: object, accepted: str) -> None:
    if not holds:
        raise LLDiffusionError(f"low-light setting {name} = {value}: expected {accepted}")


def simulate(pixels: Pixels, rng: Generator, settings: LowLight = LowLight(), light: Pixels | None = None) -> Pixels:
    """A low-light version of a normal-light picture, quantised to 8 bits.

    `light`: (H, W) gains in linear light of an uneven illumination (`data.illumination`), on top of the exposure.

    `pixels`: (H, W, 3) float32 sRGB in [0, 1]; the answer has the same shape and kind.  The same `rng` state gives the
    same picture.  On one core a 128x128 crop takes 1 ms, 256x256 from 5 to 10 (the memory allocator decides).
    """
    exposed = _exposed(np.ascontiguousarray(pixels.transpose(2, 0, 1)), rng, settings, light)  # (3, H, W)
    exposed += _noise(exposed, rng, settings)
    low = np.ascontiguousarray(_encoded(exposed).transpose(1, 2, 0))  # (H, W, 3)
    if rng.random() < settings.jpeg:
        low = through_jpeg(low, int(rng.integers(settings.quality[0], settings.quality[1] + 1)))
    return low * np.float32(1 / 255)


def _exposed(planes: Pixels, rng: Generator, settings: LowLight, field: Pixels | None) -> Pixels:
    """u = x 2^-stops (r, 1, b) + floor, in linear light, x times the field's gains; (3, H, W)."""
    light = _to_linear(rng.uniform(*settings.headroom))[_indices(planes, _INPUT_LEVELS)]
    light = light if field is None else light * field
    gain = np.exp2(
        np.array([rng.uniform(*settings.red), 0, rng.uniform(*settings.blue)]) - rng.uniform(*settings.stops)
    )
    tint = np.array([rng.uniform(*settings.floor_tint), 1, rng.uniform(*settings.floor_tint)])
    light *= _per_channel(gain)
    light += _per_channel(tint * rng.uniform(*settings.floor))
    return light


def _per_channel(values: NDArray[np.float64]) -> Pixels:
    return values.astype(np.float32)[:, None, None]  # (3, 1, 1)


def _noise(light: Pixels, rng: Generator, settings: LowLight) -> Pixels:
    """sqrt(shot u + read^2 + (relative u)^2) g: a Gaussian for the Poisson part too, as in Foi et al. 2008."""
    shot, read = (np.exp(rng.uniform(*np.log(getattr(settings, name)))) for name in _LOG_UNIFORM)
    variance = light * np.float32(rng.uniform(*settings.relative) ** 2)
    variance += np.float32(shot)
    variance *= light
    variance += np.float32(read**2)
    noise = np.sqrt(variance, out=variance)
    noise *= _per_channel(np.array([rng.uniform(*settings.noise_red), 1, rng.uniform(*settings.noise_blue)]))
    noise *= _smoothed(_normal_table()[rng.integers(0, 2**16, light.shape, np.uint16)], rng.uniform(*settings.smooth))
    return noise


@lru_cache(1)
def _normal_table() -> Pixels:
    """65536 equally likely values of a standard normal (to 4.3 sigma): twice as fast as drawing them."""
    return np.array([NormalDist().inv_cdf((i + 0.5) / 2**16) for i in range(2**16)], np.float32)


def _smoothed(grain: Pixels, a: float) -> Pixels:
    """White `grain` (3, H, W) through the kernel [a 1 a] both ways, its variance kept; it wraps round at the edges."""
    kept, side = np.float32(1 / np.sqrt(1 + 2 * a * a)), np.float32(a / np.sqrt(1 + 2 * a * a))
    for axis in (1, 2):
        lines = np.moveaxis(grain, axis, 0)
        smooth, spread = kept * lines, side * lines
        smooth[1:] += spread[:-1]
        smooth[:-1] += spread[1:]
        smooth[0] += spread[-1]
        smooth[-1] += spread[0]
        grain = np.moveaxis(smooth, 0, axis)
    return grain


def _to_linear(headroom: float) -> Pixels:
    """sRGB to linear light with its highlights restored, a table of 4096 levels."""
    linear, weight = _input_tables()
    return linear * np.exp2(np.float32(headroom) * weight)


@lru_cache(1)
def _input_tables() -> tuple[Pixels, Pixels]:
    v = np.linspace(0, 1, _INPUT_LEVELS + 1)
    linear = np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
    return linear.astype(np.float32), (v**8).astype(np.float32)


@lru_cache(1)
def _to_srgb() -> NDArray[np.uint8]:
    """Linear light to 8-bit sRGB for 65536 levels."""
    u = np.linspace(0, 1, _LEVELS + 1)
    v = np.where(u <= 0.0031308, 12.92 * u, 1.055 * u ** (1 / 2.4) - 0.055)
    return np.floor(v * 255 + 0.5).astype(np.uint8)


def _indices(values: Pixels, levels: int) -> NDArray[np.uint16]:
    scaled = values * np.float32(levels)
    scaled += np.float32(0.5)
    return np.clip(scaled, 0, levels, out=scaled).astype(np.uint16)


def _encoded(light: Pixels) -> NDArray[np.uint8]:
    return _to_srgb()[_indices(light, _LEVELS)]
