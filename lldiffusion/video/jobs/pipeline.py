"""Decode, enhance and encode at the same time: three threads, and bounded queues between them.

The queues keep memory constant over the length of a clip, and order; the slowest stage sets the pace.  Of a live source
no frame waits: the next one is asked for when the last result is being written, so that it is as new as can be.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from ..frame import Frame
from ..reading.live import LiveFigures

STAGES = ("decode", "enhance", "encode")
Item = TypeVar("Item")


@dataclass
class PipelineProgress:
    """How far a run is; read it from any thread while it runs."""

    read: int = 0  # frames that came from the source
    written: int = 0  # frames that the sink took
    busy: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))  # seconds at work, by stage
    live: LiveFigures | None = None  # of a live source

    @property
    def slowest(self) -> str:
        """The stage that the others wait for."""
        return max(self.busy, key=lambda stage: self.busy[stage])


def run_pipeline(
    source: Iterable[Frame],
    enhance: Callable[[Frame], list[Frame]],
    sink: Callable[[Frame], None],
    queue_depth: int = 4,
    *,
    flush: Callable[[], list[Frame]] | None = None,
    stop: threading.Event | None = None,
    progress: PipelineProgress | None = None,
) -> PipelineProgress:
    """Pull every frame of `source` through `enhance` into `sink`, each in a thread of its own, in order.

    Args:
        enhance: takes one frame and returns those that are ready, none or several.
        queue_depth: frames that may wait before each stage.
        flush: returns the frames that `enhance` still holds; called once, after the last.
        stop: when it is set, no more frames are read, and those under way are finished.  Ctrl-C sets it, too.
        progress: to watch; a new one is made otherwise.  It is returned.  Where its `live` is set, a frame is asked for
            when it can be enhanced at once, from the enhancing thread: `source` has the newest.
    Raises the first exception of any stage, after all have ended.  KeyboardInterrupt is raised after the frames under
    way are finished; a second Ctrl-C does not wait for them.
    """
    progress = progress or PipelineProgress()
    live = progress.live is not None
    stop = stop or threading.Event()
    stages = _Stages(progress, stop, _Channel(queue_depth), _Channel(queue_depth))
    calls: dict[str, Callable[[], None]] = {
        "enhance": lambda: stages.enhance(stages.asked_for(source) if live else stages.read_ahead(), enhance, flush),
        "encode": lambda: stages.encode(sink),
    }
    if not live:
        calls["decode"] = lambda: stages.decode(source)
    threads = [
        threading.Thread(target=stages.run, args=(call,), name=name, daemon=True) for name, call in calls.items()
    ]
    for thread in threads:
        thread.start()
    interrupt = _wait(threads, stop)
    if stages.failure is not None:
        raise stages.failure
    if interrupt is not None:
        raise interrupt
    return progress


def _wait(threads: list[threading.Thread], stop: threading.Event) -> KeyboardInterrupt | None:
    try:
        _join(threads)
    except KeyboardInterrupt as interrupt:
        stop.set()
        _join(threads)
        return interrupt
    return None


def _join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        while thread.is_alive():
            thread.join(0.2)  # with a limit: a Ctrl-C gets through on every system


class _ChannelClosed(Exception):
    """Another stage failed: there is nobody to work for."""


class _Channel(Generic[Item]):
    """A bounded queue that can be closed from either end."""

    def __init__(self, depth: int) -> None:
        self._items: deque[Item] = deque()
        self._depth = max(depth, 1)
        self._changed = threading.Condition()
        self._finished = False  # by the end that puts
        self._aborted = False  # by either end

    def put(self, item: Item) -> None:
        with self._changed:
            self._changed.wait_for(lambda: len(self._items) < self._depth or self._aborted)
            if self._aborted:
                raise _ChannelClosed
            self._items.append(item)
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Item]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._finished or self._aborted)
                if self._aborted:
                    raise _ChannelClosed
                if not self._items:
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item
            del item  # or one frame more would be held while waiting

    def wait_until_empty(self) -> None:
        """Until all that was put is taken."""
        with self._changed:
            self._changed.wait_for(lambda: not self._items or self._aborted)
            if self._aborted:
                raise _ChannelClosed

    def finish(self) -> None:
        """Nothing more will be put."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def abort(self) -> None:
        """Forget what waits, and stop both ends."""
        with self._changed:
            self._aborted = True
            self._items.clear()
            self._changed.notify_all()


class _Stages:
    """The three stages, and the first failure of any."""

    def __init__(
        self,
        progress: PipelineProgress,
        stop: threading.Event,
        decoded: _Channel[Frame],
        enhanced: _Channel[Frame],
    ) -> None:
        self.failure: BaseException | None = None
        self._progress = progress
        self._stop = stop
        self._decoded = decoded
        self._enhanced = enhanced
        self._lock = threading.Lock()

    def run(self, call: Callable[[], None]) -> None:
        """Run one stage; its failure stops the others."""
        try:
            call()
        except _ChannelClosed:
            return
        except BaseException as error:  # also KeyboardInterrupt and SystemExit raised by a user's callable
            with self._lock:
                self.failure = self.failure or error
            self._decoded.abort()
            self._enhanced.abort()

    def decode(self, source: Iterable[Frame]) -> None:
        frames = iter(source)
        try:
            while not self._stop.is_set():
                frame = self._timed("decode", next, frames, None)
                if frame is None:
                    break
                self._progress.read += 1
                self._decoded.put(frame)
                del frame
        finally:
            close = getattr(frames, "close", None)  # a generator: its files are closed in the thread that read them
            if close is not None:
                close()
        self._decoded.finish()

    def read_ahead(self) -> Iterator[Frame]:
        """The frames that `decode` has put."""
        return iter(self._decoded)

    def asked_for(self, source: Iterable[Frame]) -> Iterator[Frame]:
        """The frames of a live source, each as late as can be."""
        frames = iter(source)
        while not self._stop.is_set():
            self._enhanced.wait_until_empty()
            frame = next(frames, None)
            if frame is None:
                return
            self._progress.read += 1
            yield frame
            del frame

    def enhance(
        self,
        frames: Iterator[Frame],
        call: Callable[[Frame], list[Frame]],
        flush: Callable[[], list[Frame]] | None,
    ) -> None:
        for frame in frames:
            self._hand_on(self._timed("enhance", call, frame))
            del frame
        if flush is not None:
            self._hand_on(self._timed("enhance", flush))
        self._enhanced.finish()

    def encode(self, sink: Callable[[Frame], None]) -> None:
        for frame in self._enhanced:
            self._timed("encode", sink, frame)
            self._progress.written += 1
            del frame

    def _hand_on(self, frames: list[Frame]) -> None:
        for frame in frames:
            self._enhanced.put(frame)

    def _timed(self, stage: str, call: Callable[..., Any], *arguments: Any) -> Any:
        start = time.perf_counter()
        try:
            return call(*arguments)
        finally:
            self._progress.busy[stage] += time.perf_counter() - start
