"""On a GPU: the TensorRT runner and ONNX Runtime's CUDA against ONNX Runtime on the CPU, step by step.

    pytest -m gpu tests/test_tensorrt_gpu.py

Each flavour that is installed builds engines from the toy graphs, runs them, and is skipped when it is not there.
"""

from __future__ import annotations

import importlib
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lldiffusion.bundle import GRAPHS, Bundle, EngineKey
from lldiffusion.engines.backends.base import Conditions, Engine, Floats
from lldiffusion.engines.backends.onnx_runtime import OnnxRuntimeEngine
from lldiffusion.engines.backends.tensorrt import TensorRtEngine
from lldiffusion.engines.backends.tensorrt_flavours import FLAVOURS
from lldiffusion.engines.driver import driver
from lldiffusion.engines.sampler import make_noise, plan
from lldiffusion.errors import LLDiffusionError
from lldiffusion.schedule import make_schedule
from support.toy import toy_bundle, toy_config

pytestmark = pytest.mark.gpu
STEPS = plan(make_schedule(toy_config().diffusion), toy_config().sampling)
SMALLEST, USUAL, LARGEST = (64, 64), (128, 192), (256, 320)  # height and width of the profile
STRIDES = {"feature_0": 8, "feature_1": 4}


def serialized(trt: Any, path: Path) -> Any:
    """An engine built from an ONNX file, dynamic between SMALLEST and LARGEST."""
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    assert parser.parse_from_file(str(path)), [str(parser.get_error(i)) for i in range(parser.num_errors)]
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    if hasattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION"):  # TensorRT for RTX: or its kernels cannot be captured
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    for i in range(network.num_inputs):
        port = network.get_input(i)
        if len(port.shape) == 4:
            stride = STRIDES.get(port.name, 1)
            sizes = [(1, 3, h // stride, w // stride) for h, w in (SMALLEST, USUAL, LARGEST)]
            profile.set_shape(port.name, *sizes)
    config.add_optimization_profile(profile)
    return builder.build_serialized_network(network, config)


@pytest.fixture(scope="module", params=FLAVOURS)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, str]:
    flavour = str(request.param)
    if driver().problem:
        pytest.skip(str(driver().problem))
    trt = pytest.importorskip(FLAVOURS[flavour].module)
    opened = Bundle.open(toy_bundle(tmp_path_factory.mktemp(flavour) / "toy"))
    gpu = "any" if flavour == "tensorrt-rtx" else driver().gpus[0].capability
    for graph in GRAPHS:
        key = EngineKey(graph, opened.onnx_sha256("fp32", graph), gpu, flavour, trt.__version__, "fp32", ("toy",))
        opened.add_engine(key, bytes(serialized(trt, opened.graphs("fp32")[graph])))
    return opened, flavour


@pytest.fixture
def engine(bundle: tuple[Bundle, str]) -> TensorRtEngine:
    return TensorRtEngine(bundle[0], "fp32", bundle[1])


@pytest.fixture(scope="module")
def oracle(bundle: tuple[Bundle, str]) -> Engine:
    return OnnxRuntimeEngine(bundle[0].graphs("fp32"), "fp32")


def dark(shape: tuple[int, ...], seed: int = 0) -> Floats:
    return (np.random.default_rng(seed).gamma(1.0, 0.1, shape).clip(0, 2) - 1).astype(np.float32)


def compare_steps(ours: Engine, theirs: Engine, low: Floats) -> None:
    mine = Conditions(low, ours.color_map(low), ours.encode(low))
    other = Conditions(low, theirs.color_map(low), theirs.encode(low))
    for a, b in zip(mine.features, other.features, strict=True):
        assert np.abs(ours.numpy(a) - theirs.numpy(b)).max() < 1e-4
    x = y = make_noise(0, low.shape)
    x_previous = y_previous = np.zeros_like(x)
    for step in STEPS:
        x, x_previous = ours.step(x, mine, step, x_previous)
        y, y_previous = theirs.step(y, other, step, y_previous)
        assert np.abs(ours.numpy(x) - theirs.numpy(y)).max() < 1e-3
        assert np.abs(ours.numpy(x_previous) - theirs.numpy(y_previous)).max() < 1e-3


def test_every_step_agrees(engine: TensorRtEngine, oracle: Engine) -> None:
    for height, width in (SMALLEST, USUAL, LARGEST):
        compare_steps(engine, oracle, dark((1, 3, height, width)))


def test_replays_agree(engine: TensorRtEngine, oracle: Engine) -> None:
    for seed in range(4):
        low, noise = dark((1, 3, *USUAL), seed), make_noise(seed, (1, 3, *USUAL))
        assert np.abs(engine.sample(low, STEPS, noise) - oracle.sample(low, STEPS, noise)).max() < 1e-3
    assert engine.info()["cuda graph"] == "used"


def test_a_replay_is_faster_than_single_steps(engine: TensorRtEngine) -> None:
    low, noise = dark((1, 3, *USUAL)), make_noise(0, (1, 3, *USUAL))
    engine.sample(low, STEPS, noise)
    start = time.perf_counter()
    for _ in range(20):
        engine.sample(low, STEPS, noise)
    replayed = time.perf_counter() - start
    conditions = Conditions(low, engine.color_map(low), engine.encode(low))
    start = time.perf_counter()
    for _ in range(20):
        x, previous = noise, np.zeros_like(noise)
        for step in STEPS:
            x, previous = engine.step(x, conditions, step, previous)
        engine.numpy(x)
    print(f"replayed {replayed / 20 * 1e3:.2f} ms, step by step {(time.perf_counter() - start) / 20 * 1e3:.2f} ms")


def test_sizes_alternate(engine: TensorRtEngine, oracle: Engine) -> None:
    for height, width in (USUAL, LARGEST, USUAL, SMALLEST, LARGEST):
        low = dark((1, 3, height, width))
        assert np.abs(engine.sample(low, STEPS, low) - oracle.sample(low, STEPS, low)).max() < 1e-3


def test_threads(engine: TensorRtEngine, oracle: Engine) -> None:
    worst: list[float] = []

    def work(seed: int) -> None:
        low = dark((1, 3, 64, 64 + 32 * seed), seed)
        wanted = oracle.sample(low, STEPS, low)
        worst.append(max(float(np.abs(engine.sample(low, STEPS, low) - wanted).max()) for _ in range(10)))

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(worst) == 4
    assert max(worst) < 1e-3


def test_a_size_outside_the_profile(engine: TensorRtEngine) -> None:
    with pytest.raises(LLDiffusionError, match="--tile"):
        engine.encode(dark((1, 3, 512, 512)))


def test_pytorch_reads_and_hands_over_gpu_memory(engine: TensorRtEngine) -> None:
    torch = importlib.import_module("torch")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch is built without CUDA")
    low = dark((1, 3, *USUAL))
    color_map = engine.color_map(torch.from_numpy(low).cuda())
    seen = torch.as_tensor(color_map, device="cuda")
    assert seen.data_ptr() == color_map.pointer
    assert np.abs(seen.cpu().numpy() - engine.numpy(engine.color_map(low))).max() < 1e-6


def test_onnx_runtime_on_cuda_agrees(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    if driver().problem or "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("needs onnxruntime-gpu and a GPU")
    graphs = Bundle.open(toy_bundle(tmp_path / "toy")).graphs("fp32")
    compare_steps(OnnxRuntimeEngine(graphs, "fp32", "cuda"), OnnxRuntimeEngine(graphs, "fp32"), dark((2, 3, 96, 64)))
