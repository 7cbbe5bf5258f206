"""A small cache that drops what was used longest ago."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Lru(Generic[T]):
    """At most `capacity` values; a value that is dropped is closed by `close`."""

    def __init__(self, capacity: int, close: Callable[[T], None] = lambda value: None) -> None:
        self._capacity, self._close = capacity, close
        self._values: OrderedDict[Hashable, T] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of `key`, made when it is not there.  Room is made first: values may be large."""
        if key not in self._values:
            while len(self._values) >= self._capacity:
                self._close(self._values.popitem(last=False)[1])
            self._values[key] = make()
        self._values.move_to_end(key)
        return self._values[key]

    def clear(self) -> None:
        """Drop everything."""
        while self._values:
            self._close(self._values.popitem()[1])

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._values
