"""Arrays on a GPU: PyTorch, CuPy or PyCUDA in and out, and no copy through the host.

    python examples/gpu_arrays.py torch tiny-bundle/      # or cupy, pycuda; a bundle with engines for this GPU

`Enhancer.enhance_planes` takes (N, 3, H, W) float32 RGB in [-1, 1], contiguous, sides that are multiples of 32, and
returns the engine's own array of that shape, which all three read where it lies.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from lldiffusion import Enhancer, LLDiffusionError


def with_torch(enhancer: Enhancer, low: np.ndarray) -> np.ndarray:
    """PyTorch: tensors of any CUDA stream go in; `as_tensor` or `from_dlpack` reads what comes out."""
    import torch

    tensor = torch.from_numpy(low).cuda()
    bright = torch.as_tensor(enhancer.enhance_planes(tensor), device="cuda")
    return bright.cpu().numpy()


def with_cupy(enhancer: Enhancer, low: np.ndarray) -> np.ndarray:
    """CuPy."""
    import cupy

    bright = cupy.asarray(enhancer.enhance_planes(cupy.asarray(low)))
    return cupy.asnumpy(bright)


def with_pycuda(enhancer: Enhancer, low: np.ndarray) -> np.ndarray:
    """PyCUDA, in the GPU's primary context, which the runtime uses, too."""
    import pycuda.autoprimaryctx  # noqa: F401  (makes that context current)
    from pycuda import gpuarray

    result = enhancer.enhance_planes(gpuarray.to_gpu(low))
    about: dict[str, Any] = result.__cuda_array_interface__
    bright = gpuarray.GPUArray(about["shape"], np.float32, base=result, gpudata=about["data"][0])
    return bright.get()


WAYS: dict[str, Callable[[Enhancer, np.ndarray], np.ndarray]] = {
    "torch": with_torch,
    "cupy": with_cupy,
    "pycuda": with_pycuda,
}


def main(library: str, model: str) -> np.ndarray:
    """Enhances a made-up dark picture; returns (1, 3, 256, 256) in [-1, 1]."""
    scene = np.random.default_rng(0).random((1, 3, 256, 256), dtype=np.float32)
    with Enhancer.open(model, device="cuda") as enhancer:
        return WAYS[library](enhancer, 0.1 * scene - 1)


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in WAYS:
        sys.exit("usage: python examples/gpu_arrays.py torch|cupy|pycuda BUNDLE")
    try:
        print(f"mean brightness {(main(*sys.argv[1:]).mean() + 1) / 2:.3f}")
    except (LLDiffusionError, ImportError) as error:
        sys.exit(f"error: {error}")
