"""What a thread needs to run TensorRT engines: a lane, with a session for each image size.

A lane is a stream, one scratch allocation, and a few sessions.  A session holds the three execution contexts for one
image size, which share the lane's scratch memory since they run one after the other.  A captured graph is only valid
as long as its contexts are left alone, so each graph owns its session.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ..cuda import Stream
from ..lru import Lru
from ..sampler import Step
from .device_memory import DeviceArray, Pool

SESSIONS = 4  # image sizes (and numbers of steps) kept ready in each thread
PLANNED = 64  # steps whose numbers stay on the GPU while no loop is captured


@dataclass(eq=False)
class Session:
    """The contexts for one image size, their memory, and the captured loop."""

    contexts: dict[str, Any]
    pool: Pool
    steps: tuple[Step, ...] = ()  # of the loop, and their numbers, which the captured loop reads in order
    numbers: list[dict[str, DeviceArray]] = field(default_factory=list)
    position: int = 0  # of the step that comes next
    ready: set[str] = field(default_factory=set)  # graphs whose shapes are set
    low: DeviceArray | None = None  # the captured loop's inputs and output
    noise: DeviceArray | None = None
    zeros: DeviceArray | None = None
    output: DeviceArray | None = None
    graph: Any = None


class Lane:
    """What one thread needs to run the engines."""

    def __init__(self, gpu: int) -> None:
        self.stream = Stream(gpu)
        self.pool = Pool(self.stream)  # of coefficients, and of arrays that belong to no session
        self.scratch: DeviceArray | None = None
        self.numbers: Lru[dict[str, DeviceArray]] = Lru(PLANNED)  # of single steps
        self.sessions: Lru[Session] = Lru(SESSIONS, partial(_close, self.stream))
        weakref.finalize(self, self.sessions.clear).atexit = False  # when its thread ends
        self.current: Session | None = None  # of the loop that is running

    def ensure_scratch(self, size: int) -> DeviceArray:
        """Scratch memory of at least `size` bytes; when it must grow, captured loops are dropped: they know the old."""
        if self.scratch is None or self.scratch.nbytes < size:
            self.sessions.clear()
            self.scratch = None
            self.scratch = Pool(self.stream).empty((-(-size // 4),))
        return self.scratch


def _close(stream: Stream, session: Session) -> None:
    stream.wait()
    if session.graph is not None:
        stream.discard(session.graph)
