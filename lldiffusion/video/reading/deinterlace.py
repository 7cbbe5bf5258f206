"""Interlaced video: a frame holds two fields, of every second line and of two moments; bwdif makes whole pictures.

FFmpeg's bwdif ("Bob Weaver": motion-adaptive, by yadif and the BBC's w3fdif) keeps the field that is shown first and
fills in the other lines from their neighbours in space and time.  One picture for each frame: times and sound stay.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ..planes import filtered
from .clock import DecodedFrame

_OPTIONS = "mode=send_frame:parity=auto:deint=interlaced"  # frames that are not flagged as interlaced pass


def deinterlace(decoded: Iterator[DecodedFrame]) -> Iterator[DecodedFrame]:
    """Frames with whole pictures instead of fields, in the same number, at the same times."""
    graph = None
    for item in decoded:
        if graph is not None and not graph.fits(item.frame):
            yield from graph.flush()
            graph = None
        if graph is None and item.frame.interlaced_frame:
            graph = _Graph(item.frame)
        if graph is None:
            yield item
        else:
            yield from graph.push(item)
    if graph is not None:
        yield from graph.flush()


class _Graph:
    """A filter graph, and the frames that it has not returned yet."""

    def __init__(self, frame: Any) -> None:
        import av

        self._kind = _kind(frame)
        self._time_base = frame.time_base
        self._waiting: deque[DecodedFrame] = deque()
        self._graph = av.filter.Graph()
        width, height, pixel_format = self._kind
        source = self._graph.add_buffer(width=width, height=height, format=pixel_format, time_base=self._time_base)
        bwdif, sink = self._graph.add("bwdif", _OPTIONS), self._graph.add("buffersink")
        source.link_to(bwdif)
        bwdif.link_to(sink)
        self._graph.configure()

    def fits(self, frame: Any) -> bool:
        """Whether a frame has the size and format of those before."""
        return _kind(frame) == self._kind

    def push(self, item: DecodedFrame) -> Iterator[DecodedFrame]:
        """Take one frame; yields those that are ready: bwdif looks one frame ahead."""
        item.frame.pts = item.pts  # which rises, as the filter wants it
        self._waiting.append(item)
        self._graph.push(item.frame)
        yield from self._pull()

    def flush(self) -> Iterator[DecodedFrame]:
        """The frames that still wait."""
        self._graph.push(None)
        yield from self._pull()

    def _pull(self) -> Iterator[DecodedFrame]:
        from av.error import BlockingIOError as NotYet
        from av.error import EOFError as Ended

        while self._waiting:
            try:
                frame = self._graph.pull()
            except (NotYet, Ended):
                return
            item = self._waiting.popleft()
            yield replace(item, frame=frame, deinterlaced=bool(item.frame.interlaced_frame))


def _kind(frame: Any) -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name


def field_order(frame: Any) -> str:
    """Which field of a PyAV frame is shown first, "top" or "bottom"; "" for a whole picture."""
    if not frame.interlaced_frame:
        return ""
    top_first = list(filtered(frame, "select", "eq(interlace_type,TOPFIRST)"))  # PyAV does not tell this flag
    return "top" if top_first else "bottom"
