"""The TensorRT runner on stand-ins for CUDA and TensorRT: buffers, capture, replay, threads, messages.

What only a GPU can show is in test_tensorrt_gpu.py.
"""

from __future__ import annotations

import gc
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lldiffusion.engines.backends.base import Conditions, Floats
from lldiffusion.engines.backends.tensorrt import TensorRtEngine
from lldiffusion.engines.backends.tensorrt_thread import SESSIONS
from lldiffusion.engines.pipeline import Pipeline
from lldiffusion.engines.sampler import make_noise
from lldiffusion.errors import LLDiffusionError
from support.built_engines import STEPS, built, dark, expected, fake_cuda, fake_tensorrt
from support.fake_gpu import FakeRuntime, FakeTensorRt
from support.toy import ToyEngine, toy_config


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeRuntime:
    return fake_cuda(monkeypatch)


@pytest.fixture(params=["tensorrt", "tensorrt-rtx"])
def flavour(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def trt(cuda: FakeRuntime, flavour: str, monkeypatch: pytest.MonkeyPatch) -> FakeTensorRt:
    return fake_tensorrt(cuda, flavour, monkeypatch)


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flavour: str, trt: FakeTensorRt) -> TensorRtEngine:
    return TensorRtEngine(built(tmp_path, monkeypatch, flavour), "fp32", flavour)


def test_every_step_agrees(engine: TensorRtEngine) -> None:
    toy, low = ToyEngine(), dark((2, 3, 64, 96))
    ours = Conditions(low, engine.color_map(low), engine.encode(low))
    theirs = Conditions(low, toy.color_map(low), toy.encode(low))
    x = oracle_x = make_noise(0, low.shape)
    previous = oracle_previous = np.zeros_like(x)
    for step in STEPS:
        x, previous = engine.step(x, ours, step, previous)
        oracle_x, oracle_previous = toy.step(oracle_x, theirs, step, oracle_previous)
        assert np.abs(engine.numpy(x) - oracle_x).max() < 1e-5
        assert np.abs(engine.numpy(previous) - oracle_previous).max() < 1e-5


def test_the_loop_is_captured_once_and_replayed(engine: TensorRtEngine, cuda: FakeRuntime) -> None:
    called = []
    for i in range(4):
        low, noise = dark((1, 3, 64, 96), seed=i), make_noise(i, (1, 3, 64, 96))
        result = engine.sample(low, STEPS, noise, lambda: called.append(1))
        assert np.abs(result - expected(low, noise)).max() < 1e-5
    assert len(called) == 4 * len(STEPS)
    assert cuda.captures == 1
    assert cuda.launches == 4  # the comparison, and three more images
    assert engine.info()["cuda graph"] == "used"


def test_a_replay_uploads_the_images_only(engine: TensorRtEngine, cuda: FakeRuntime) -> None:
    low, noise = dark((1, 3, 64, 64)), make_noise(0, (1, 3, 64, 64))
    engine.sample(low, STEPS, noise)
    before, blocks = cuda.uploads, len(cuda.blocks)
    engine.sample(low, STEPS, noise)
    assert cuda.uploads - before == 2
    assert len(cuda.blocks) == blocks


def test_the_least_recent_size_is_dropped(engine: TensorRtEngine, cuda: FakeRuntime) -> None:
    sizes = [64, 96, 128, 160, 192, 64]
    for size in sizes:
        low, noise = dark((1, 3, size, 64)), make_noise(0, (1, 3, size, 64))
        assert np.abs(engine.sample(low, STEPS, noise) - expected(low, noise)).max() < 1e-5
    assert cuda.captures >= 5
    assert cuda.live_graphs <= SESSIONS


