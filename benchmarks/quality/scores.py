"""The numbers of one picture: against its truth, against itself, or against what it was before.

Without a truth a picture can still be wrong: highlights burn, shadows get darker than they were, bright things grow
grey.  With L the luminance (0.299 R + 0.587 G + 0.114 B) and M the brightest channel, both of 8-bit sRGB values:

    burnt        = share of pixels with M_after >= 250 > M_before, in percent
    darker half  = mean of (L_after - L_before) over the pixels with L_before <= median L_before
    brightest    = mean of (L_after - L_before) over the pixels with L_before >= its 95th percentile
"""

from __future__ import annotations

import math

import numpy as np

from lldiffusion.evaluation.measure import Score
from lldiffusion.evaluation.metrics import Uint8, luminance, psnr

Numbers = dict[str, float | None]  # measure -> value of one picture; None: not measured
BRIGHT = 250  # of the brightest channel: from here on detail is lost
BURNT = 2  # percent of newly burnt pixels that are seen
EQUAL = 60.0  # dB that closer pictures count as: nobody sees a difference, and a mean stays one
DARKENED = -0.5  # /255: what rounding to 8 bits takes is not darker


def pair_numbers(score: Score) -> Numbers:
    """PSNR, SSIM, LPIPS, PSNR under `gtmean`, brightness error of a pair that was measured under both protocols."""
    standard, gtmean = score.protocols["standard"], score.protocols["gtmean"]
    return _rounded(
        psnr=min(standard["psnr"], EQUAL),
        ssim=standard["ssim"],
        lpips=standard.get("lpips"),
        gtmean_psnr=min(gtmean["psnr"], EQUAL),
        brightness_error=None if score.brightness is None else abs(score.brightness),
    )


def unchanged_numbers(before: Uint8, after: Uint8) -> Numbers:
    """How far a picture that needs nothing comes back as it was."""
    contrast = luminance(after).std() / max(luminance(before).std(), 1e-9)
    return _rounded(psnr=min(psnr(after, before), EQUAL), contrast=float(contrast))


def picture_numbers(before: Uint8, after: Uint8) -> Numbers:
    """What burnt, what got darker, what bright grew grey."""
    was, change = luminance(before), luminance(after) - luminance(before)
    burnt = (after.max(axis=2) >= BRIGHT) & (before.max(axis=2) < BRIGHT)
    darker_half = float(change[was <= np.median(was)].mean())
    return _rounded(
        burnt=100 * float(burnt.mean()),
        darker_half=darker_half,
        darkened=float(darker_half < DARKENED),
        brightest=float(change[was >= np.percentile(was, 95)].mean()),
    )


def _rounded(**numbers: float | None) -> Numbers:
    """JSON knows no NaN, and nobody reads ten digits."""
    return {
        name: round(value, 4) if value is not None and math.isfinite(value) else None for name, value in numbers.items()
    }
