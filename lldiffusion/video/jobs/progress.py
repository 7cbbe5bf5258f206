"""What a job tells while it runs and at its end: flicker before and after, a side-by-side picture now and then."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lldiffusion.images import Image, write_image
from lldiffusion.photometry import LUMA_BT709

from ..frame import Frame
from ..reading.stills import upright
from ..stability.flicker import FlickerMeter

_PREVIEW_EVERY = 10.0  # seconds of the clock on the wall


@dataclass
class Summary:
    """How a job went."""

    frames: int = 0  # written by this run
    kept: int = 0  # by the runs that it continued
    seconds: float = 0.0
    slowest: str = ""  # stage
    before: FlickerMeter = field(default_factory=FlickerMeter)
    after: FlickerMeter = field(default_factory=FlickerMeter)
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """For people."""
        rate = self.frames / self.seconds if self.seconds else 0.0
        said = [f"{self.frames} frames in {self.seconds:.1f} s, {rate:.2f} frames/s, slowest stage: {self.slowest}"]
        if self.kept:
            said[0] += f" ({self.kept} frames of earlier runs kept)"
        if self.before.frames > 1 and self.after.frames > 1:
            said.append(
                "flicker, mean change of brightness between frames: "
                f"{self.before.stops:.4f} stops before, {self.after.stops:.4f} after"
            )
        return said


class Watched:
    """Calls `work` on each frame and looks at what goes in and comes out.

    Args:
        preview: where to keep a side-by-side picture, or None.
        matrix: the display matrix, for the preview.
    """

    def __init__(
        self,
        work: Callable[[Frame], list[Frame]],
        summary: Summary,
        preview: Path | None = None,
        matrix: tuple[int, ...] | None = None,
    ) -> None:
        self._work, self._summary, self._preview, self._matrix = work, summary, preview, matrix
        self._due = 0.0

    def __call__(self, frame: Frame) -> list[Frame]:
        """Enhance one frame."""
        ready = self._work(frame)
        self._summary.before.add(brightness(frame))
        for done in ready:
            self._summary.after.add(brightness(done))
        if self._preview is not None and time.monotonic() >= self._due:
            self._show(frame, ready)
        return ready

    def _show(self, frame: Frame, ready: list[Frame]) -> None:
        for done in ready:
            if done.pts == frame.pts and self._preview is not None:
                pair = np.concatenate([upright(f.pixels, self._matrix) for f in (frame, done)], axis=1)
                write_image(self._preview, Image(pair))
                self._due = time.monotonic() + _PREVIEW_EVERY


def brightness(frame: Frame) -> float:
    """Mean luma of a frame, in 1/255."""
    return float(frame.pixels.mean(axis=(0, 1)) @ np.array(LUMA_BT709, np.float32)) * 255