def test_memory_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trt: FakeTensorRt, flavour: str) -> None:
    engine = TensorRtEngine(built(tmp_path, monkeypatch, flavour), "fp32", flavour)
    for size in (64, 96, 128, 160, 192, 224, 256):
        low = dark((1, 3, size, 64))
        engine.sample(low, STEPS, low)
    held = len(trt.cuda.blocks)
    for size in (64, 96, 128, 160, 192, 224, 256):
        low = dark((1, 3, size, 64))
        engine.sample(low, STEPS, low)
    assert len(trt.cuda.blocks) <= held + 2
    del engine
    gc.collect()
    assert trt.cuda.blocks == {}
    assert trt.cuda.live_graphs == 0


def test_growing_scratch_memory_drops_what_knew_the_old(engine: TensorRtEngine, cuda: FakeRuntime) -> None:
    """The small profile needs less scratch; after the large one, the small size is captured anew."""
    for size in (64, 256, 64, 256):
        low, noise = dark((1, 3, size, 64)), make_noise(0, (1, 3, size, 64))
        assert np.abs(engine.sample(low, STEPS, noise) - expected(low, noise)).max() < 1e-5
    assert cuda.captures == 3


def test_another_number_of_steps_is_another_graph(engine: TensorRtEngine, cuda: FakeRuntime) -> None:
    low = dark((1, 3, 64, 64))
    for steps in (STEPS, STEPS[:2], STEPS, STEPS[:2]):
        ours, oracle = engine.sample(low, steps, low), ToyEngine().sample(low, steps, low)
        assert np.abs(ours - oracle).max() < 1e-5
    assert cuda.captures == 2


def test_other_numbers_in_the_steps_are_the_same_graph(engine: TensorRtEngine, cuda: FakeRuntime) -> None:
    """Another exposure or solver with as many steps: its numbers are uploaded, nothing is captured again."""
    low = dark((1, 3, 64, 64))
    other = tuple(replace(step, k_x=0.3, b=0.7, c=-0.2) for step in STEPS)
    for steps in (STEPS, other, other, STEPS):
        ours, oracle = engine.sample(low, steps, low), ToyEngine().sample(low, steps, low)
        assert np.abs(ours - oracle).max() < 1e-5
    assert cuda.captures == 1
    conditions, before = Conditions(low, engine.color_map(low), engine.encode(low)), len(cuda.blocks)
    for stops in range(200):  # step by step, as tiles are: what was planned long ago is dropped
        engine.step(low, conditions, replace(STEPS[0], a=0.01 * stops), low)
    assert len(cuda.blocks) < before + 600


def test_tiles_run_step_by_step(engine: TensorRtEngine) -> None:
    low, noise = dark((1, 3, 160, 224)), make_noise(2, (1, 3, 160, 224))
    ours = Pipeline(engine, toy_config(), tile=128).sample(low, STEPS, noise)
    assert np.abs(ours - Pipeline(ToyEngine(), toy_config(), tile=128).sample(low, STEPS, noise)).max() < 1e-5


@pytest.mark.parametrize(("half", "tolerance"), [("HALF", 2e-3), ("BF16", 2e-2)])
def test_features_of_half_precision(
    half: str, tolerance: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trt: FakeTensorRt, flavour: str
) -> None:
    engine = TensorRtEngine(built(tmp_path, monkeypatch, flavour, half), "fp32", flavour)
    low, noise = dark((1, 3, 160, 224)), make_noise(2, (1, 3, 160, 224))
    assert np.abs(engine.sample(low, STEPS, noise) - expected(low, noise)).max() < tolerance
    ours = Pipeline(engine, toy_config(), tile=128).sample(low, STEPS, noise)
    assert np.abs(ours - Pipeline(ToyEngine(), toy_config(), tile=128).sample(low, STEPS, noise)).max() < tolerance


def test_a_replay_that_differs_is_not_used(engine: TensorRtEngine, cuda: FakeRuntime) -> None:
    cuda.drift = 0.5
    low, noise = dark((1, 3, 64, 64)), make_noise(0, (1, 3, 64, 64))
    assert np.abs(engine.sample(low, STEPS, noise) - expected(low, noise)).max() < 1e-5
    assert engine.info()["cuda graph"] == "off: a replay differed by 0.5"
    assert cuda.live_graphs == 0
    cuda.drift = 0.0
    assert np.abs(engine.sample(low, STEPS, noise) - expected(low, noise)).max() < 1e-5
    assert cuda.captures == 1


