"""Arrays that are used again: on many systems, fresh memory costs more than the work on it.

A page that a process has not touched yet is brought by the kernel, cleared: at 1280x720, three planes of float32 took
5 to 12 ms a frame that way, more than any computation here takes on them.
"""

from __future__ import annotations

from sys import getrefcount
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_MOST = 24  # arrays that are remembered, held ones among them
_SPARE = 8  # unused arrays that are kept
_UNUSED = 2  # references to an array that nobody else holds: the list's, getrefcount's


class Buffers:
    """Hands out arrays, and the same ones again when nobody holds them or a view of them any more.

    They need no giving back: what keeps an array is a reference to it, as everywhere.  For one thread; other threads
    may let go of what it handed out.
    """

    def __init__(self) -> None:
        self._arrays: list[NDArray[Any]] = []

    def take(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An array (C order) with any contents."""
        places = range(len(self._arrays))
        unused = [place for place in places if getrefcount(self._arrays[place]) == _UNUSED]
        for place in unused:
            array = self._arrays[place]
            if array.shape == shape and array.dtype == dtype:
                return array
        for place in reversed(unused[:-_SPARE]):  # of other sizes, or of one who held many for a while
            del self._arrays[place]
        self._arrays = [*self._arrays[1 - _MOST :], np.empty(shape, dtype)]
        return self._arrays[-1]
