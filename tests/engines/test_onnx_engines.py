"""ONNX Runtime and OpenVINO against NumPy, step by step, through the protocol that every engine answers."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lldiffusion.bundle import Bundle
from lldiffusion.engines.backends.base import Conditions, Engine, Floats
from lldiffusion.engines.backends.onnx_runtime import OnnxRuntimeEngine
from lldiffusion.engines.backends.openvino_cpu import OpenVinoEngine
from lldiffusion.engines.pipeline import Pipeline
from lldiffusion.engines.sampler import make_noise, plan
from lldiffusion.errors import LLDiffusionError
from lldiffusion.schedule import make_schedule
from support.toy import ToyEngine, toy_bundle, toy_config

Opener = Callable[[Bundle], Engine]
OPENERS: dict[str, Opener] = {
    "onnxruntime": lambda b: OnnxRuntimeEngine(b.graphs(b.precisions[0]), b.precisions[0]),
    "openvino": lambda b: OpenVinoEngine(b.graphs(b.precisions[0]), b.precisions[0]),
}
STEPS = plan(make_schedule(toy_config().diffusion), toy_config().sampling)


@pytest.fixture(scope="module", params=["fp32", "fp16"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.open(toy_bundle(tmp_path_factory.mktemp("toy") / request.param, request.param))


@pytest.fixture(params=OPENERS)
def engine(request: pytest.FixtureRequest, bundle: Bundle) -> Engine:
    return OPENERS[request.param](bundle)


def dark(shape: tuple[int, ...], seed: int = 0) -> Floats:
    return (np.random.default_rng(seed).gamma(1.0, 0.1, shape).clip(0, 2) - 1).astype(np.float32)


def close(ours: Floats, oracle: Floats, bundle: Bundle) -> None:
    assert ours.dtype == np.float32
    assert ours.flags.c_contiguous
    tolerance = 2e-3 if bundle.precisions == ("fp16",) else 2e-6  # two float16 features, values up to 1
    assert np.abs(ours - oracle).max() < tolerance


def test_every_step_agrees(engine: Engine, bundle: Bundle) -> None:
    toy, low = ToyEngine(), dark((2, 3, 64, 96))
    features = engine.encode(low)
    for ours, oracle in zip(features, toy.encode(low), strict=True):
        close(engine.numpy(ours), oracle, bundle)
    color_map = engine.color_map(low)
    close(engine.numpy(color_map), toy.color_map(low), bundle)
    x = oracle_x = make_noise(0, low.shape)
    previous = oracle_previous = np.zeros_like(x)
    conditions = Conditions(low, color_map, features)
    oracle_conditions = Conditions(low, toy.color_map(low), toy.encode(low))
    for step in STEPS:
        x, previous = engine.step(x, conditions, step, previous)
        oracle_x, oracle_previous = toy.step(oracle_x, oracle_conditions, step, oracle_previous)
        close(engine.numpy(x), oracle_x, bundle)
        close(engine.numpy(previous), oracle_previous, bundle)


def test_results_stay_what_they_were(engine: Engine) -> None:
    """Later runs, of another size too, do not write into what an earlier one returned."""
    low = dark((1, 3, 64, 64))
    first = engine.color_map(low)
    kept = engine.numpy(first).copy()
    for size in (64, 96, 64):
        engine.color_map(dark((1, 3, size, 64), seed=1))
    assert np.array_equal(engine.numpy(first), kept)


def test_sizes_change_from_image_to_image(engine: Engine, bundle: Bundle) -> None:
    for shape in ((1, 3, 64, 64), (3, 3, 96, 160), (1, 3, 64, 64)):
        low, noise = dark(shape), make_noise(1, shape)
        close(engine.sample(low, STEPS, noise), ToyEngine().sample(low, STEPS, noise), bundle)


def test_host_arrays_are_accepted_everywhere(engine: Engine, bundle: Bundle) -> None:
    """Tiles do this: features come back to the host and go in again as float32."""
    low, noise = dark((1, 3, 160, 224)), make_noise(2, (1, 3, 160, 224))
    ours = Pipeline(engine, toy_config(), tile=128).sample(low, STEPS, noise)
    close(ours, Pipeline(ToyEngine(), toy_config(), tile=128).sample(low, STEPS, noise), bundle)


def test_several_threads_share_an_engine(engine: Engine, bundle: Bundle) -> None:
    images = [dark((1, 3, 64, 64 + 32 * i), seed=i) for i in range(4)]
    results: list[Floats | None] = [None] * 4

    def work(i: int) -> None:
        for _ in range(5):
            results[i] = engine.sample(images[i], STEPS, make_noise(0, images[i].shape))

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for image, result in zip(images, results, strict=True):
        assert result is not None
        close(result, ToyEngine().sample(image, STEPS, make_noise(0, image.shape)), bundle)


def test_info_says_what_runs(engine: Engine, bundle: Bundle) -> None:
    about = engine.info()
    assert about["backend"] in OPENERS
    assert about["device"] == "cpu"
    assert about["precision"] == bundle.precisions[0]
    assert about["version"][0].isdigit()
    assert engine.free_memory() > 0


@pytest.mark.parametrize("kind", [OnnxRuntimeEngine, OpenVinoEngine])
def test_a_graph_that_cannot_be_loaded_is_named(kind: type, tmp_path: Path) -> None:
    path = tmp_path / "encoder.onnx"
    path.write_bytes(b"\x0a\x01x")
    with pytest.raises(LLDiffusionError, match=r"cannot load .*encoder\.onnx") as caught:
        kind({"encoder": path}, "fp32")
    assert "\n" not in str(caught.value)


def test_a_size_the_graph_refuses_is_one_line(engine: Engine) -> None:
    with pytest.raises(LLDiffusionError, match="encoder") as caught:
        engine.encode(np.zeros((1, 4, 64, 64), np.float32))
    assert "\n" not in str(caught.value)


def test_cuda_that_becomes_the_cpu_is_an_error(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime without a usable GPU returns a session that runs on the CPU."""
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime may really have CUDA")
    graphs, precision = bundle.graphs(bundle.precisions[0]), bundle.precisions[0]
    with pytest.raises(LLDiffusionError, match=r"without CUDA.*onnxruntime-gpu"):
        OnnxRuntimeEngine(graphs, precision, "cuda")
    listed = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)
    with pytest.raises(LLDiffusionError, match=r"CPU instead.*--device cpu"), pytest.warns(UserWarning, match="CUDA"):
        OnnxRuntimeEngine(graphs, precision, "cuda")


