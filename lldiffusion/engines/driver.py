"""The NVIDIA driver, asked directly: is there one, which GPUs, how much of their memory is free.

Through ctypes, because this must be known before CUDA packages are imported (some crash without a driver), and
because it is all that is needed on a machine without them.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from functools import cache
from typing import Any

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
MAJOR, MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_{MAJOR,MINOR} in cuda.h


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU."""

    index: int  # as CUDA counts, CUDA_VISIBLE_DEVICES respected
    name: str
    capability: str  # e.g. "8.9"
    memory: int  # bytes in all


@dataclass(frozen=True)
class Driver:
    """What the driver says."""

    problem: str | None  # why no GPU can be used, or None
    cuda: str = ""  # newest CUDA version the driver runs, e.g. "13.0"
    gpus: tuple[Gpu, ...] = ()


@cache
def driver() -> Driver:
    """Ask once per process; never raises and prints nothing."""
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError:
        return Driver("no NVIDIA driver is installed")
    return ask(library)


def ask(cuda: Any) -> Driver:
    """The driver's answers through its C interface (`cuda`: the loaded library)."""
    code = cuda.cuInit(0)
    if code:
        return Driver(f"the NVIDIA driver finds no usable GPU (cuInit: error {code})")
    version = _number(cuda.cuDriverGetVersion)
    gpus = tuple(_gpu(cuda, index) for index in range(_number(cuda.cuDeviceGetCount)))
    return Driver(None if gpus else "no NVIDIA GPU is visible", f"{version // 1000}.{version % 1000 // 10}", gpus)


def free_memory(index: int) -> int:
    """Free bytes on a GPU, 0 when the driver does not say; uses (and does not change) the device's primary context."""
    try:
        cuda = ctypes.CDLL(LIBRARY)
    except OSError:
        return 0
    context, device = ctypes.c_void_p(), ctypes.c_int()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    if cuda.cuDeviceGet(ctypes.byref(device), index) or cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device):
        return 0
    cuda.cuCtxPushCurrent_v2(context)
    failed = cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
    cuda.cuCtxPopCurrent_v2(ctypes.byref(context))
    cuda.cuDevicePrimaryCtxRelease_v2(device)
    return 0 if failed else free.value


def device_index(device: str) -> int | None:
    """GPU number of "cuda" or "cuda:1"; None for every other device."""
    kind, _, number = device.partition(":")
    return int(number or 0) if kind == "cuda" and (number or "0").isdigit() else None


def _gpu(cuda: Any, index: int) -> Gpu:
    device = ctypes.c_int()
    cuda.cuDeviceGet(ctypes.byref(device), index)
    name, total = ctypes.create_string_buffer(256), ctypes.c_size_t()
    cuda.cuDeviceGetName(name, 256, device)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(total), device)
    capability = ".".join(str(_number(cuda.cuDeviceGetAttribute, kind, device)) for kind in (MAJOR, MINOR))
    return Gpu(index, name.value.decode(errors="replace"), capability, total.value)


def _number(function: Any, *arguments: Any) -> int:
    value = ctypes.c_int()
    function(ctypes.byref(value), *arguments)
    return value.value
