"""Loss curves of a short run: every step kept, the recipe's cost scaled from its speed, the files written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lldiffusion.config import load_config
from support.pictures import SMALL, write_pairs

pytest.importorskip("torch")
pytest.importorskip("accelerate")
pytest.importorskip("matplotlib")

from benchmarks.curves import Entry, cost, main, running_mean


def test_the_recipes_cost_is_scaled_by_its_crops() -> None:
    recipe = load_config("paper", ["train.joint_steps=3000", "train.enhance_steps=600"])  # 8 images of 4 crops
    run = load_config("paper", ["train.batch=1", "data.crops_per_image=1"])
    entries = [Entry(step, seconds, {"a": 1.0}) for step, seconds in enumerate((9.0, 2.0, 1.0, 3.0), start=1)]
    found = cost(entries, run, recipe)
    assert (found["seconds_per_step"], found["crops_per_second"]) == (2.0, 0.5)  # the first step is left out
    assert found["full_recipe_hours"] == 3600 * 32 * 2.0 / 3600


def test_the_running_mean_begins_with_the_first_value() -> None:
    assert running_mean([4.0, 4.0, 4.0]) == pytest.approx([4.0] * 3)
    assert running_mean([1.0, 2.0]) == pytest.approx([1.0, (0.9 * 1 + 2) / 1.9])


def test_a_short_run_leaves_its_curves(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs", height=64, width=64)
    small = [o for o in SMALL if "validation" not in o]
    main("tiny", [str(pairs)], 3, [*small, "data.crop=32", "model.level=false", "train.warmup=0"], tmp_path / "out")
    document = json.loads((tmp_path / "out" / "tiny-curves.json").read_text())
    assert [entry["step"] for entry in document["entries"]] == [1, 2, 3]
    assert set(document["entries"][0]["terms"]) == {"prediction", "degradation", "l1", "ssim", "aligned"}
    assert document["summary"]["crops_per_step"] == 2
    assert 0 < document["summary"]["seconds_per_step"] < 60
    assert (tmp_path / "out" / "tiny-curves.png").read_bytes().startswith(b"\x89PNG")
    assert str(tmp_path) not in json.dumps(document)