def test_threads_follow_omp_num_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    from lldiffusion.engines.backends import feeds
    from lldiffusion.engines.backends.feeds import threads

    monkeypatch.setattr(feeds, "processors_are_limited", lambda: False)
    for text, count in (("3", 3), ("", 0), ("many", 0)):
        monkeypatch.setenv("OMP_NUM_THREADS", text)
        assert threads() == count


def test_onnx_runtime_writes_and_looks_up_nothing(bundle: Bundle, tmp_path: Path) -> None:
    """Version 1.32 and later keep a device id under the home folder and look a host up, unless told not to."""
    code = f"""
import os, sys
from pathlib import Path
assert "ORT_DISABLE_TELEMETRY" not in os.environ
from lldiffusion.engines.backends.onnx_runtime import OnnxRuntimeEngine
assert "onnxruntime" not in sys.modules
OnnxRuntimeEngine({{"encoder": Path({str(bundle.graphs(bundle.precisions[0])["encoder"])!r})}}, "fp32")
print(os.environ["ORT_DISABLE_TELEMETRY"])
"""
    folder = tmp_path / "home"
    folder.mkdir()
    home = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "USERPROFILE"), str(folder))
    kept = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=kept | home)
    assert (done.stdout.strip(), done.returncode) == ("1", 0), done.stderr
    assert list(folder.iterdir()) == []
