"""Finding a picture again after resizing and re-encoding: a perceptual hash, then a look at the thumbnails.

Hash: signs of the 8x8 lowest DCT coefficients of a 32x32 grey thumbnail against their median, 63 bits without the mean
(pHash; Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010).

Measured on real pairs: JPEG down to quality 30 at a quarter of the size moves at most 4 bits of a normal picture and 8
of a dark one; unrelated normal pictures differ by 14 or more; a scene photographed again from one tripod at another
exposure by 0 to 10.  So near hashes only say "look": the thumbnails decide whether it is the same scene (they are
correlated) and the same photograph (they agree in brightness and colour too, which resizing and JPEG move by 8 % of the
mean at most, and a new exposure by 15 % and more).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lldiffusion.errors import require

Pixels = NDArray[np.float32]
Likeness = Literal["identical", "same scene"]
_SIDE = 32  # pixels a side of the thumbnail
_NEAR = 10  # bits of 63: hashes this near are looked at again
_CORRELATED = 0.9  # of two thumbnails of one scene
_SURE = 0.98  # of two thumbnails whose hashes differ: the hash of a smooth picture is decided by noise
_SAME = 0.05  # mean difference of two thumbnails of one photograph, as a share of their brightness
_STEP = 0.004  # allowed on top: one 8-bit level, which is much in a dark picture


@dataclass(frozen=True)
class Fingerprint:
    """What is kept of a picture."""

    bits: NDArray[np.bool_]  # (63,)
    thumbnail: Pixels  # (32, 32, 3)


def take_fingerprint(pixels: Pixels) -> Fingerprint:
    """The fingerprint of (H, W, 3) pixels in [0, 1]."""
    fft = require("scipy.fft", "eval", "comparing images")
    height, width, _ = pixels.shape
    rows = _area_weights(height) @ pixels.reshape(height, -1)  # (32, W * 3)
    columns = rows.reshape(_SIDE, width, 3).transpose(2, 0, 1) @ _area_weights(width).T  # (3, 32, 32)
    thumbnail: Pixels = np.ascontiguousarray(columns.transpose(1, 2, 0), np.float32)
    grey = np.sqrt(thumbnail.mean(axis=2).clip(min=0))  # the root, lest one lamp decide the hash of a dark picture
    coefficients = fft.dctn(grey, norm="ortho")[:8, :8].ravel()[1:]  # (63,)
    return Fingerprint(coefficients > np.median(coefficients), thumbnail)


@lru_cache(64)
def _area_weights(length: int) -> Pixels:
    """(32, length): the share of every pixel in each of 32 equal parts; rows sum to 1."""
    edges = np.linspace(0, length, _SIDE + 1)
    pixel = np.arange(length)
    covered = np.minimum(pixel + 1, edges[1:, None]) - np.maximum(pixel, edges[:-1, None])
    return (covered.clip(min=0) * _SIDE / length).astype(np.float32)


def find_near(a: Sequence[Fingerprint], b: Sequence[Fingerprint]) -> Iterator[tuple[int, int, Likeness]]:
    """Indices into `a` and `b` of pictures that show the same scene, and how alike they are."""
    if not a or not b:
        return
    signs_a, signs_b = (np.array([f.bits for f in side], np.float32) * 2 - 1 for side in (a, b))
    distance = (signs_a.shape[1] - signs_a @ signs_b.T) / 2  # bits, (len(a), len(b))
    correlation = _standardised(a) @ _standardised(b).T  # (len(a), len(b))
    for i, j in np.argwhere((distance <= _NEAR) | (correlation >= _SURE)):
        likeness = compare(a[i], b[j])
        if likeness:
            yield int(i), int(j), likeness


def _standardised(prints: Sequence[Fingerprint]) -> Pixels:
    """(len(prints), 3072): thumbnails without mean and of length 1, so that a product of two is their correlation."""
    flat = np.array([f.thumbnail.ravel() for f in prints])
    flat -= flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9)


def compare(a: Fingerprint, b: Fingerprint) -> Likeness | None:
    """How alike two pictures are, by their thumbnails; None for different scenes whose hashes are near by chance."""
    brightness = (a.thumbnail.mean() + b.thumbnail.mean()) / 2
    same = np.abs(a.thumbnail - b.thumbnail).mean() <= _SAME * brightness + _STEP
    if not (a.thumbnail.std() and b.thumbnail.std()):  # without detail only brightness is left to compare
        return "identical" if same else None
    if (_standardised([a]) @ _standardised([b]).T).item() < _CORRELATED:
        return None
    return "identical" if same else "same scene"
