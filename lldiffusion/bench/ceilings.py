"""What the machine can do at most: a large matrix product, a large convolution and a large copy, with PyTorch."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from .record import Ceilings

SIDE = {"cpu": 1536, "cuda": 8192}  # of the square matrices
IMAGE = {"cpu": (1, 128, 192, 192), "cuda": (16, 256, 256, 256)}  # of the convolution, 3x3, as many channels out
COPY = {"cpu": 256 << 20, "cuda": 4 << 30}  # bytes: far beyond every cache
TYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


def measure_ceilings(device: str, precision: str, threads: int, seconds: float = 4.0, small: bool = False) -> Ceilings:
    """The best rate of each over about `seconds` in all: a limit is what was reached once, so no median here.

    Args:
        small: toy sizes, for a rehearsal.
    """
    import torch

    kind, dtype = device.partition(":")[0], getattr(torch, TYPES[precision])
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    settle = torch.cuda.synchronize if kind == "cuda" else _nothing
    try:
        with torch.inference_mode():
            jobs = _jobs(torch, device, dtype, kind, 16 if small else 1)
            rates = {name: work / best(call, settle, seconds / len(jobs), kind) for name, (work, call) in jobs.items()}
    finally:
        torch.set_num_threads(before)
    product, convolution = rates["product"], rates["convolution"]
    return Ceilings(device, precision, max(product, convolution), rates["copy"], _text(kind, product, convolution))


def _jobs(torch: Any, device: str, dtype: Any, kind: str, divisor: int) -> dict[str, tuple[float, Callable[[], Any]]]:
    """name -> (operations, or bytes, of one call; the call)."""
    side, size = SIDE[kind] // divisor, COPY[kind] // divisor
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    n, c, h, w = IMAGE[kind]
    image = torch.randn(n, c, h // divisor, w // divisor, device=device, dtype=dtype)
    layer = torch.nn.Conv2d(c, c, 3, padding=1, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    image = image.to(memory_format=torch.channels_last)
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return {
        "product": (2 * side**3, lambda: a @ b),
        "convolution": (2 * 9 * c * c * n * image.shape[2] * image.shape[3], lambda: layer(image)),
        "copy": (2 * size, lambda: target.copy_(source)),
    }


def best(call: Callable[[], Any], settle: Callable[[], None], seconds: float, kind: str) -> float:
    """The shortest time of one call; on a GPU of ten in a row, so that launching them does not count."""
    repeats = 10 if kind == "cuda" else 1
    call()
    settle()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        settle()
        times.append((time.perf_counter() - start) / repeats)
    return min(times)


def _text(kind: str, product: float, convolution: float) -> str:
    n, c, h, w = IMAGE[kind]
    return (
        f"matrix product {SIDE[kind]}x{SIDE[kind]}: {product / 1e9:.0f} GFLOP/s; "
        f"3x3 convolution, {n}x{c}x{h}x{w}: {convolution / 1e9:.0f} GFLOP/s; copy of {COPY[kind] >> 20} MiB"
    )


def _nothing() -> None:
    return None
