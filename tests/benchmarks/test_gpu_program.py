"""The GPU program rehearsed on the CPU: every part runs, and says what is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer

from benchmarks import gpu
from benchmarks.gpu import PARTS, Plan, build_all, main, run_part
from lldiffusion.errors import LLDiffusionError
from support.bench_models import micro_source


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """part -> its JSON, from one rehearsal."""
    out = tmp_path_factory.mktemp("gpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lldiffusion.bench.rounds.MOST_ROUNDS", 3)
        with pytest.raises(typer.Exit) as left:
            main([], out, "cuda:0", str(micro_source()), budget=5, rehearse=True)
    assert left.value.exit_code == 0
    assert {path.name for path in out.iterdir()} == {f"{part}.json" for part in PARTS}
    return {part: json.loads((out / f"{part}.json").read_text()) for part in PARTS}


def test_every_part_runs_and_is_marked_as_a_rehearsal(found: dict[str, Any]) -> None:
    for part, table in found.items():
        assert table["status"] == "done", (part, table.get("reason"))
        assert table["rehearsal"] is True
        assert table["machine"]["cpu"]


def test_video_and_training_have_rates(found: dict[str, Any]) -> None:
    video = found["video"]["rows"][0]
    assert video["frames"] == 4 and video["frames per second"] > 0
    shares = [video[f"share of {stage}"] for stage in ("decode", "enhance", "encode")]
    assert sum(shares) == pytest.approx(1) and all(share > 0 for share in shares)
    assert found["training"]["rows"][0]["steps per second"] > 0
    assert found["ceilings"]["work"][0]["step GFLOP"] > 0


def test_engines_are_built_with_what_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def build(bundle: Any, flavour: str, precision: str) -> None:
        asked.append((flavour, precision))
        if flavour == "tensorrt":
            raise LLDiffusionError("it is not installed")

    monkeypatch.setattr(gpu, "build_engines", build)
    monkeypatch.setattr(gpu, "with_bundle", lambda source, precision, say: source)
    assert list(build_all("tiny")) == ["tiny: no tensorrt engines: it is not installed"]
    assert asked == [("tensorrt", "fp16"), ("tensorrt-rtx", "fp16")]


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
