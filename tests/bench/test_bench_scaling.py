"""The curves, on a stand-in whose time is known."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lldiffusion.bench.benchmark import _Benchmark
from lldiffusion.bench.models import BenchModel
from lldiffusion.bench.peers import PEERS
from lldiffusion.bench.record import Scaling, Stages
from lldiffusion.bench.scaling import PIXELS, SMALL_PIXELS, Point, fit, measure_scaling, walk
from lldiffusion.bench.settings import Settings
from lldiffusion.bench.timed_engine import TimedCall
from lldiffusion.bench.worker_process import PeerError
from support.exported import micro_config


class Fake:
    """Takes pixels^1.3 x batch x steps, holds 100 MB and 700 bytes a pixel; fails above `largest` pixels."""

    peer = PEERS["onnxruntime"]

    def __init__(self, largest: int = 1 << 40) -> None:
        self.pixels, self.batch, self.largest = 0, 0, largest

    def set_picture(self, picture: Path, batch: int) -> None:
        self.pixels, self.batch = np.load(picture).shape[0] * np.load(picture).shape[1], batch

    def call(self, steps: int, patience: float = 1) -> TimedCall:
        if self.pixels > self.largest:
            raise PeerError("memory is full")
        seconds = 1e-9 * self.pixels**1.3 * self.batch * steps
        return TimedCall(seconds, Stages(step=seconds), memory=100_000_000 + 700 * self.pixels * self.batch)


def curves(fake: Any, folder: Path) -> dict[tuple[str, str], Scaling]:
    end = time.monotonic() + 60
    found = measure_scaling(fake, "tiny", folder, end, lambda text: None, SMALL_PIXELS)
    return {(curve.against, curve.of): curve for curve in found}


def test_exponents_of_time_and_memory(tmp_path: Path) -> None:
    found = curves(Fake(), tmp_path)
    assert found["pixels", "seconds"].exponent == pytest.approx(1.3)
    assert found["steps", "seconds"].exponent == pytest.approx(1)
    assert found["batch", "seconds"].exponent == pytest.approx(1)
    assert ("steps", "host_memory") not in found  # a step takes the memory of the one before
    smallest = found["pixels", "host_memory"].points[0]
    assert smallest == (64 * 64, 100_000_000 + 700 * 64 * 64)
    # what the program itself takes is not counted: memory above the smallest picture's grows with the pixels added
    assert found["pixels", "host_memory"].exponent == pytest.approx(1, abs=0.1)


def test_what_fails_ends_the_curve_and_is_said(tmp_path: Path) -> None:
    points = [Point(side**2, (side, side)) for side in (32, 64, 96)]
    seconds, memory, note = walk(Fake(64 * 64), points, tmp_path, time.monotonic() + 60, print)  # type: ignore[arg-type]
    assert [x for x, _ in seconds] == [x for x, _ in memory] == [32 * 32, 64 * 64]
    assert note == f"stopped at {96 * 96}: memory is full"


def test_the_operator_that_bends_the_curve_is_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []

    def steep_operators(bundle: str, small: Any, large: Any) -> str:
        asked.append((small, large))
        return "MatMul did it"

    monkeypatch.setattr("lldiffusion.bench.benchmark.steep_operators", steep_operators)
    run = _Benchmark(Settings(device="cpu"), tmp_path, lambda text, share: None)
    source = BenchModel("micro", micro_config(), "", "tiny", "a bundle")
    for exponent, note in ((1.02, ""), (1.6, "MatMul did it")):
        points = tuple((float(w * h), float(w * h) ** exponent) for w, h in PIXELS)
        curve = Scaling("micro", "onnxruntime", "pixels", "seconds", points, fit(points))
        assert run._explain(source, PEERS["onnxruntime"], curve).note == note
    assert len(asked) == 1 and asked[0][1] in PIXELS[:-1]  # a profile of 4K would take too long


def test_no_time_left_is_said(tmp_path: Path) -> None:
    points = [Point(side**2, (side, side)) for side in (32, 64)]
    seconds, _, note = walk(Fake(), points, tmp_path, time.monotonic() - 1, print)  # type: ignore[arg-type]
    assert len(seconds) == 1 and "no time left" in note
