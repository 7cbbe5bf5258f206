"""Result files: everything survives writing and reading, and a bad file is one clear line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lldiffusion.bench.record import (
    SCHEMA,
    BenchResult,
    Ceilings,
    Machine,
    Measurement,
    Scaling,
    Stages,
    load_result,
    percentile,
)
from lldiffusion.errors import LLDiffusionError

MACHINE = Machine("Linux x86_64", "a CPU", 2, 8 << 30, conditions={"load": "0.1"})
ROW = Measurement(
    "tiny", "onnxruntime", "fp32", 600, 400, 1, 4, (0.5, 0.4, 0.6), noise=0.02, stages=Stages(pre=0.01, step=0.1)
)
RESULT = BenchResult(
    MACHINE,
    {"numpy": "2.4"},
    "abc",
    "lldiff bench",
    "2026-11-24T12:00:00+00:00",
    ("policy",),
    (Ceilings("cpu", "fp32", 1e11, 1e10, "matmul"),),
    (ROW, replace(ROW, backend="gamma", steps=0, seconds=(), limit=0.1)),
    (Scaling("tiny", "onnxruntime", "pixels", "seconds", ((64.0, 0.1), (128.0, 0.2)), 1.0),),
    ("a note",),
)


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    RESULT.save(tmp_path / "bench.json")
    assert load_result(tmp_path / "bench.json") == RESULT
    assert load_result(tmp_path) == RESULT  # the folder will do
    assert [path.name for path in tmp_path.iterdir()] == ["bench.json"]


def test_percentiles_are_numpys() -> None:
    values = np.random.default_rng(0).exponential(size=37).tolist()
    for share in (0, 50, 90, 95, 99, 100):
        assert percentile(values, share) == pytest.approx(np.percentile(values, share))
    assert ROW.p50 == 0.5 and ROW.images_per_second == 2 and replace(ROW, limit=0.25).over_limit == 2


def test_the_file_carries_percentiles_and_no_nan(tmp_path: Path) -> None:
    RESULT.save(tmp_path / "bench.json")
    rows = json.loads((tmp_path / "bench.json").read_text())["measurements"]
    assert rows[0]["summary"]["p90"] == pytest.approx(0.58)
    assert rows[1]["summary"]["p50"] is None and rows[1]["summary"]["over_limit"] is None


def damaged(**changes: Any) -> dict[str, Any]:
    table = RESULT.to_dict()
    table["measurements"][0].update(changes)
    return table


BAD = {
    "newer": (RESULT.to_dict() | {"schema": SCHEMA + 1}, "upgrade lldiffusion"),
    "none of ours": ({"hello": 1}, "no result of"),
    "a list": ([1, 2], "no result of"),
    "no machine": ({k: v for k, v in RESULT.to_dict().items() if k != "machine"}, "'machine' is missing"),
    "text for seconds": (damaged(seconds="abc"), "damaged"),
    "negative seconds": (damaged(seconds=[-1]), "finite numbers"),
    "width of zero": (damaged(width=0), "width is 0"),
    "backend is a number": (damaged(backend=3), "backend' is 3: expected str"),
    "stages gone": (damaged(stages=None), "damaged"),
    "a note is a number": (RESULT.to_dict() | {"notes": [1]}, r"'notes\[0\]' is 1: expected str"),
}


@pytest.mark.parametrize(("table", "says"), BAD.values(), ids=BAD)
def test_a_bad_file_is_one_clear_line(table: Any, says: str, tmp_path: Path) -> None:
    (tmp_path / "bench.json").write_text(json.dumps(table))
    with pytest.raises(LLDiffusionError, match=says) as caught:
        load_result(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_missing_or_truncated_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(LLDiffusionError, match="no result file"):
        load_result(tmp_path)
    RESULT.save(tmp_path / "bench.json")
    path = tmp_path / "bench.json"
    path.write_text(path.read_text()[:300])
    with pytest.raises(LLDiffusionError, match="no JSON"):
        load_result(path)


def test_fields_of_a_later_version_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "bench.json").write_text(json.dumps(damaged(colour="red") | {"more": 1}))
    assert load_result(tmp_path) == RESULT
