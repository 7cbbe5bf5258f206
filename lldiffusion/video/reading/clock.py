"""When a decoded frame is shown, for containers that say it wrongly or not at all (AVI with reordered frames)."""

from __future__ import annotations

from typing import Any


class Clock:
    """Presentation times that rise.

    A frame brings its own presentation time and the decoding time of the packet that completed it, which comes in the
    same order.  The own one is taken, until it has failed to rise more often than the other.
    """

    def __init__(self) -> None:
        self._last: int | None = None
        self._own = _Series()
        self._packets = _Series()
        self.moved = 0  # frames that neither time placed behind the one before

    def date(self, picture: Any, step: int) -> int:
        """The time of a PyAV frame; `step` after the last where it has none."""
        own, packet = self._own.take(picture.pts), self._packets.take(picture.dts)
        trusted = own if packet is None or self._own.faults <= self._packets.faults else packet
        time = trusted if trusted is not None else packet if own is None else own
        if time is None:
            time = 0 if self._last is None else self._last + step
        if self._last is not None and time <= self._last:
            self.moved += 1
            time = self._last + 1
        self._last = time
        return time


class _Series:
    """Times of one kind, and how often they did not rise."""

    def __init__(self) -> None:
        self._last: int | None = None
        self.faults = 0

    def take(self, time: int | None) -> int | None:
        if time is not None:
            self.faults += self._last is not None and time <= self._last
            self._last = time
        return time
