"""The toy bundle with engines for the stand-in of TensorRT, and what they must answer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lldiffusion.bundle import Bundle, EngineKey, graphs_of
from lldiffusion.engines.backends import tensorrt as backend
from lldiffusion.engines.backends.base import Floats
from lldiffusion.engines.backends.tensorrt_flavours import FLAVOURS
from lldiffusion.engines.driver import Driver, Gpu
from lldiffusion.engines.sampler import plan
from lldiffusion.schedule import make_schedule
from support.fake_gpu import FakeRuntime, FakeTensorRt, blob
from support.toy import ToyEngine, toy_bundle, toy_config

STEPS = plan(make_schedule(toy_config().diffusion), toy_config().sampling)
GPU = Driver(None, "13.1", (Gpu(0, "GeForce", "8.9", 8 << 30),))


def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> FakeRuntime:
    """A CUDA runtime and a GPU, where there is neither."""
    runtime = FakeRuntime()
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", runtime)
    monkeypatch.setattr(backend, "driver", lambda: GPU)
    return runtime


def fake_tensorrt(cuda: FakeRuntime, flavour: str, monkeypatch: pytest.MonkeyPatch) -> FakeTensorRt:
    """A TensorRT of a flavour on that runtime."""
    module = FakeTensorRt(cuda)
    monkeypatch.setitem(sys.modules, FLAVOURS[flavour].module, module)
    return module


def built(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flavour: str,
    half: str = "FLOAT",
    level: str = "none",
    **changes: Any,
) -> Bundle:
    """The toy bundle with engines that were built here."""
    monkeypatch.setenv("LLDIFF_CACHE", str(tmp_path / "cache"))
    bundle = Bundle.open(toy_bundle(tmp_path / "toy", level=level))
    for graph in graphs_of(bundle.config):
        sha256 = bundle.onnx_sha256("fp32", graph)
        key: dict[str, Any] = {"gpu": "any" if flavour == "tensorrt-rtx" else "8.9", "version": "11.4.0"}
        key |= {"onnx_sha256": sha256, "precision": "fp32", "profiles": ("64x64:128x128:256x256",)} | changes
        data = key.pop("data", blob(graph, half, lit=level != "none"))
        bundle.add_engine(EngineKey(graph=graph, flavour=flavour, **key), data)
    return bundle


def dark(shape: tuple[int, ...], seed: int = 0) -> Floats:
    return (np.random.default_rng(seed).gamma(1.0, 0.1, shape).clip(0, 2) - 1).astype(np.float32)


def expected(low: Floats, noise: Floats) -> Floats:
    return ToyEngine().sample(low, STEPS, noise)
