"""A camera, a stream or a pipe, watched as it happens: the newest frame first, older ones dropped and counted."""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import quantiles

from lldiffusion.errors import LLDiffusionError

from ..frame import Frame
from .clock import DecodedFrame
from .image_sequence import is_image_sequence
from .inputs import DEVICES
from .newest import Newest
from .source import VideoSource

# Of FFmpeg's reader: it shall not gather packets, nor look at seconds of a stream before it begins.
OPTIONS = {"fflags": "nobuffer", "analyzeduration": "1000000"}


@dataclass
class LiveFigures:
    """How far behind a live run is; read it from any thread while it runs."""

    read: int = 0  # frames that came in
    dropped: int = 0  # of these, the ones that a newer one replaced
    latencies: array[float] = field(default_factory=lambda: array("f"))  # seconds, of every frame that went out

    def latency(self, last: int | None = None) -> tuple[float, float]:
        """(median, 95 %) in seconds from a frame's coming in to its result's going out, of all or the last ones."""
        known = self.latencies[-last:] if last else self.latencies
        if len(known) < 2:
            return (known[0], known[0]) if known else (0.0, 0.0)
        cuts = quantiles(known, n=20, method="inclusive")
        return cuts[9], cuts[18]

    def line(self, last: int | None = None) -> str:
        """For people."""
        median, most = self.latency(last)
        frames = f"{self.dropped} of {self.read} frames dropped to keep up"
        return f"{frames}, latency {1000 * median:.0f} ms (95 %: {1000 * most:.0f} ms)"


class LiveSource:
    """The frames of a `VideoSource` that are the newest when they are asked for; as `VideoSource` for a job."""

    def __init__(self, source: VideoSource) -> None:
        self.info = replace(source.info, rereadable=False, frames=None)
        self.damage = source.damage
        self.figures = LiveFigures()
        self._source = source
        self._newest: Newest[DecodedFrame] | None = None
        self._closed = False
        self._arrivals: dict[int, float] = {}  # by timestamp, of the frames in work

    def frames(self, start: float = 0.0, end: float | None = None, skip: int = 0) -> Iterator[Frame]:
        """As `VideoSource.frames`; only what is given is converted."""
        newest = self._newest = Newest(self._source.decoded(start, end, skip))
        given = 0
        try:
            for decoded, arrived in newest:
                given += 1
                frame = self._source.picture(decoded)
                self._arrivals[frame.pts] = arrived
                self.figures.read, self.figures.dropped = newest.read, newest.dropped
                yield frame
        finally:  # however it ends: what still waits will not be given
            self.figures.read = newest.read
            self.figures.dropped = self.figures.read - given

    def written(self, frame: Frame) -> None:
        """The result of a frame has gone out: its latency ends."""
        arrived = self._arrivals.pop(frame.pts, None)
        if arrived is not None:
            self.figures.latencies.append(time.monotonic() - arrived)

    def stop(self) -> None:
        """No more frames: whoever waits for one is let go.  May be called from a signal's handler."""
        if self._newest is not None:
            self._newest.stop()

    def close(self) -> None:
        """Let go of the input; where it is silent, that is left to the end of the process."""
        if self._closed:
            return
        self._closed = True
        if self._newest is None or self._newest.close():
            self._source.close()
        elif self._source.spool is not None:
            self._source.spool.close()


def check_live(name: str) -> None:
    """Raises LLDiffusionError for an input that waits until it is read."""
    goes_on = name == "-" or "://" in name or name.partition(":")[0] in DEVICES
    if not goes_on and (is_image_sequence(name) or Path(name).is_file()):
        raise LLDiffusionError(
            "--live is for what goes on by itself: a camera (v4l2:/dev/video0), an address (rtsp://...) or a pipe (-); "
            f"'{name}' waits to be read, leave --live out"
        )
