"""What is measured, against independent counts: operations, ceilings, quality, memory, the bare engine, operators."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio
from torch.utils.flop_counter import FlopCounterMode

from lldiffusion.bench import operators
from lldiffusion.bench.ceilings import _jobs, measure_ceilings
from lldiffusion.bench.cost import Cost, Operator, count
from lldiffusion.bench.engine_clock import Stopwatch, time_onnx_runtime, time_torch
from lldiffusion.bench.group import Context, _with_quality
from lldiffusion.bench.pictures import parse_sizes
from lldiffusion.bench.quality import CLASSICAL, Quality, fidelity
from lldiffusion.bench.record import Ceilings, Measurement
from lldiffusion.bench.timed_engine import TimedEngine
from lldiffusion.bundle import Bundle
from lldiffusion.config import load_config
from lldiffusion.engines.backends.onnx_runtime import OnnxRuntimeEngine
from lldiffusion.engines.backends.torch_eager import TorchEngine
from lldiffusion.errors import LLDiffusionError
from support.bench_models import micro_source
from support.exported import micro_config, micro_model


def config_json(name: str) -> str:
    config = micro_config() if name == "micro" else load_config(name)
    return json.dumps(config.to_dict())


def test_operations_are_pytorchs_own_count() -> None:
    model, y = copy.deepcopy(micro_model()).to("meta"), torch.zeros(1, 3, 64, 96, device="meta")
    with FlopCounterMode(display=False) as once:
        features = model.encoder(y)
        assert model.level is not None
        level = model.level(torch.zeros(1, 3, 64, 96, device="meta"))
    with FlopCounterMode(display=False) as step:
        model.denoiser(y, y, y, torch.zeros(1, device="meta"), features, level, torch.zeros(1, 4, device="meta"))
    cost = count(config_json("micro"), 60, 90, 1)  # padded to 64x96
    assert cost.operations(3) == pytest.approx(once.get_total_flops() + 3 * step.get_total_flops())


def test_a_model_for_video_is_counted_at_its_own_grid() -> None:
    """Its colour map is a fourth of the picture: handed the whole picture instead, the denoiser failed."""
    pixels = 1280 * 704
    assert count(config_json("live"), 704, 1280, 1).operations(1) / pixels == pytest.approx(11.6e3, rel=0.1)


def test_a_convolution_reads_and_writes_what_it_must() -> None:
    widest = max(count(config_json("tiny"), 400, 600, 1).once, key=lambda operator: operator.numbers)
    first = 3 * 416 * 608 + 16 * 208 * 304 + 16 * 3 * 9 + 16  # image, feature, weights and bias of the first one
    wide = 2 * 16 * 208 * 304 + 16 * 16 * 49 + 16  # the 7x7 after it, its input padded by 3
    assert widest.numbers in (first, pytest.approx(wide, rel=0.05))


def test_attention_is_counted_without_its_matrix() -> None:
    paper = count(config_json("paper"), 400, 600, 1).step
    tokens, channels = 104 * 152, 128
    expected = Operator(4 * tokens**2 * channels, 4 * tokens * channels)
    assert expected in paper  # softmax(q k') v: two products, and q, k, v and the answer moved


def test_the_limit_takes_the_slower_of_computing_and_moving() -> None:
    ceilings = Ceilings("cpu", "fp32", operations=100.0, bandwidth=40.0, how="")
    cost = Cost(once=(Operator(100, 1),), step=(Operator(10, 20),))  # 1 s of computing; 80 bytes: 2 s of moving
    assert cost.limit(3, ceilings) == pytest.approx(1 + 3 * 2)
    assert cost.bytes(3, "fp32") == 4 * 61 and cost.bytes(3, "fp16") == 2 * 61


def test_ceilings_count_what_pytorch_counts() -> None:
    jobs = _jobs(torch, "cpu", torch.float32, "cpu", 16)
    for name in ("product", "convolution"):
        with FlopCounterMode(display=False) as counter:
            jobs[name][1]()
        assert counter.get_total_flops() == jobs[name][0]
    found = measure_ceilings("cpu", "fp32", 1, seconds=0.3, small=True)
    assert 1e7 < found.operations < 1e14 and 1e7 < found.bandwidth < 1e13


def test_pictures_are_compared_as_scikit_image_does() -> None:
    chance = np.random.default_rng(0)
    one = chance.random((40, 50, 3))
    other = (one + chance.normal(0, 0.01, one.shape) + 0.02).astype(np.float32)
    psnr, drift = fidelity(other, one)
    assert psnr == pytest.approx(peak_signal_noise_ratio(one, other.astype(np.float64), data_range=1))
    assert drift == pytest.approx(255 * 0.02, abs=0.1)
    assert fidelity(one, one) == (200.0, 0.0)
    assert fidelity(one * np.nan, one) == (0.0, 255.0)


def test_classical_methods_brighten() -> None:
    dark = np.random.default_rng(0).random((64, 64, 3), np.float32) * 0.1
    for method in CLASSICAL.values():
        bright = method(dark)
        assert bright.shape == dark.shape and bright.mean() > 2 * dark.mean()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process reset its peak")
def test_the_peak_is_what_was_held_and_is_reset() -> None:
    code = """
