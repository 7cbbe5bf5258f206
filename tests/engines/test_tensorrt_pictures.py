"""Pictures through the TensorRT runner, on stand-ins: sizes, batches, tiles, a level, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lldiffusion.engines import Enhancer
from lldiffusion.engines.backends import tensorrt as backend
from lldiffusion.engines.backends.feeds import step_inputs
from lldiffusion.engines.backends.tensorrt import TensorRtEngine
from lldiffusion.engines.driver import Driver
from lldiffusion.engines.sampler import exposed, make_noise, plan_steps
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
