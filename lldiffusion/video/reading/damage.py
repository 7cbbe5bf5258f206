"""Damaged input: frames that were lost are found by their packets' timestamps, stood in for, counted and reported."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import Any


@dataclass
class DamageReport:
    """What was wrong with the input, for the report at the end."""

    errors: int = 0  # packets that could not be decoded
    concealed: int = 0  # frames of which the decoder made up a part
    repeated: list[float] = field(default_factory=list)  # seconds where the last frame stands for a lost one
    transparent: int = 0  # frames, of a video that began as an opaque one
    deinterlaced: int = 0  # frames, of a video that did not begin with such
    corrected: int = 0  # frames whose timestamps did not rise
    left_out: list[str] = field(default_factory=list)  # other streams, a line each
    early_end: str = ""  # why reading stopped before the end

    def lines(self) -> list[str]:
        """One line for each kind of damage."""
        lines = []
        if self.errors or self.repeated:
            where = ", ".join(f"{time:.2f}" for time in self.repeated[:5]) + (" ..." if self.repeated[5:] else "")
            at = f" (at {where} s)" if where else ""
            lines.append(
                f"damaged input: {self.errors} packets; the last frame repeated {len(self.repeated)} times{at}"
            )
        if self.concealed:
            lines.append(f"damaged input: {self.concealed} frames patched by the decoder")
        if self.transparent:
            lines.append(f"{self.transparent} frames are transparent in places, the first is not: alpha is dropped")
        if self.deinterlaced:
            lines.append(f"{self.deinterlaced} interlaced frames were made whole pictures")
        if self.corrected:
            lines.append(f"{self.corrected} frames had timestamps that did not rise: each moved behind the one before")
        lines += self.left_out
        return [*lines, self.early_end] if self.early_end else lines


class LostFrames:
    """Timestamps that were given to the decoder and have not come out.

    Only after an error, and until a later key frame comes out, is a missing frame called lost: some codecs have packets
    without a picture of their own.
    """

    def __init__(self) -> None:
        self._waiting: list[int] = []  # a heap of timestamps
        self._latest = 0  # timestamp that was given to the decoder
        self._damaged_until: int | None = None  # a decoder with threads reports an error some packets later

    def add_packet(self, packet: Any) -> None:
        """Note a packet before it is decoded."""
        if packet.pts is not None and packet.size and not packet.is_discard:
            heapq.heappush(self._waiting, packet.pts)
            self._latest = max(self._latest, packet.pts)
        if packet.is_corrupt:
            self.packet_failed()

    def packet_failed(self) -> None:
        """Note that the decoder refused a packet."""
        self._damaged_until = self._latest

    def lost_before(self, pts: int, key_frame: bool) -> list[int]:
        """Timestamps that were lost before the frame at `pts`, which has just come out."""
        missing = []
        while self._waiting and self._waiting[0] <= pts:
            missing.append(heapq.heappop(self._waiting))
        if self._damaged_until is None:
            return []
        if key_frame and pts > self._damaged_until:
            self._damaged_until = None
        return sorted({time for time in missing if time < pts})

    def lost_at_end(self) -> list[int]:
        """Timestamps lost after the last frame that came out."""
        return sorted(set(self._waiting)) if self._damaged_until is not None else []
