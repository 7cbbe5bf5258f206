"""The newest of what comes in: whoever is slower than a live source gets the present, never the past."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")
_LOOK = 0.2  # seconds between two looks at whether to stop
_PATIENCE = 1.0  # seconds that `close` waits for an item under way


class Newest(Generic[Item]):
    """Reads `items` in a thread of its own and keeps the last one only.

    Iterating gives (item, when it came in, by `time.monotonic`), waiting where nothing new is there, until `items` end
    or `stop` is called.  What reading raises is raised when all that came before has been given.
    """

    def __init__(self, items: Iterator[Item]) -> None:
        self.read = 0  # items that came in
        self._taken = 0
        self._items = items
        self._waiting: tuple[Item, float] | None = None
        self._changed = threading.Condition()
        self._ended = self._stopped = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="live", daemon=True)

    def __iter__(self) -> Iterator[tuple[Item, float]]:
        if self._thread.ident is None:
            self._thread.start()
        while (found := self._take()) is not None:
            yield found
        if self._failure is not None and not self._stopped:
            raise self._failure

    @property
    def dropped(self) -> int:
        """Items that came in and will not be given: a newer one replaced them, or `stop` came first."""
        waiting = self._waiting is not None and not self._stopped
        return self.read - self._taken - waiting

    def stop(self) -> None:
        """No more items: whoever waits for one is let go.  May be called from a signal's handler."""
        self._stopped = True

    def close(self) -> bool:
        """Stop, and wait for the thread; False where it is still inside a read that nothing has answered."""
        self.stop()
        if self._thread.ident is not None:
            self._thread.join(_PATIENCE)
        return not self._thread.is_alive()

    def _take(self) -> tuple[Item, float] | None:
        with self._changed:
            while self._waiting is None and not self._ended and not self._stopped:
                self._changed.wait(_LOOK)
            if self._stopped or self._waiting is None:
                return None
            found, self._waiting = self._waiting, None
            self._taken += 1
            return found

    def _run(self) -> None:
        try:
            for item in self._items:
                with self._changed:
                    self.read += 1
                    self._waiting = item, time.monotonic()
                    self._changed.notify_all()
                if self._stopped:
                    return
        except BaseException as error:  # raised where the items are taken
            self._failure = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()
