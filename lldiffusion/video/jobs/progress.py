"""What a job measures and shows while it runs: flicker before and after, a side-by-side picture now and then."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lldiffusion.images import Image, write_image
from lldiffusion.photometry import LUMA_BT709

from ..frame import Frame
from ..orientation import DisplayMatrix, upright
from ..reading.live import LiveFigures
from ..stability.flicker import FlickerMeter

_PREVIEW_INTERVAL = 10.0  # seconds between two previews
_LUMA = np.array(LUMA_BT709, np.float32)


@dataclass
class JobSummary:
    """How a job went."""

    frames: int = 0  # written by this run
    earlier_frames: int = 0  # written by the runs that it continued
    seconds: float = 0.0
    slowest_stage: str = ""
    flicker_before: FlickerMeter = field(default_factory=FlickerMeter)
    flicker_after: FlickerMeter = field(default_factory=FlickerMeter)
    notes: list[str] = field(default_factory=list)  # what was damaged, lost or substituted, a line each
    live: LiveFigures | None = None  # of a live source

    def lines(self) -> list[str]:
        """For people."""
        rate = self.frames / self.seconds if self.seconds else 0.0
        pace = f"{self.frames} frames in {self.seconds:.1f} s, {rate:.2f} frames/s, slowest stage: {self.slowest_stage}"
        lines = [pace + (f" ({self.earlier_frames} frames of earlier runs kept)" if self.earlier_frames else "")]
        if self.live is not None:
            lines.append(self.live.line())
        if self.flicker_before.frames > 1 and self.flicker_after.frames > 1:
            lines.append(
                "flicker, mean change of brightness between frames: "
                f"{self.flicker_before.stops:.4f} stops before, {self.flicker_after.stops:.4f} after"
            )
        return lines

    def to_dict(self) -> dict[str, Any]:
        """For programs: times in seconds, flicker in stops."""
        table: dict[str, Any] = {"frames": self.frames, "frames of earlier runs": self.earlier_frames}
        table |= {"seconds": self.seconds, "frames per second": self.frames / self.seconds if self.seconds else 0.0}
        table |= {"slowest stage": self.slowest_stage, "notes": self.notes}
        table |= {"flicker before": self.flicker_before.stops, "flicker after": self.flicker_after.stops}
        if self.live is not None:
            median, most = self.live.latency()
            table |= {"frames read": self.live.read, "frames dropped": self.live.dropped}
            table |= {"latency median": median, "latency 95 %": most}
        return table


class FrameMonitor:
    """Calls `enhance` on each frame and measures what goes in and comes out.

    Args:
        summary: takes the measurements.
        preview: where to keep a side-by-side picture, or None.
        matrix: the display matrix, for the preview.
    """

    def __init__(
        self,
        enhance: Callable[[Frame], list[Frame]],
        summary: JobSummary,
        preview: Path | None = None,
        matrix: DisplayMatrix | None = None,
    ) -> None:
        self._enhance = enhance
        self._summary = summary
        self._preview = preview
        self._matrix = matrix
        self._next_preview = 0.0  # of time.monotonic

    def __call__(self, frame: Frame) -> list[Frame]:
        """Enhance one frame."""
        ready = self._enhance(frame)
        self._summary.flicker_before.add(mean_luma(frame))
        for done in ready:
            self._summary.flicker_after.add(mean_luma(done))
        if self._preview is not None and time.monotonic() >= self._next_preview:
            self._write_preview(self._preview, frame, ready)
        return ready

    def _write_preview(self, path: Path, frame: Frame, ready: list[Frame]) -> None:
        for done in ready:
            if done.pts == frame.pts:
                pair = np.concatenate([upright(f.pixels, self._matrix) for f in (frame, done)], axis=1)
                write_image(path, Image(pair))
                self._next_preview = time.monotonic() + _PREVIEW_INTERVAL


def mean_luma(frame: Frame) -> float:
    """The mean over the picture, in 1/255."""
    return float(frame.pixels.mean(axis=(0, 1)) @ _LUMA) * 255
