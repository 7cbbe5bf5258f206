"""`lldiff bench compare`: catches a planted slow-down of 20 %, ignores noise; on synthetic and on really timed runs."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lldiffusion.bench.compare import FASTER, SAME, SLOWER, WORSE, compare
from lldiffusion.bench.record import BenchResult, Machine, Measurement
from lldiffusion.bench.timed_engine import TimedEngine
from lldiffusion.bundle import Bundle
from lldiffusion.cli import run
from lldiffusion.engines.backends.base import Conditions, Engine
from lldiffusion.engines.backends.onnx_runtime import OnnxRuntimeEngine
from lldiffusion.engines.sampler import Step
from lldiffusion.errors import LLDiffusionError
from support.bench_models import micro_source

MACHINE = Machine("Linux x86_64", "a CPU", 2, 8 << 30)
CHANCE = np.random.default_rng(0)


def row(seconds: list[float], **more: Any) -> Measurement:
    return replace(Measurement("tiny", "onnxruntime", "fp32", 600, 400, 1, 4, tuple(seconds)), **more)


def result(*rows: Measurement, **more: Any) -> BenchResult:
    return replace(BenchResult(MACHINE, {"torch": "2"}, "abc", "lldiff bench", "2026", measurements=rows), **more)


def draw(middle: float, spread: float = 0.03, count: int = 9) -> list[float]:
    return (middle * CHANCE.lognormal(0, spread, count)).tolist()


def verdict(old: list[float], new: list[float]) -> str:
    return compare(result(row(old)), result(row(new))).changes[0].verdict


def test_a_planted_slow_down_of_twenty_percent_is_always_caught() -> None:
    assert {verdict(draw(0.5), draw(0.6)) for _ in range(100)} == {SLOWER}
    assert {verdict(draw(0.6), draw(0.5)) for _ in range(100)} == {FASTER}


def test_noise_is_ignored() -> None:
    assert {verdict(draw(0.5), draw(0.5)) for _ in range(200)} == {SAME}


def test_a_restless_machine_raises_what_counts() -> None:
    quiet, restless = draw(0.5, 0.01), draw(0.6, 0.5)
    change = compare(result(row(quiet)), result(row(restless))).changes[0]
    assert change.needed > 0.2 and change.verdict == SAME


def test_two_samples_say_little() -> None:
    assert verdict([0.5, 0.5], [0.6, 0.6]) == SAME
    assert verdict([0.5, 0.5], [1.0, 1.0]) == SLOWER


def test_worse_pictures_are_a_regression_too() -> None:
    seconds = draw(0.5)
    comparison = compare(result(row(seconds, psnr=20.0)), result(row(seconds, psnr=19.0)))
    assert comparison.changes[0].verdict == WORSE and comparison.regressions


def test_what_makes_a_comparison_doubtful_is_said() -> None:
    other = replace(MACHINE, cpu="another CPU")
    new = result(row([0.5] * 5), row([0.5] * 5, backend="openvino"), machine=other, versions={"torch": "3"})
    notes = " ".join(compare(result(row([0.5] * 5)), replace(new, complete=False)).notes)
    for words in ("different machines", "torch 2 became 3", "stopped before its end", "1 measurements are only in the"):
        assert words in notes


def test_files_without_anything_in_common_are_refused() -> None:
    with pytest.raises(LLDiffusionError, match="share no measurement"):
        compare(result(row([1.0])), result(row([1.0], backend="openvino")))


class Slowed(Engine):
    """An engine whose steps take 25 % longer: it computes for that long."""

    def __init__(self, engine: OnnxRuntimeEngine) -> None:
        self._engine = engine

    def level(self, thumbnail: Any) -> Any:
        return self._engine.level(thumbnail)

    def encode(self, low: Any) -> tuple[Any, ...]:
        return self._engine.encode(low)

    def color_map(self, low: Any) -> Any:
        return self._engine.color_map(low)

    def numpy(self, values: Any) -> Any:
        return self._engine.numpy(values)

    def info(self) -> dict[str, str]:
        return self._engine.info()

    def free_memory(self) -> int:
        return self._engine.free_memory()

    def step(self, x: Any, conditions: Conditions, step: Step, previous: Any) -> Any:
        start = time.thread_time()
        answer = self._engine.step(x, conditions, step, previous)
        end = time.thread_time() + 0.25 * (time.thread_time() - start)
        while time.thread_time() < end:
            pass
        return answer


@pytest.mark.slow  # it times, and a busy machine may hide what it looks for
def test_a_really_timed_slow_down_is_caught_and_really_timed_noise_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Timed in processor time of this thread, so that what else the machine does is no matter."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("lldiffusion.bench.timed_engine.time.perf_counter", time.thread_time)
    bundle = Bundle.open(micro_source())
    engine, pixels = OnnxRuntimeEngine(bundle.graphs("fp32"), "fp32"), np.full((128, 128, 3), 9, np.uint8)
    engines = {
        name: TimedEngine(one, bundle.config, pixels)
        for name, one in (("old", engine), ("again", engine), ("slow", Slowed(engine)))
    }
    times: dict[str, list[float]] = {name: [] for name in engines}
    for number in range(12):  # interleaved; the first round warms up
        for name, timed_engine in engines.items():
            times[name] += [timed_engine.call(4).seconds] * (number > 0)
    for name, seconds in times.items():
        result(row(seconds)).save(tmp_path / name / "bench.json")
    assert run(["bench", "compare", str(tmp_path / "old"), str(tmp_path / "again")]) == 0
    assert run(["bench", "compare", str(tmp_path / "old"), str(tmp_path / "slow")]) == 1


def test_a_comparison_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, seconds in (("old", [0.1] * 5), ("new", [0.2] * 5)):
        result(row(seconds)).save(tmp_path / name / "bench.json")
    assert run(["bench", "compare", str(tmp_path / "old"), str(tmp_path / "new"), "--json"]) == 1
    table = json.loads(capsys.readouterr().out)
    assert table["regressions"] == 1
    change = table["changes"][0]
    assert (change["old"], change["new"], change["ratio"]) == pytest.approx((0.1, 0.2, 2))
    assert change["verdict"] == "slower"


@pytest.mark.parametrize("threshold", ["0", "-1", "10", "nan"])
def test_a_senseless_threshold_is_one_line(threshold: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result(row([1.0])).save(tmp_path / "bench.json")
    assert run(["bench", "compare", str(tmp_path), str(tmp_path), "--threshold", threshold]) == 2
    assert capsys.readouterr().err.count("\n") == 1
