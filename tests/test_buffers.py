"""Arrays that are used again, and never while somebody holds them."""

from __future__ import annotations

import weakref

import numpy as np

from lldiffusion.buffers import Buffers


def test_an_array_comes_again_when_nobody_holds_it() -> None:
    buffers = Buffers()
    first = buffers.take((4, 5), np.float32)
    place = first.ctypes.data
    view = first.T[1:]
    del first
    other = buffers.take((4, 5), np.float32)  # a view still looks at the first
    assert other.ctypes.data != place
    del view
    assert buffers.take((4, 5), np.float32).ctypes.data == place


def test_shapes_and_types_are_kept_apart() -> None:
    buffers = Buffers()
    place = buffers.take((4, 5), np.float32).ctypes.data
    assert buffers.take((5, 4), np.float32).shape == (5, 4)
    assert buffers.take((4, 5), np.int16).dtype == np.int16
    assert buffers.take((4, 5), np.float32).ctypes.data == place


def test_who_held_many_leaves_few() -> None:
    buffers = Buffers()
    held = [buffers.take((1,), np.uint8) for _ in range(100)]
    assert len({array.ctypes.data for array in held}) == 100
    alive = [weakref.ref(array) for array in held]
    del held
    assert sum(known() is not None for known in alive) <= 24
    buffers.take((2,), np.uint8)
    assert sum(known() is not None for known in alive) <= 8
