"""AVI has one frame rate and no timestamps: packets come in the order of the pictures, each at the next place."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from lldiffusion.errors import LLDiffusionError

IN_ORDER = {"bf": "0"}  # no frames that are shown later than their followers
_CODECS = ("libx264", "ffv1", "h264_")  # how their names begin
_ON_TIME = 0.5  # of a picture's duration: what is off by less is on time


def check_avi(codec: str) -> None:
    """Raises LLDiffusionError for encoders that players do not look for in AVI."""
    if not codec.startswith(_CODECS):
        raise LLDiffusionError(f"AVI holds H.264 and FFV1, not {codec}: leave --codec out, or name a .mkv as OUT")


class Grid:
    """Packets at the places of a frame rate, the first at 0.

    Args:
        rate: frames a second.
        start: seconds that become 0.
    """

    def __init__(self, rate: Fraction, start: Fraction) -> None:
        self._rate, self._start = rate, start
        self._moved = 0.0  # seconds, at most
        self.count = 0

    def places(self, packets: Iterator[Any]) -> Iterator[Any]:
        """The packets, each at the nearest free place."""
        place = -1
        for packet in packets:
            wanted = (packet.pts * packet.time_base - self._start) * self._rate
            place = max(round(wanted), place + 1)
            self._moved = max(self._moved, abs(float((place - wanted) / self._rate)))
            packet.time_base = 1 / self._rate
            packet.pts = packet.dts = place
            packet.duration = 1
            yield packet

    def notes(self) -> list[str]:
        """What the grid cost, for the report at the end."""
        if self._moved * float(self._rate) < _ON_TIME:
            return []
        return [f"AVI has one frame rate: pictures are shown up to {1000 * self._moved:.0f} ms off their time"]
