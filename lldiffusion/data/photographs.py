"""Photographs anyone may use, and their dark versions: what the demo shows and benchmarks are judged on.

They are scikit-image's: an astronaut (NASA, public domain), a cup of coffee (Rachel Michetti), a cat (Stefan van der
Walt) and a rocket (SpaceX), all CC0 or public domain.  No shipped model has seen them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lldiffusion.errors import require
from lldiffusion.images import to_uint8

from .simulate import LowLight, simulate

Uint8 = NDArray[np.uint8]  # (H, W, 3) RGB

# Name in skimage.data, and the rows and columns shown: 3:2 all of them, so that they line up.
PHOTOGRAPHS = {
    "astronaut": (slice(0, 341), slice(0, 512)),
    "coffee": (slice(0, 400), slice(0, 600)),
    "chelsea": (slice(0, 300), slice(0, 450)),
    "rocket": (slice(0, 427), slice(0, 640)),
}


def dark_photographs() -> Iterator[tuple[str, Uint8, Uint8]]:
    """(name, original, dark), both (H, W, 3); always the same."""
    data = require("skimage.data", "eval", "the photographs of the demo")
    for seed, (name, window) in enumerate(PHOTOGRAPHS.items()):
        original = getattr(data, name)()[window]
        normal = original.astype(np.float32) / np.float32(255)
        yield name, original, to_uint8(simulate(normal, np.random.default_rng(seed), LowLight()))
