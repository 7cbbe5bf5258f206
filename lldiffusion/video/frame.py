"""One picture of a video, as it travels from the source through the enhancer to the sink."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Frame:
    """A picture and its place in time; `dataclasses.replace(frame, pixels=...)` changes the picture and nothing else.

    `pixels` is float32, also for 8-bit video: a dark picture has few code values, and rounding them once more before
    they are brightened would show.
    """

    pixels: NDArray[np.float32]  # (H, W, 3) RGB in [0, 1], with the transfer function and primaries of the video
    pts: int  # presentation time in units of time_base, exactly as in the source
    time_base: Fraction  # seconds
    origin: Any = None  # what the sink needs of the source (colour, depth, duration); others hand it on unread

    @property
    def time(self) -> float:
        """Presentation time in seconds."""
        return float(self.pts * self.time_base)
