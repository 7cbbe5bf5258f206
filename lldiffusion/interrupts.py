"""Ctrl-C in two steps: the first asks to stop at a good place, the second stops at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable
from types import FrameType, TracebackType
from typing import Any


class Interrupts:
    """Context manager: while its block runs, the first Ctrl-C only sets `asked`; the block looks at it and ends.

    Args:
        say: called at the first one, to tell the user what happens now.
        signals: what counts as Ctrl-C; a trainer on a cluster is stopped by SIGTERM.
        raise_second: whether the next one raises KeyboardInterrupt; False inside libraries that must not be torn out of
            their work.
    Outside the main thread, where Python delivers no signals, nothing is changed and `asked` is never set.
    """

    def __init__(
        self,
        say: Callable[[], None] = lambda: None,
        signals: Iterable[signal.Signals] = (signal.SIGINT,),
        raise_second: bool = True,
    ) -> None:
        self.asked = threading.Event()
        self._say = say
        self._signals = tuple(signals)
        self._raise_second = raise_second
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in self._signals}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.asked.is_set():
            self.asked.set()
            self._say()
        elif self._raise_second:
            raise KeyboardInterrupt
