"""Models by path and by name, and what is near a model."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lldiffusion.bundle.find import find_model
from lldiffusion.errors import LLDiffusionError


def test_a_path_goes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = find_model("tiny")
    assert (shipped / "config.json").is_file()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    assert find_model("tiny") == Path("tiny")


def test_a_run_folder_names_its_model(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "model").mkdir(parents=True)
    for folder in (run, run / "model"):
        (folder / "config.json").write_text("{}")
    with pytest.raises(LLDiffusionError, match=r"is a training run: did you mean its model, '.*run/model'"):
        find_model(run)
    assert find_model(run / "model") == run / "model"


def test_an_unfinished_run_names_its_newest_checkpoint(tmp_path: Path) -> None:
    for number, step in enumerate(("joint/step-0000002", "joint/step-0000004")):
        (tmp_path / step).mkdir(parents=True)
        (tmp_path / step / "config.json").write_text("{}")
        os.utime(tmp_path / step, (number, number))
    for folder in (tmp_path, tmp_path / "joint"):
        with pytest.raises(LLDiffusionError, match=r"without a finished model: did you mean '.*/step-0000004'"):
            find_model(folder)


def test_what_is_no_model_is_said(tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(b"")
    with pytest.raises(LLDiffusionError, match="lldiff convert"):
        find_model(tmp_path / "x.pth")
    with pytest.raises(LLDiffusionError, match="'tinny' does not exist"):
        find_model("tinny")
