"""The other streams of an input that cannot be read twice: kept in a file while the video is enhanced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .inputs import file_url


class PacketSpool:
    """Takes the packets of `streams` as they come, and writes them to `path` (NUT) from `begin` on.

    Until then they wait in memory: a camera sends sound before its first picture is known.
    """

    def __init__(self, streams: list[Any], path: Path) -> None:
        self._streams = streams
        self._path = path
        self._waiting: list[Any] = []
        self._output: Any = None

    def begin(self) -> None:
        """Make the file."""
        import av

        self._path.parent.mkdir(parents=True, exist_ok=True)
        options = {"avoid_negative_ts": "disabled", "fflags": "+bitexact"}
        self._output = av.open(file_url(self._path), "w", format="nut", container_options=options)
        self._copies = {s.index: self._output.add_stream_from_template(s, opaque=True) for s in self._streams}
        self._output.start_encoding()
        for packet in self._waiting:
            self.add(packet)
        self._waiting.clear()

    def add(self, packet: Any) -> None:
        """Keep a packet; those without a time, or before time began, are not kept."""
        if self._output is None:
            self._waiting.append(packet)
        elif packet.size and packet.pts is not None and packet.pts >= 0:
            packet.stream = self._copies[packet.stream.index]
            self._output.mux(packet)

    def close(self) -> None:
        """Finish the file."""
        if self._output is not None:
            self._output.close()
            self._output = None
