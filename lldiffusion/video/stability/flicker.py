"""A running measure of flicker, cheap enough to look at every frame."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass
class FlickerMeter:
    """Mean brightness from frame to frame.  Memory does not grow with the clip.

    Brightness is the mean luma of a frame; any unit will do (the video's own, or 1/255).
    """

    frames: int = 0
    mean: float = 0.0  # of the brightness
    last: float = 0.0  # the last frame's
    _squares: float = 0.0  # sum of squared distances from the mean (Welford 1962)
    _steps: float = 0.0  # sum of |change| between neighbours
    _relative: float = 0.0  # sum of |log2 of the ratio| of neighbours

    def add(self, brightness: float) -> None:
        """The next frame's mean luma."""
        if self.frames:
            self._steps += abs(brightness - self.last)
            self._relative += abs(math.log2(max(brightness, _DARK) / max(self.last, _DARK)))
        before = self.mean
        self.frames += 1
        self.last = brightness
        self.mean += (brightness - before) / self.frames
        self._squares += (brightness - before) * (brightness - self.mean)

    @property
    def variance(self) -> float:
        """Of the brightness over the frames: AB(Var) of one clip (see `evaluation.video`)."""
        return self._squares / self.frames if self.frames else 0.0

    @property
    def change(self) -> float:
        """Mean |difference| between neighbouring frames, in the unit of the brightness."""
        return self._steps / (self.frames - 1) if self.frames > 1 else 0.0

    @property
    def stops(self) -> float:
        """The same as a mean |log2 ratio|: dark and bright clips compare, before and after enhancing."""
        return self._relative / (self.frames - 1) if self.frames > 1 else 0.0


_DARK = 1e-6  # black frames have no logarithm
