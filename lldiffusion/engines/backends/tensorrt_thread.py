"""What a thread needs to run TensorRT engines: a stream, one scratch allocation, and a session for each image size.

A session holds the execution contexts for one image size, which share the thread's scratch memory since they run one
after the other.  A captured graph is only valid as long as its contexts are left alone, so each graph owns its session.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

from ..cuda import Stream
from ..sampler import Step
from .device_memory import DeviceArray, Pool

T = TypeVar("T")
SESSIONS = 4  # image sizes (and numbers of steps) kept ready in each thread
PLANNED = 64  # steps whose numbers stay on the GPU while no loop is captured


class Lru(Generic[T]):
    """A dictionary of at most `capacity` values; a value that is dropped is closed by `close`."""

    def __init__(self, capacity: int, close: Callable[[T], None] = lambda value: None) -> None:
        self._capacity = capacity
        self._close = close
        self._values: OrderedDict[Hashable, T] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of `key`, made when it is not there.  Room is made first: values may be large."""
        if key not in self._values:
            while len(self._values) >= self._capacity:
                self._close(self._values.popitem(last=False)[1])
            self._values[key] = make()
        self._values.move_to_end(key)
        return self._values[key]

    def find(self, key: Hashable) -> T | None:
        """The value of `key`, or None."""
        return self.get(key, lambda: self._values[key]) if key in self._values else None

    def clear(self) -> None:
        """Drop everything."""
        while self._values:
            self._close(self._values.popitem()[1])

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._values


@dataclass(eq=False)
class Session:
    """The contexts for one image size, their memory, and the captured loop."""

    contexts: dict[str, Any]
    pool: Pool
    steps: tuple[Step, ...] = ()  # of the loop, and their numbers, which the captured loop reads in order
    numbers: list[dict[str, DeviceArray]] = field(default_factory=list)
    position: int = 0  # of the step that comes next
    ready: set[str] = field(default_factory=set)  # graphs whose shapes are set
    inputs: dict[str, DeviceArray] = field(default_factory=dict)  # of the captured loop: low, noise[, level, window]
    zeros: DeviceArray | None = None
    output: DeviceArray | None = None
    graph: Any = None


class ThreadState:
    """What one thread needs to run the engines."""

    def __init__(self, gpu: int) -> None:
        self.stream = Stream(gpu)
        self.pool = Pool(self.stream)  # of coefficients, and of arrays that belong to no session
        self.scratch: DeviceArray | None = None
        self.numbers: Lru[dict[str, DeviceArray]] = Lru(PLANNED)  # of single steps
        self.sessions: Lru[Session] = Lru(SESSIONS, partial(_close, self.stream))
        self.thumbnails: Lru[Session] = Lru(1, partial(_close, self.stream))  # of the level, which captures nothing
        weakref.finalize(self, self.sessions.clear).atexit = False  # when its thread ends
        self.current: Session | None = None  # of the loop that is running

    def ensure_scratch(self, size: int) -> DeviceArray:
        """Scratch memory of at least `size` bytes; when it must grow, captured loops are dropped: they know the old."""
        if self.scratch is None or self.scratch.nbytes < size:
            self.sessions.clear()
            self.thumbnails.clear()
            self.scratch = None
            self.scratch = Pool(self.stream).empty((-(-size // 4),))
        return self.scratch


def _close(stream: Stream, session: Session) -> None:
    stream.wait()
    if session.graph is not None:
        stream.discard(session.graph)
