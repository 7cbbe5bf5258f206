"""The GPU script rehearsed on the CPU: every part runs, says what is missing, and calls wrong what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from benchmarks import gpu, gpu_correctness
from benchmarks.gpu import PARTS, Plan, main, run_part
from benchmarks.gpu_correctness import examine
from lldiffusion.engines.driver import driver
from lldiffusion.errors import LLDiffusionError
from support.bench_models import micro_source


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """part -> its JSON, from one rehearsal."""
    out = tmp_path_factory.mktemp("gpu")
    with pytest.raises(typer.Exit) as left:
        main([], out, "cuda:0", str(micro_source()), budget=8, rehearse=True)
    assert left.value.exit_code == 0
    assert {path.name for path in out.iterdir()} == {f"{part}.json" for part in PARTS}
    return {part: json.loads((out / f"{part}.json").read_text()) for part in PARTS}


def test_every_part_runs_and_is_marked_as_a_rehearsal(found: dict[str, Any]) -> None:
    for part, table in found.items():
        assert table["status"] == "done", (part, table.get("reason"))
        assert table["rehearsal"] is True
        assert table["machine"]["cpu"]


def test_correctness_comes_first_and_names_what_is_missing(found: dict[str, Any]) -> None:
    assert list(PARTS)[:2] == ["versions", "correctness"]
    rows = {row["way"]: row for row in found["correctness"]["rows"]}
    assert rows["eager"]["status"] == rows["onnxruntime"]["status"] == "right"
    assert min(rows["onnxruntime"]["psnr"]) > 90
    if driver().problem:
        assert rows["cuda-graph"]["status"] == rows["tensorrt-rtx"]["status"] == "missing"


def test_video_and_training_have_rates(found: dict[str, Any]) -> None:
    video = found["video"]["rows"][0]
    assert video["frames"] == 4 and video["frames per second"] > 0
    shares = [video[f"share of {stage}"] for stage in ("decode", "enhance", "encode")]
    assert sum(shares) == pytest.approx(1) and all(share > 0 for share in shares)
    assert found["training"]["rows"][0]["steps per second"] > 0
    assert found["ceilings"]["work"][0]["step GFLOP"] > 0


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


@pytest.mark.parametrize(("wrong_at", "status"), [(0, "right"), (5, "wrong"), (7, "wrong"), (10, "wrong")])
def test_a_replay_that_answers_otherwise_once_is_called_wrong(wrong_at: int, status: str) -> None:
    pictures = [np.full((8, 8, 3), value) for value in (0.2, 0.4)]
    assert examine(Once(wrong_at), pictures, pictures, 30.0, 5)["status"] == status  # type: ignore[arg-type]


def test_engines_are_built_with_what_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def build(source: Any, flavour: str, precision: str) -> None:
        asked.append((flavour, precision))
        if flavour == "tensorrt":
            raise LLDiffusionError("it is not installed")

    monkeypatch.setattr(gpu_correctness, "_build", build)
    monkeypatch.setattr(gpu_correctness, "with_bundle", lambda source, precision, say: source)
    assert list(gpu_correctness.build_all("tiny")) == ["tiny: no tensorrt engines: it is not installed"]
    assert asked == [("tensorrt", "fp16"), ("tensorrt-rtx", "fp16")]


def test_wrong_pictures_are_called_wrong() -> None:
    pictures = [np.full((8, 8, 3), 0.2)]
    assert examine(Once(), pictures, [pictures[0] + 0.1], 40.0, 2)["status"] == "wrong"  # type: ignore[arg-type]


def test_a_part_that_breaks_is_kept_and_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(plan: Plan) -> dict[str, Any]:
        raise ValueError("the moon is full")

    monkeypatch.setitem(PARTS, "video", broken)
    assert run_part("video", Plan(tmp_path, "cpu", ("tiny",), rehearse=True)) is False
    assert json.loads((tmp_path / "video.json").read_text())["reason"] == "ValueError: the moon is full"


def test_bad_input_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LLDiffusionError, match="did you mean 'video'"):
        main(["vidio"], tmp_path, "cuda:0", "tiny", 5, rehearse=True)
    monkeypatch.setattr(gpu, "driver", lambda: type("D", (), {"problem": "no NVIDIA driver is installed"}))
    with pytest.raises(LLDiffusionError, match="no GPU to measure"):
        main([], tmp_path, "cuda:0", "tiny", 5, rehearse=False)
