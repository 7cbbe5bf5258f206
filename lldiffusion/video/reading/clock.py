"""When a decoded frame is shown, for containers that say it wrongly or not at all (AVI with reordered frames)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class DecodedFrame:
    """A decoded frame and its place in time."""

    frame: Any  # PyAV's
    pts: int
    duration: int  # 0: unknown
    repeated: bool = False  # stands for a frame that was lost
    deinterlaced: bool = False  # its fields became a whole picture


class PresentationClock:
    """Presentation times that rise.

    A frame has its own presentation time and the decoding time of the packet that completed it, which comes in the
    same order.  The presentation time is taken, until it has failed to rise more often than the other.
    """

    def __init__(self) -> None:
        self._last: int | None = None
        self._presentation = _TimestampSeries()
        self._decoding = _TimestampSeries()
        self.corrected = 0  # frames that neither time placed behind the one before

    def timestamp(self, frame: Any, step: int) -> int:
        """The time of a PyAV frame; `step` after the last where it has none."""
        pts, dts = self._presentation.add(frame.pts), self._decoding.add(frame.dts)
        trusted = pts if dts is None or self._presentation.faults <= self._decoding.faults else dts
        time = trusted if trusted is not None else dts if pts is None else pts
        if time is None:
            time = 0 if self._last is None else self._last + step
        if self._last is not None and time <= self._last:
            self.corrected += 1
            time = self._last + 1
        self._last = time
        return time


class _TimestampSeries:
    """Times of one kind, and how often they did not rise."""

    def __init__(self) -> None:
        self._last: int | None = None
        self.faults = 0

    def add(self, time: int | None) -> int | None:
        if time is not None:
            self.faults += self._last is not None and time <= self._last
            self._last = time
        return time
