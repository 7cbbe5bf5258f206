"""HDR highlights on a standard display: the curve of ITU-R BT.2390-10, 5.4.1, on the largest of R, G and B.

In PQ numbers, as shares of the source's peak:  E2 = P(E1) above KS = 1.5 maxLum - 0.5, else E1, where

    P(B) = (2T^3 - 3T^2 + 1) KS + (T^3 - 2T^2 + T) (1 - KS) + (-2T^3 + 3T^2) maxLum,    T = (B - KS) / (1 - KS)

and maxLum is the display's peak: diffuse white.  All three channels get the same factor, so hues stay.  The curve
depends on the clip and never on the frame, so it does not flicker.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .hdr import DIFFUSE_WHITE, DISPLAY_GAMMA, Floats, light_to_pq, pq_to_light

_ENTRIES = 4096  # of the table; linear between them


def tone_map(signal: Floats, peak: float) -> Floats:
    """Signals (H, W, 3) of `hdr` to [0, 1] of a BT.1886 display; `peak`, in cd/m2, becomes 1."""
    places, factors = _table(peak)
    largest = signal.max(axis=2)
    return np.clip(signal * np.interp(largest, places, factors).astype(np.float32)[..., None], 0, 1)


@lru_cache(maxsize=8)
def _table(peak: float) -> tuple[Floats, Floats]:
    """Signals from 0 to the peak's, and what to multiply each with."""
    signal = np.linspace(0, (peak / DIFFUSE_WHITE) ** (1 / DISPLAY_GAMMA), _ENTRIES, dtype=np.float32)
    shown = mapped(signal**DISPLAY_GAMMA * np.float32(DIFFUSE_WHITE), peak)
    factors = np.ones_like(signal)
    factors[1:] = (shown[1:] / DIFFUSE_WHITE) ** (1 / DISPLAY_GAMMA) / signal[1:]
    return signal, factors


def mapped(light: Floats, peak: float) -> Floats:
    """Light of an HDR display, cd/m2 up to `peak`, to that of a standard one up to diffuse white."""
    if peak <= DIFFUSE_WHITE:
        return np.minimum(light, np.float32(DIFFUSE_WHITE))
    top, white = light_to_pq(np.array([peak, DIFFUSE_WHITE], np.float32))
    share, most = np.minimum(light_to_pq(light) / top, 1), white / top
    knee = 1.5 * most - 0.5
    t = np.maximum(share - knee, 0) / (1 - knee)
    rounded = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * most
    return pq_to_light(np.where(share < knee, share, rounded).astype(np.float32) * top)
