"""The quality column: pictures against the truth, classical methods among them, and engines against eager float32."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lldiffusion.errors import require
from lldiffusion.evaluation.baselines import automatic_gamma
from lldiffusion.evaluation.metrics import Metric
from lldiffusion.evaluation.protocols import STANDARD

from .pictures import QualityPair
from .record import Measurement

EQUAL = 200.0  # dB reported for equal pictures
EXACT = "fp32"  # precision whose quality stands for all that answer as it does
SAME_QUALITY = 60.0  # dB: pictures closer than this score the same to every digit printed
Pixels = NDArray[Any]


@dataclass(frozen=True)
class Quality:
    """Means over the pairs, protocol `standard`."""

    psnr: float  # dB
    ssim: float
    lpips: float | None  # None: no weights at hand


def measure_quality(
    pairs: Sequence[QualityPair], enhance: Callable[[Pixels], Pixels], lpips: Metric | None = None
) -> Quality:
    """What `enhance` makes of the dark pictures, against the truth."""
    scores = [STANDARD.measure(enhance(pair.low), pair.normal, lpips) for pair in pairs]
    psnr, ssim = (fmean(score[name] for score in scores) for name in ("psnr", "ssim"))
    return Quality(psnr, ssim, fmean(score["lpips"] for score in scores) if lpips else None)


def clahe(pixels: Pixels) -> Pixels:
    """Contrast-limited adaptive histogram equalisation of the HSV value (scikit-image's defaults)."""
    return np.asarray(require("skimage.exposure", "eval", "CLAHE").equalize_adapthist(pixels), dtype=np.float32)


# Retinex and LIME exist only in research code: no kept library of Python has them.
CLASSICAL: dict[str, Callable[[Pixels], Pixels]] = {"gamma": automatic_gamma, "clahe": clahe}


def measure_classical(
    pairs: Sequence[QualityPair], picture: Pixels, lpips: Metric | None = None, repeats: int = 3
) -> Iterator[Measurement]:
    """A measurement of each classical method: quality on the pairs, time on `picture`."""
    height, width = picture.shape[:2]
    for name, method in CLASSICAL.items():
        quality = measure_quality(pairs, method, lpips)
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            method(picture)
            seconds.append(time.perf_counter() - start)
        yield Measurement(
            model="classical",
            backend=name,
            precision="fp32",
            width=width,
            height=height,
            batch=1,
            steps=0,
            seconds=tuple(seconds),
            psnr=quality.psnr,
            ssim=quality.ssim,
            lpips=quality.lpips,
        )


def fidelity(given: Pixels, wanted: Pixels) -> tuple[float, float]:
    """(PSNR in dB, mean difference in 1/255) of two float pictures in [0, 1]; NaN counts as infinitely wrong."""
    error = given.astype(np.float64) - wanted
    mse = float(np.mean(error**2))
    if not np.isfinite(mse):
        return 0.0, 255.0
    return (-10 * float(np.log10(mse)) if mse else EQUAL), float(error.mean()) * 255


def known_median(values: Sequence[float | None]) -> float | None:
    """Median of what is known, None when nothing is."""
    known = [value for value in values if value is not None]
    return median(known) if known else None
