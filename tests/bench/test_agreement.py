"""The CPU's backends give the same pictures, every time, and what checks that calls wrong what is wrong.

`tests/gpu/test_backends_agree.py` asks the same of a GPU's.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lldiffusion.bench.models import BenchModel, find_bench_model
from support.agreement import Oracle, examine, make_oracle, open_backend
from support.bench_models import micro_source


@cache
def source() -> BenchModel:
    return find_bench_model(str(micro_source()))


@pytest.mark.parametrize("name", ["eager", "onnxruntime", "openvino"])
def test_a_backend_of_the_cpu_agrees_with_eager(name: str, tmp_path: Path) -> None:
    oracle = make_oracle(str(micro_source()), ((96, 64), (64, 96)), tmp_path)
    found = examine(open_backend(source(), name, "fp32", "cpu"), oracle, repeats=3)
    assert found.right("fp32"), found
    assert min(found.psnr) > 90


class Once:
    """Gives the picture back, and something else at one call: the first two are one of each picture, then one again
    and again, then both in turn."""

    def __init__(self, wrong_at: int = 0) -> None:
        self.wrong_at, self.calls = wrong_at, 0

    def __call__(self, picture: Any) -> Any:
        self.calls += 1
        return picture + 0.01 * (self.calls == self.wrong_at)

    def info(self) -> dict[str, str]:
        return {}


@pytest.mark.parametrize(("wrong_at", "right"), [(0, True), (5, False), (7, False), (10, False)])
def test_a_replay_that_answers_otherwise_once_is_called_wrong(wrong_at: int, right: bool) -> None:
    pictures = [np.full((8, 8, 3), value) for value in (0.2, 0.4)]
    found = examine(Once(wrong_at), Oracle(source(), pictures, pictures), repeats=5)  # type: ignore[arg-type]
    assert found.right("bf16") == right


def test_wrong_pictures_are_called_wrong() -> None:
    pictures = [np.full((8, 8, 3), 0.2)]
    found = examine(Once(), Oracle(source(), pictures, [pictures[0] + 0.1]), repeats=2)  # type: ignore[arg-type]
    assert not found.right("fp16")