def test_kernels_that_cannot_be_captured(engine: TensorRtEngine, trt: FakeTensorRt, flavour: str) -> None:
    trt.capturable = False
    low, noise = dark((1, 3, 64, 64)), make_noise(0, (1, 3, 64, 64))
    for _ in range(2):
        assert np.abs(engine.sample(low, STEPS, noise) - expected(low, noise)).max() < 1e-5
    assert trt.cuda.captures == (0 if flavour == "tensorrt-rtx" else 1)


def test_each_thread_has_its_own_stream_and_contexts(engine: TensorRtEngine, trt: FakeTensorRt) -> None:
    images = [dark((1, 3, 64, 64 + 32 * i), seed=i) for i in range(3)]
    errors: list[float] = []

    def work(low: Floats) -> None:
        worst = max(np.abs(engine.sample(low, STEPS, low) - expected(low, low)).max() for _ in range(3))
        errors.append(float(worst))

    streams = trt.cuda.streams
    for image in images:  # one after the other: the stand-ins are not thread-safe
        worker = threading.Thread(target=work, args=(image,))
        worker.start()
        worker.join()
    assert max(errors) < 1e-5
    assert len(errors) == 3
    assert trt.cuda.streams - streams == 3
    assert trt.contexts == 9
    gc.collect()
    assert trt.cuda.live_graphs == 0  # what ended threads held is gone


def test_memory_on_the_gpu_goes_in_and_out_without_the_host(engine: TensorRtEngine, cuda: FakeRuntime) -> None:
    low = dark((1, 3, 64, 64))
    inside = engine.color_map(low)
    about = inside.__cuda_array_interface__
    assert about["shape"] == low.shape
    assert about["typestr"] == "<f4"
    assert about["data"][0] in cuda.blocks

    class Foreign:
        """An array described like those of PyTorch and CuPy."""

        __cuda_array_interface__ = about | {"stream": None, "strides": None}
        shape = about["shape"]

    before = cuda.uploads
    again = engine.color_map(Foreign())
    assert cuda.uploads == before
    assert np.abs(engine.numpy(again) - ToyEngine().color_map(engine.numpy(inside))).max() < 1e-5


def test_dlpack_goes_in_and_out_without_the_host(engine: TensorRtEngine, cuda: FakeRuntime) -> None:
    inside = engine.color_map(dark((1, 3, 64, 64)))

    class Foreign:
        shape = inside.shape
        device = inside.__dlpack_device__()

        def __dlpack__(self, stream: int) -> Any:
            return inside.__dlpack__(stream=stream)

        def __dlpack_device__(self) -> tuple[int, int]:
            return self.device

    before = cuda.uploads
    again = engine.color_map(Foreign())
    assert cuda.uploads == before
    assert np.abs(engine.numpy(again) - ToyEngine().color_map(engine.numpy(inside))).max() < 1e-5
    elsewhere = Foreign()
    elsewhere.device = (1, 0)
    with pytest.raises(LLDiffusionError, match="cuda:0 is needed"):
        engine.color_map(elsewhere)


@pytest.mark.parametrize("about", [{"strides": (4, 4, 4, 4)}, {"typestr": "<f8"}])
def test_gpu_arrays_of_another_layout_are_refused(engine: TensorRtEngine, about: dict[str, Any]) -> None:
    good = engine.color_map(dark((1, 3, 64, 64))).__cuda_array_interface__

    class Foreign:
        __cuda_array_interface__ = good | about
        shape = good["shape"]

    with pytest.raises(LLDiffusionError, match="contiguous float32"):
        engine.color_map(Foreign())
