"""A bounded number of pictures: so many in work, so many that wait, and no more."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from .refusals import ClientGone, Refusal

T = TypeVar("T")
Check = Callable[[], None]  # raises Abandoned when nobody waits for the result
LONGEST_RETRY = 120  # seconds
MEMORY = 0.2  # weight of the newest picture in the average of how long one takes


class Abandoned(Exception):
    """Raised inside a worker whose result nobody waits for."""


class WorkQueue:
    """Threads that work, and places for those who wait.  All methods belong to one event loop.

    Args:
        workers: how many work at the same time; ONNX Runtime and libvips let go of Python's lock.
        waiting: places beside those in work.
    """

    def __init__(self, workers: int, waiting: int) -> None:
        self.taken = 0  # places of requests that are being sent, wait, or are in work
        self.working = 0  # threads in work, those whose client has gone among them
        self._workers, self._places = workers, workers + waiting
        self._seconds = 1.0  # that a picture takes, on average
        self._turns = asyncio.Semaphore(workers)
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="picture")

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for one request.  Raises Refusal (429) when all are taken."""
        if self.taken >= self._places:
            raise Refusal(429, f"all {self._places} places are taken: try again later", self.retry_after)
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1

    @property
    def retry_after(self) -> int:
        """Whole seconds until a place is probably free."""
        return max(1, min(LONGEST_RETRY, math.ceil(self._seconds * (self.taken + 1) / self._workers)))

    async def run(self, work: Callable[[Check], T], gone: Coroutine[Any, Any, None], seconds: float) -> T:
        """What `work` returns, done in a thread; it calls its argument now and then.

        Raises Refusal (503) when it takes longer than `seconds`, waiting included, and ClientGone when `gone` ends
        first.  Either way what waits is dropped at once, and what is in work at its next call of the argument.
        """
        abandoned = threading.Event()
        turn, leaving = asyncio.ensure_future(self._turn(work, abandoned)), asyncio.ensure_future(gone)
        try:
            await asyncio.wait({turn, leaving}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if turn.done():
                return turn.result()
            if leaving.done():
                raise ClientGone
            raise Refusal(503, f"not done within {seconds:g} s: try again later", self.retry_after)
        finally:
            abandoned.set()
            turn.cancel()
            leaving.cancel()

    async def _turn(self, work: Callable[[Check], T], abandoned: threading.Event) -> T:
        await self._turns.acquire()
        self.working += 1
        start = time.monotonic()

        def ended(done: asyncio.Future[T]) -> None:
            """A thread cannot be cancelled: its turn is over when it ends, whoever still waits for it."""
            self._turns.release()
            self.working -= 1
            if not done.cancelled() and done.exception() is None:
                self._seconds += MEMORY * (time.monotonic() - start - self._seconds)

        future = asyncio.get_running_loop().run_in_executor(self._threads, work, _checking(abandoned))
        future.add_done_callback(ended)
        return await asyncio.shield(future)

    def close(self) -> None:
        """Wait for what is in work."""
        self._threads.shutdown()


def _checking(abandoned: threading.Event) -> Check:
    def check() -> None:
        if abandoned.is_set():
            raise Abandoned

    return check