import numpy as np
from lldiffusion.bench import peak_memory as memory
memory.reset_peak()
before = memory.peak()
block = np.ones(64 << 20, np.uint8)
held = memory.peak()
del block
memory.reset_peak()
print(before, held, memory.peak())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, held, after = map(int, done.stdout.split())
    assert held - before >= 60 << 20
    assert after < held - (30 << 20)


@pytest.mark.parametrize("backend", ["onnxruntime", "torch"])
def test_stages_and_the_bare_engine_add_up_to_the_call(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    stopwatch, bundle = Stopwatch(), Bundle.open(micro_source())
    if backend == "torch":
        engine: TorchEngine | OnnxRuntimeEngine = TorchEngine(micro_model())
        for name in ("level", "encoder", "color_map", "denoiser"):  # the shared model gets its own forward back
            module = getattr(micro_model(), name)
            monkeypatch.setattr(module, "forward", module.forward)
        time_torch(engine, stopwatch)
    else:
        engine = OnnxRuntimeEngine(bundle.graphs("fp32"), "fp32")
        time_onnx_runtime(engine, stopwatch)
    timed_engine = TimedEngine(engine, bundle.config, np.full((96, 64, 3), 9, np.uint8), stopwatch=stopwatch)
    timed_engine.call(3)
    sample = timed_engine.call(3)
    stages = sample.stages
    parts = [stages.pre, stages.level, stages.encoder, stages.color_map, stages.post]
    assert stages.step is not None and sample.bare is not None
    known = sum(part for part in parts if part is not None) + 3 * stages.step
    assert known == pytest.approx(sample.seconds, rel=0.5)
    assert 0.3 * sample.seconds < sample.bare < sample.seconds
    assert sample.at(3) > sample.seconds


def test_operators_are_named_with_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    start = time.perf_counter()
    times = operators.profile(Bundle.open(micro_source()), 64, 64)
    assert times["Conv"] > 0 and sum(times.values()) < time.perf_counter() - start


def test_the_operator_that_grows_too_fast_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = iter([{"Conv": 1.0, "MatMul": 0.1, "Add": 0.001}, {"Conv": 4.0, "MatMul": 1.6, "Add": 0.016}])
    monkeypatch.setattr(operators, "profile", lambda bundle, *size: next(tables))
    text = operators.steep_operators(str(micro_source()), (64, 64), (128, 128))
    assert "MatMul (exponent 2.0, 28 % of a step)" in text
    assert "Conv" not in text and "Add" not in text


def test_sizes_by_name_and_number() -> None:
    assert parse_sizes("600x400, 720p,4K") == [(600, 400), (1280, 720), (3840, 2160)]
    for bad in ("600", "x", "0x0", "600x", "600x4000000", "tall", "", "-5x10"):
        with pytest.raises(LLDiffusionError, match="size"):
            parse_sizes(bad)


def test_results_folder_holds_only_readable_results(root: Path) -> None:
    from lldiffusion.bench.record import load_result

    for path in (root / "benchmarks" / "results").rglob("bench.json"):
        assert load_result(path).measurements


def test_a_row_has_the_quality_of_its_own_precision(tmp_path: Path) -> None:
    """What answers as float32 does has float32's; what does not has its own, or none."""
    quality = {("tiny", 1, "fp32"): Quality(20.0, 0.8, None), ("tiny", 1, "int8"): Quality(19.0, 0.7, None)}
    context = Context(tmp_path, "cpu", [0], {}, lambda text: None, quality)
    row = Measurement("tiny", "onnxruntime", "int8", 64, 64, 1, 1, (1.0,))
    for precision, near, wanted in (
        ("int8", 53.0, 19.0),
        ("int8", 61.0, 20.0),
        ("fp32", 90.0, 20.0),
        ("bf16", 50.0, None),
    ):
        found = _with_quality(context, replace(row, precision=precision), (near, 0.1))
        assert (found.psnr, found.psnr_reference) == (wanted, near)
