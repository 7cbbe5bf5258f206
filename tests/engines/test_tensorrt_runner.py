"""The TensorRT runner on stand-ins for CUDA and TensorRT: buffers, capture, replay, threads, messages.

What only a GPU can show is in test_tensorrt_gpu.py.
"""

from __future__ import annotations

import gc
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lldiffusion.bundle import Bundle, EngineKey, graphs_of
from lldiffusion.engines import Enhancer
from lldiffusion.engines.backends import tensorrt as backend
from lldiffusion.engines.backends.base import Conditions, Floats
from lldiffusion.engines.backends.feeds import step_inputs
from lldiffusion.engines.backends.tensorrt import TensorRtEngine
from lldiffusion.engines.backends.tensorrt_flavours import FLAVOURS
from lldiffusion.engines.backends.tensorrt_thread import SESSIONS
from lldiffusion.engines.driver import Driver, Gpu
from lldiffusion.engines.pipeline import Pipeline
from lldiffusion.engines.sampler import exposed, make_noise, plan, plan_steps
from lldiffusion.errors import LLDiffusionError
from lldiffusion.schedule import make_schedule
from support.fake_gpu import FakeRuntime, FakeTensorRt, blob
from support.toy import ToyEngine, toy_bundle, toy_config

STEPS = plan(make_schedule(toy_config().diffusion), toy_config().sampling)
GPU = Driver(None, "13.1", (Gpu(0, "GeForce", "8.9", 8 << 30),))


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeRuntime:
    runtime = FakeRuntime()
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", runtime)
    monkeypatch.setattr(backend, "driver", lambda: GPU)
    return runtime


@pytest.fixture(params=["tensorrt", "tensorrt-rtx"])
def flavour(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def trt(cuda: FakeRuntime, flavour: str, monkeypatch: pytest.MonkeyPatch) -> FakeTensorRt:
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


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flavour: str, trt: FakeTensorRt) -> TensorRtEngine:
    return TensorRtEngine(built(tmp_path, monkeypatch, flavour), "fp32", flavour)


def dark(shape: tuple[int, ...], seed: int = 0) -> Floats:
    return (np.random.default_rng(seed).gamma(1.0, 0.1, shape).clip(0, 2) - 1).astype(np.float32)


def expected(low: Floats, noise: Floats) -> Floats:
    return ToyEngine().sample(low, STEPS, noise)


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


def test_a_size_outside_the_profiles(engine: TensorRtEngine) -> None:
    with pytest.raises(LLDiffusionError, match=r"1x64x64 to 2x256x256.*not 1x320x64.*--tile"):
        engine.sample(dark((1, 3, 64, 320)), STEPS, dark((1, 3, 64, 320)))


def test_a_full_gpu_says_so(engine: TensorRtEngine, cuda: FakeRuntime) -> None:
    cuda.largest = 1000
    with pytest.raises(LLDiffusionError, match="memory is full"):
        engine.sample(dark((1, 3, 64, 64)), STEPS, dark((1, 3, 64, 64)))


def test_an_engine_that_does_not_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trt: FakeTensorRt, flavour: str
) -> None:
    bundle = built(tmp_path, monkeypatch, flavour, data=b"broken")
    with pytest.raises(LLDiffusionError, match=r"Serialization assertion failed.*lldiff build"):
        TensorRtEngine(bundle, "fp32", flavour)


def test_no_driver_is_said_before_tensorrt_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "driver", lambda: Driver("no NVIDIA driver is installed"))
    monkeypatch.setattr(backend, "require", lambda *names: pytest.fail("a package was imported"))
    bundle = built(tmp_path, monkeypatch, "tensorrt")
    with pytest.raises(LLDiffusionError, match="no NVIDIA driver is installed"):
        TensorRtEngine(bundle, "fp32", "tensorrt")


def test_an_enhancer_on_the_runner(engine: TensorRtEngine) -> None:
    pixels = np.random.default_rng(0).integers(0, 40, (50, 70, 3)).astype(np.uint8)
    ours, oracle = Enhancer(engine, toy_config()), Enhancer(ToyEngine(), toy_config())
    assert (
        np.abs(
            ours(
                pixels,
            ).astype(int)
            - oracle(pixels)
        ).max()
        <= 1
    )


def test_an_image_larger_than_the_profiles_is_tiled(engine: TensorRtEngine) -> None:
    pixels = np.random.default_rng(0).integers(0, 40, (300, 280, 3)).astype(np.uint8)
    ours, oracle = Enhancer(engine, toy_config()), Enhancer(ToyEngine(), toy_config(), tile=256)
    assert np.abs(ours(pixels).astype(int) - oracle(pixels)).max() <= 1


def test_a_batch_larger_than_the_profiles_is_split(engine: TensorRtEngine, cuda: FakeRuntime) -> None:
    low, noise = dark((3, 3, 64, 96)), make_noise(0, (3, 3, 64, 96))
    called: list[int] = []
    result = engine.sample(low, STEPS, noise, lambda: called.append(1))
    assert np.abs(result - expected(low, noise)).max() < 1e-5
    assert len(called) == len(STEPS)
    assert cuda.captures == 1


def test_a_level_goes_through_the_captured_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trt: FakeTensorRt, flavour: str
) -> None:
    """Another level, window or exposure needs no new capture, and a level made here goes in without the host."""
    engine = TensorRtEngine(built(tmp_path, monkeypatch, flavour, level="grid"), "fp32", flavour)
    steps, toy = plan_steps(toy_config("grid")), ToyEngine()
    low, noise = dark((1, 3, 64, 96)), make_noise(0, (1, 3, 64, 96))
    for i in range(3):
        thumbnail, window = dark((1, 3, 64, 96), seed=i), np.array([[0, 0, 1, 1 + i]], np.float32)
        lit, before = exposed(steps, 0.5 * i), trt.cuda.uploads
        level = engine.level(thumbnail)
        assert np.abs(engine.numpy(level) - toy.level(thumbnail)).max() < 1e-6
        result = engine.sample(low, lit, noise, level=level, window=window)
        wanted = toy.sample(low, lit, noise, level=toy.level(thumbnail), window=window)
        assert np.abs(result - wanted).max() < 1e-5
    assert trt.cuda.uploads - before == 1 + 3 + len(step_inputs(steps[0])) * len(steps)  # thumbnail; planes and window
    assert trt.cuda.captures == 1
    batch, noises = dark((3, 3, 64, 96)), make_noise(0, (3, 3, 64, 96))
    many, windows = engine.level(dark((2, 3, 64, 96)).repeat(2, axis=0)[:3]), window.repeat(3, axis=0)
    result = engine.sample(batch, lit, noises, level=many, window=windows)
    assert np.abs(result - toy.sample(batch, lit, noises, level=engine.numpy(many), window=windows)).max() < 1e-5


def test_a_picture_is_lit_by_the_whole_whatever_the_tiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trt: FakeTensorRt, flavour: str
) -> None:
    engine = TensorRtEngine(built(tmp_path, monkeypatch, flavour, level="grid"), "fp32", flavour)
    pixels = np.random.default_rng(0).integers(0, 40, (300, 280, 3)).astype(np.uint8)
    ours, oracle = (Enhancer(each, toy_config("grid"), tile=256, exposure=0.5) for each in (engine, ToyEngine()))
    assert np.abs(ours(pixels).astype(int) - oracle(pixels)).max() <= 1
