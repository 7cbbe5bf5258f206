"""Arrays on a GPU, and the pool their memory comes from and returns to."""

from __future__ import annotations

import math
import weakref
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from lldiffusion.errors import LLDiffusionError

from .. import dlpack
from ..cuda import Stream, from_bfloat16, to_bfloat16
from .base import Floats

STORED = {"float32": np.float32, "float16": np.float16, "bfloat16": np.uint16}  # how the host holds each type


@dataclass(eq=False)
class DeviceArray:
    """A contiguous array in GPU memory.

    `numpy.asarray` is not possible; PyTorch, CuPy, JAX, Numba and PyCUDA read it without a copy, through DLPack or
    `__cuda_array_interface__` (which has no bfloat16).
    """

    pointer: int
    shape: tuple[int, ...]
    dtype: str  # "float32", "float16" or "bfloat16"
    stream: Stream  # on which it is written
    owner: Any = None  # of foreign memory, kept alive

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * np.dtype(STORED[self.dtype]).itemsize

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        if self.dtype == "bfloat16":
            raise AttributeError("the CUDA array interface knows no bfloat16")
        kind = np.dtype(STORED[self.dtype]).str
        pointer = (self.pointer, False)
        return {"shape": self.shape, "typestr": kind, "data": pointer, "version": 3, "stream": self.stream.handle}

    def __dlpack__(self, **options: Any) -> Any:
        self.stream.wait()  # so that it is ready on every stream
        return dlpack.export_capsule(self.pointer, self.shape, self.dtype, self.__dlpack_device__(), self)

    def __dlpack_device__(self) -> tuple[int, int]:
        return dlpack.CUDA, self.stream.gpu

    def host(self) -> Floats:
        """A float32 copy in host memory."""
        stored = np.empty(self.shape, STORED[self.dtype])
        self.stream.download(self.pointer, stored)
        return from_bfloat16(stored) if self.dtype == "bfloat16" else stored.astype(np.float32, copy=False)


class Pool:
    """Memory of one stream.  A dropped array's memory serves the next array of its size, in stream order.

    The same sequence of calls gets the same addresses without a new allocation, which is what capturing needs.
    """

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._free: defaultdict[int, list[int]] = defaultdict(list)
        self._all: list[int] = []
        weakref.finalize(self, _release, stream, self._all).atexit = False  # at exit the driver frees everything

    def empty(self, shape: tuple[int, ...], dtype: str = "float32") -> DeviceArray:
        """A new array, its content undefined."""
        array = DeviceArray(0, tuple(shape), dtype, self.stream)
        free = self._free[array.nbytes]
        if free:
            array.pointer = free.pop()
        else:
            array.pointer = self.stream.allocate(array.nbytes)
            self._all.append(array.pointer)
        array.owner = self
        weakref.finalize(array, free.append, array.pointer).atexit = False
        return array

    def put(self, values: Any, dtype: str = "float32") -> DeviceArray:
        """An array with the content of a host array."""
        array = self.empty(values.shape, dtype)
        fill(array, values)
        return array


def fill(array: DeviceArray, values: Any) -> None:
    """Overwrite an array from the host (NumPy) or from another array on the GPU."""
    if isinstance(values, np.ndarray):
        typed = to_bfloat16(values) if array.dtype == "bfloat16" else values
        array.stream.upload(np.ascontiguousarray(typed, STORED[array.dtype]), array.pointer)
    else:
        source = borrow(values, array.stream)
        if source.dtype != array.dtype:
            raise LLDiffusionError(f"an array of {source.dtype} on the GPU was given where {array.dtype} is needed")
        array.stream.copy(source.pointer, array.pointer, array.nbytes)


def borrow(values: Any, stream: Stream) -> DeviceArray:
    """An array of ours, or anything with `__cuda_array_interface__` or DLPack, for use on `stream`, without a copy."""
    if isinstance(values, DeviceArray):
        if values.stream is not stream:
            values.stream.wait()  # another thread wrote it
        return values
    about = getattr(values, "__cuda_array_interface__", None)
    if about is None and hasattr(values, "__dlpack__"):
        return _borrow_dlpack(values, stream)
    if about is None:
        raise LLDiffusionError(f"a NumPy array or one in GPU memory is needed, not {type(values).__name__}")
    dtype = np.dtype(about["typestr"]).name
    shape, strides = tuple(about["shape"]), about.get("strides")
    if dtype not in STORED or (strides is not None and tuple(strides) != _contiguous(shape, dtype)):
        raise LLDiffusionError(f"an array on the GPU must be contiguous float32 or float16, not {dtype} {strides}")
    if about.get("stream") is not None:
        stream.wait_for(int(about["stream"]))
    return DeviceArray(int(about["data"][0]), shape, dtype, stream, owner=values)


def _borrow_dlpack(values: Any, stream: Stream) -> DeviceArray:
    device = tuple(int(number) for number in values.__dlpack_device__())
    if device != (dlpack.CUDA, stream.gpu):
        raise LLDiffusionError(f"an array on cuda:{stream.gpu} is needed, not on DLPack device {device}")
    taken = dlpack.import_capsule(
        values.__dlpack__(stream=stream.handle)
    )  # its producer makes it ready for this stream
    return DeviceArray(taken.pointer, taken.shape, taken.dtype, stream, owner=taken.owner)


def _contiguous(shape: tuple[int, ...], dtype: str) -> tuple[int, ...]:
    size = np.dtype(dtype).itemsize
    return tuple(size * math.prod(shape[i + 1 :]) for i in range(len(shape)))


def _release(stream: Stream, pointers: list[int]) -> None:
    for pointer in pointers:
        stream.free(pointer)
    pointers.clear()
