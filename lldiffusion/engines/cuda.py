"""CUDA's runtime through cuda-python: one stream, its memory, and graphs captured from it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lldiffusion.errors import LLDiffusionError, require

OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation


class Stream:
    """A stream on one GPU.  Made, used and closed by one thread."""

    def __init__(self, gpu: int) -> None:
        self._runtime = require("cuda.bindings.runtime", "gpu", "running TensorRT engines")
        self.gpu = gpu
        self._call("cudaSetDevice", gpu)
        self._stream = self._call("cudaStreamCreateWithFlags", self._runtime.cudaStreamNonBlocking)
        weakref.finalize(self, self._runtime.cudaStreamDestroy, self._stream).atexit = False

    @property
    def handle(self) -> int:
        """The cudaStream_t as a number."""
        return int(self._stream)

    def allocate(self, size: int) -> int:
        """Address of `size` new bytes, aligned to 256."""
        return int(self._call("cudaMalloc", max(size, 1)))

    def free(self, pointer: int) -> None:
        """Give memory back; waits for the GPU."""
        self._call("cudaFree", pointer)

    def upload(self, host: NDArray[Any], pointer: int) -> None:
        """Copy a contiguous host array to the GPU; the array may be changed as soon as this returns."""
        self._copy(pointer, host.ctypes.data, host.nbytes, self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice)

    def download(self, pointer: int, host: NDArray[Any]) -> None:
        """Copy to a contiguous host array and wait until it is there."""
        self._copy(host.ctypes.data, pointer, host.nbytes, self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost)
        self.wait()

    def copy(self, source: int, target: int, size: int) -> None:
        """Copy on the GPU."""
        self._copy(target, source, size, self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToDevice)

    def wait(self) -> None:
        """Wait for all work of this stream."""
        self._call("cudaStreamSynchronize", self._stream)

    def wait_for(self, other: int) -> None:
        """Wait for all work of another stream, given by its handle."""
        self._call("cudaStreamSynchronize", other)

    def capture(self, work: Callable[[], None]) -> Any:
        """Record what `work` enqueues, without running it; returns a graph for `launch` and `discard`."""
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal  # other threads may allocate
        self._call("cudaStreamBeginCapture", self._stream, mode)
        try:
            work()
        except BaseException:
            self._runtime.cudaStreamEndCapture(self._stream)  # the capture is broken; the first error counts
            raise
        graph = self._call("cudaStreamEndCapture", self._stream)
        try:
            return self._call("cudaGraphInstantiate", graph, 0)
        finally:
            self._call("cudaGraphDestroy", graph)

    def launch(self, graph: Any) -> None:
        """Run a captured graph."""
        self._call("cudaGraphLaunch", graph, self._stream)

    def discard(self, graph: Any) -> None:
        """Let go of a captured graph."""
        self._call("cudaGraphExecDestroy", graph)

    def _copy(self, target: int, source: int, size: int, kind: Any) -> None:
        self._call("cudaMemcpyAsync", target, source, size, kind, self._stream)

    def _call(self, name: str, *arguments: Any) -> Any:
        """Call the runtime; its functions return (error, value...)."""
        error, *values = getattr(self._runtime, name)(*arguments)
        if int(error) == OUT_OF_MEMORY:
            raise LLDiffusionError("the GPU's memory is full: close other programs, or use tiles (--tile 512)")
        if int(error):
            text = self._runtime.cudaGetErrorString(error)[1]
            text = text.decode() if isinstance(text, bytes) else text
            raise LLDiffusionError(f"CUDA failed in {name}: {text} (error {int(error)})")
        return values[0] if values else None


def to_bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The upper half of each float32, rounded to nearest even: bfloat16, which NumPy has no type for."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = bits + 0x7FFF + ((bits >> 16) & 1)
    return (rounded >> 16).astype(np.uint16)


def from_bfloat16(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """The float32 that each bfloat16 stands for."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
