"""Methods of distilling side by side: every student measured, nothing done twice, other settings refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lldiffusion.errors import LLDiffusionError
from support.pictures import write_pairs

pytest.importorskip("torch")
pytest.importorskip("accelerate")

from benchmarks import distillation
from benchmarks.distillation import STEPS, TEACHER_STEPS, Notebook, StudentScore, main, to_markdown
from lldiffusion.training import distill as methods
from support.micro import save_teacher


def test_students_are_measured_once_and_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "METHODS", ("trajectory", "regression"))
    pairs, teacher = write_pairs(tmp_path / "pairs", height=64, width=64), save_teacher(tmp_path)
    fixed = ["train.warmup=0", "data.validation=1", "train.save_every=1"]

    def call(rate: float = 1e-4) -> None:
        main(teacher, [str(pairs)], 1, 1, rate, fixed, tmp_path / "out", tmp_path / "work")

    call()
    written = (tmp_path / "out" / "distillation.json").read_text()
    document = json.loads(written)
    found = [(result["method"], result["steps"]) for result in document["results"]]
    assert found == [("teacher", n) for n in TEACHER_STEPS] + [(m, n) for m in methods.METHODS for n in STEPS]
    assert all(0 < result["means"]["psnr"] < 60 for result in document["results"])
    assert str(tmp_path) not in written
    monkeypatch.setattr(distillation, "measure_model", lambda *_: pytest.fail("measured again"))
    call()
    assert json.loads((tmp_path / "out" / "distillation.json").read_text())["results"] == document["results"]
    with pytest.raises(LLDiffusionError, match="other settings"):
        call(rate=2e-4)


def test_students_of_other_settings_are_not_taken_for_these(tmp_path: Path) -> None:
    one, other = (Notebook(tmp_path / "x.json", {"learning_rate": rate}) for rate in (1e-4, 2e-4))
    assert one.key != other.key == Notebook(tmp_path / "y.json", {"learning_rate": 2e-4}).key


def test_the_table_shows_means_and_spread_over_seeds(tmp_path: Path) -> None:
    numbers = {"gtmean_psnr": 21.0, "ssim": 0.5, "brightness_abs": None}
    results = [StudentScore("regression", seed, 1, {"psnr": 20.0 + seed, **numbers}) for seed in (0, 1)]
    table = to_markdown(Notebook(tmp_path / "x.json", {"training_steps": 7}, results, {"regression": 0.5}))
    assert "| regression | 1 | 20.50 ± 0.71 | 21.00 ± 0.00 | 0.500 ± 0.000 | - | 0.50 |" in table
    assert "- training steps: 7" in table


def test_a_file_of_something_else_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "distillation.json").write_text("[]")
    with pytest.raises(LLDiffusionError, match="move it away"):
        Notebook(tmp_path / "distillation.json", {}).read()
