"""The quality laboratory: rows change what they say, results are kept, differences are judged as statisticians do."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lldiffusion.errors import LLDiffusionError
from support.pictures import write_pairs

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")

from benchmarks.lab import __main__ as lab  # noqa: E402
from benchmarks.lab.notebook import Notebook, Run, run_key  # noqa: E402
from benchmarks.lab.rows import FOLDER, ORDER, Row, choose_rows  # noqa: E402
from benchmarks.lab.table import differences, learned, to_markdown  # noqa: E402
from benchmarks.lab.training import Setup, configure, key_of, scalars, step_seconds  # noqa: E402
from lldiffusion.config import config_from_dict  # noqa: E402

BASE = """
about = "small"
preset = "tiny"
[model]
level = false
[model.encoder]
channels = [8, 8]
residual_blocks = 1
head_channels = 16
ladder = [16]
ladder_scales = [2]
[model.denoiser]
channels = 16
multipliers = [1, 2]
attention_down = []
attention_up = []
[model.degrader]
channels = 8
multipliers = [1, 2]
patch = 2
[data]
crop = 32
[train]
batch = 1
"""
OTHER = 'about = "brighter"\n[loss]\nbrightness = 1.0\n'


def _flat(table: dict[str, Any], at: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in table.items():
        found |= _flat(value, f"{at}{key}.") if isinstance(value, dict) else {at + key: value}
    return found


def test_every_shipped_row_changes_what_it_says() -> None:
    assert {f"{name}.toml" for name in ORDER} == {Path(str(entry)).name for entry in FOLDER.iterdir()}
    rows = {row.name: row for row in choose_rows(ORDER)}
    assert list(rows) == list(ORDER)
    for row in list(rows.values())[1:]:
        mine, other = _flat(row.table), _flat(rows[row.against].table)
        differing = {key for key in mine if mine[key] != other[key]} - {"name"}
        assert differing == set(_flat(row.changes)), row.name
        assert config_from_dict(row.table).name == row.name


def test_rows_bring_what_they_are_judged_against() -> None:
    assert [row.name for row in choose_rows(["v"])] == ["base", "no-gain", "v"]
    assert not any(row.long for row in choose_rows([]))
    assert choose_rows(["crop-192"])[-1].long


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[loss]\nssmi = 1.0\n", "did you mean 'ssim'"),
        ("a = = 1", "no TOML"),
        ('against = "nothing"\n', "unknown row 'nothing'"),
        ('[diffusion]\nprediction = "v"\n', "gain"),
    ],
)
def test_bad_rows_are_named(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(LLDiffusionError, match=words):
        choose_rows([str(tmp_path / "mine.toml")])
    with pytest.raises(LLDiffusionError, match="no row"):
        choose_rows([str(tmp_path / "none.toml")])
    with pytest.raises(LLDiffusionError, match="did you mean 'no-gain'"):
        choose_rows(["no-gian"])


def _row(name: str, against: str = "base") -> Row:
    return Row(name, name, against if name != "base" else "", {}, {})


def _run(row: str, seed: int, psnr: float) -> Run:
    return Run(row, seed, "key", 10, 0.1, 1_000_000, 8, {"psnr": psnr, "seconds": 0.5, "niqe": None})


@pytest.mark.parametrize(
    "groups", [([20.0, 20.4], [21.0, 21.2]), ([20.0, 20.4], [20.3, 20.6]), ([20.0, 20.4, 19.9], [20.9, 20.8])]
)
def test_two_rows_are_compared_as_by_students_t_test(groups: tuple[list[float], list[float]]) -> None:
    stats = pytest.importorskip("scipy.stats")
    names = ("base", "other")
    runs = [_run(name, seed, v) for name, group in zip(names, groups, strict=True) for seed, v in enumerate(group)]
    [found] = differences([_row("base"), _row("other")], runs)
    test = stats.ttest_ind(groups[1], groups[0])  # pooled variance
    assert found.real == (test.pvalue < 0.05)
    interval = test.confidence_interval(0.95)
    assert (found.value - found.threshold, found.value + found.threshold) == pytest.approx(
        (interval.low, interval.high)
    )


def test_the_noise_is_pooled_and_one_seed_says_nothing() -> None:
    rows = [_row("base"), _row("a"), _row("b")]
    runs = [_run("base", 0, 20.0), _run("base", 1, 20.2), _run("a", 0, 21.0), _run("a", 1, 21.2), _run("b", 0, 20.3)]
    page = to_markdown(rows, runs, ["a fact"], ["c (seeds 0)"])
    assert "| base | 20.10 ± 0.14 |" in page
    assert "| b | 20.30 |" in page
    assert "NIQE" not in page  # nobody measured it
    assert "- c (seeds 0): not measured" in page
    told = learned(rows, runs)
    assert told[0].startswith("**a** against base: PSNR +1.00 dB (better")
    assert told[1] == "**b** against base: no difference beyond the noise (PSNR +0.20 dB)"
    assert "two seeds" in learned(rows, [run for run in runs if run.seed == 0])[0]


def test_a_run_is_known_by_what_decides_it(tmp_path: Path) -> None:
    [row] = choose_rows(["base"])
    here, there = (str(write_pairs(tmp_path / place / "pairs", height=64, width=64)) for place in ("a", "b"))
    setup = Setup((here,), 10, 1, "none", "none")
    key = key_of(configure(row, 0, setup))
    assert key == key_of(configure(row, 0, replace(setup, pairs=(there,))))  # wherever the data lies
    assert key != key_of(configure(row, 1, setup))
    assert key != key_of(configure(row, 0, replace(setup, steps=11)))
    assert key != run_key(configure(row, 0, setup), ["other", "pairs"])


def test_the_time_of_a_step_is_read_from_the_runs_log(tmp_path: Path) -> None:
    from torch.utils.tensorboard.writer import SummaryWriter

    [row] = choose_rows(["base"])
    config = configure(row, 0, Setup(("x",), 100, 1, "none", "none"))
    assert step_seconds(config, tmp_path) is None
    with SummaryWriter(str(tmp_path / "tensorboard")) as writer:
        for step, rate in ((20, 8.0), (40, 80.0), (60, 40.0)):
            writer.add_scalar("joint/images_per_second", rate, step)
    assert scalars(tmp_path, "joint/images_per_second") == [(20, 8.0), (40, 80.0), (60, 40.0)]
    assert step_seconds(config, tmp_path) == pytest.approx(config.train.batch / 40.0)


def _call(tmp_path: Path, *rows: str, minutes: float = 60.0, seeds: str = "0,1") -> None:
    for name, text in (("base", BASE), ("other", OTHER)):
        (tmp_path / f"{name}.toml").write_text(text)
    files = [str(tmp_path / f"{name}.toml") for name in rows]
    pairs = tmp_path / "data" / "pairs"
    if not pairs.exists():
        write_pairs(pairs, height=64, width=64)
    lab.main(files, [str(pairs)], minutes, tmp_path / "out", seeds, 2, 1, None, tmp_path / "runs")


def test_the_laboratory_trains_measures_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lldiffusion.evaluation.lpips.lpips_at_hand", lambda: lambda result, truth: 0.5)
    _call(tmp_path, "base", "other", minutes=0)  # the first run is always made
    said = capsys.readouterr()
    assert "no time left for base (seeds 1); other (seeds 0, 1)" in said.err
    _call(tmp_path, "base", "other")
    said = capsys.readouterr()
    assert said.err.count("done already") == 1
    document = json.loads((tmp_path / "out" / "lab.json").read_text())
    made = datetime.fromisoformat(document["date"])
    assert made.utcoffset() == timedelta(0) and {"schema", "machine", "versions", "commit"} <= document.keys()
    assert [(run["row"], run["seed"]) for run in document["runs"]] == [
        *(("base", 0), ("base", 1), ("other", 0), ("other", 1))
    ]
    for run in document["runs"]:
        assert run["images"] == 1
        assert 3 < run["means"]["psnr"] < 40
        assert run["means"]["niqe"] is None and run["means"]["lpips"] == 0.5
        assert run["means"]["brightness_abs"] == pytest.approx(abs(run["means"]["brightness"]))
    assert str(tmp_path) not in json.dumps(document)  # no paths of this machine
    page = (tmp_path / "out" / "lab.md").read_text()
    assert "| base |" in page and "| other |" in page and "**other** against base" in page
    monkeypatch.setattr(lab, "train_and_measure", lambda *_: pytest.fail("trained again"))
    _call(tmp_path, "base", "other")
    assert (tmp_path / "out" / "lab.md").read_text() == page


def test_other_files_and_seeds_are_refused(tmp_path: Path) -> None:
    (tmp_path / "lab.json").write_text('{"schema": 9}')
    with pytest.raises(LLDiffusionError, match="schema 9"):
        Notebook.open(tmp_path / "lab.json")
    for seeds in ("0,x", "0,0", "-1"):
        with pytest.raises(LLDiffusionError, match="seeds"):
            _call(tmp_path, "base", seeds=seeds)
