"""`lldiff eval` as a user runs it: models, results, baselines, unpaired images, and mistakes."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from skimage import data

from lldiffusion.cli import run
from lldiffusion.evaluation.baselines import BASELINES, automatic_gamma
from lldiffusion.evaluation.lpips import Lpips
from lldiffusion.evaluation.lpips_weights import SHAPES
from lldiffusion.evaluation.measure import EvaluationCase, Instruments, measure
from lldiffusion.evaluation.protocols import get_protocol
from lldiffusion.evaluation.report import EvaluationReport
from lldiffusion.images import Image, read_image, to_uint8, write_image

SIZE = (96, 224)  # height, width: two blocks for NIQE


@pytest.fixture(autouse=True)
def nothing_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No parameters and weights of the machine's, and no network."""
    for variable in ("LLDIFF_NIQE_PARAMS", "LLDIFF_LPIPS_WEIGHTS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path_factory.getbasetemp() / "no weights"))
    monkeypatch.setattr("lldiffusion.evaluation.lpips_weights.URL", "http://127.0.0.1:9/alexnet.pth")


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Three pairs: crops of photographs, darkened with noise."""
    rng = np.random.default_rng(0)
    for name, source in (("a", data.coffee()), ("b", data.astronaut()), ("c", data.chelsea())):
        normal = source[100 : 100 + SIZE[0], 100 : 100 + SIZE[1]].astype(np.float32) / 255
        low = normal**2 * 0.2 + rng.normal(0, 0.01, normal.shape)
        for side, pixels in (("low", low), ("high", normal)):
            (tmp_path / "set" / side).mkdir(parents=True, exist_ok=True)
            write_image(tmp_path / "set" / side / f"{name}.png", Image(np.clip(pixels, 0, 1).astype(np.float32)))
    return tmp_path / "set"


@pytest.fixture
def results(pairs: Path, tmp_path: Path) -> Path:
    """The outputs of some other method."""
    (tmp_path / "method").mkdir()
    for path in sorted((pairs / "low").iterdir()):
        write_image(tmp_path / "method" / path.name, Image(automatic_gamma(read_image(path).pixels)))
    return tmp_path / "method"


@pytest.fixture(scope="module")
def lpips_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up AlexNet, heads included."""
    rng, path = np.random.default_rng(0), tmp_path_factory.mktemp("weights") / "alex.safetensors"
    save_file({name: rng.random(shape, np.float32) / shape[0] - 0.001 for name, shape in SHAPES.items()}, path)
    return path


@pytest.fixture
def niqe_params(tmp_path: Path) -> Path:
    np.savez(tmp_path / "niqe.npz", mu_pris_param=np.ones((1, 36)), cov_pris_param=np.eye(36))
    return tmp_path / "niqe.npz"


def evaluate(*arguments: object) -> int:
    return run(["eval", *map(str, arguments)])


def test_a_baseline_is_measured_printed_and_saved(
    pairs: Path, tmp_path: Path, niqe_params: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "gamma.json"
    assert evaluate("--baseline", "gamma", "--data", pairs, "-o", out, "--niqe-params", niqe_params) == 0
    printed = capsys.readouterr().out
    for text in ("standard: 8 bit by rounding", "gtmean: ", "lldiffusion: ", "LPIPS: not measured (", "LLFormer"):
        assert text in printed
    assert "this run, standard" in printed
    report = json.loads(out.read_text())
    again = ("--baseline", "gamma", "--data", pairs, "-o", out, "--niqe-params", niqe_params, "-y", "--json")
    assert evaluate(*again) == 0
    assert json.loads(capsys.readouterr().out)["protocols"] == report["protocols"]
    assert report["schema"] == 1
    assert report["method"] == {"name": "baseline gamma", "kind": "baseline"}
    assert report["data"] == {"folder": str(pairs), "images": 3}
    assert set(report["protocols"]) == {"standard", "gtmean", "lldiffusion"}
    assert report["niqe"].startswith("parameters sha256 ")
    assert report["versions"].keys() >= {"lldiffusion", "python", "numpy", "scikit-image"}
    rows = list(csv.DictReader(out.with_suffix(".csv").open()))
    assert [row["name"] for row in rows] == ["a", "b", "c"]
    for metric in ("standard_psnr", "gtmean_ssim", "lldiffusion_psnr", "niqe", "brightness"):
        mean = np.mean([float(row[metric]) for row in rows])
        assert report["means"][metric]["mean"] == pytest.approx(mean, abs=1e-5)
    assert sorted(path.name for path in out.parent.iterdir()) == ["gamma.csv", "gamma.json"]  # no temporary left


def test_the_numbers_are_those_of_the_protocol(pairs: Path, tmp_path: Path) -> None:
    assert evaluate("--baseline", "input", "--data", pairs, "--protocol", "standard", "-o", tmp_path / "o.json") == 0
    report = json.loads((tmp_path / "o.json").read_text())
    low, high = (read_image(pairs / side / "b.png").pixels for side in ("low", "high"))
    expected = get_protocol("standard").measure(low, high)
    found = next(image for image in report["images"] if image["name"] == "b")
    assert (found["standard_psnr"], found["standard_ssim"]) == pytest.approx(tuple(expected.values()), abs=1e-5)
    assert found["brightness"] == pytest.approx(255 * (low - high).mean(), abs=4)
    assert "niqe" not in found
    assert "--niqe-params" in report["niqe"]


def test_a_report_is_replaced_only_when_asked(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "o.json").write_text("precious")
    command = ("--baseline", "input", "--data", pairs, "--protocol", "standard", "-o", tmp_path / "o.json")
    assert evaluate(*command) == 2
    assert "exists already" in capsys.readouterr().err
    assert (tmp_path / "o.json").read_text() == "precious"
    assert evaluate(*command, "-y") == 0
    assert json.loads((tmp_path / "o.json").read_text())["means"]


def test_results_of_another_method_agree_with_the_method_itself(pairs: Path, results: Path, tmp_path: Path) -> None:
    assert evaluate("--results", results, "--data", pairs, "-o", tmp_path / "r.json") == 0
    assert evaluate("--baseline", "gamma", "--data", pairs, "-o", tmp_path / "g.json") == 0
    of_files, of_method = (json.loads((tmp_path / name).read_text())["means"] for name in ("r.json", "g.json"))
    assert of_files["standard_psnr"] == pytest.approx(of_method["standard_psnr"])  # both are rounded to 8 bit


def test_lpips_joins_the_table_the_json_the_csv_and_the_published_results(
    pairs: Path, tmp_path: Path, lpips_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--protocol", "standard", "-o", tmp_path / "o.json", "--lpips-weights", lpips_weights)
    assert evaluate("--baseline", "input", "--data", pairs, *options) == 0
    report = json.loads((tmp_path / "o.json").read_text())
    low, high = (to_uint8(read_image(pairs / side / "b.png").pixels) for side in ("low", "high"))
    found = next(image for image in report["images"] if image["name"] == "b")["standard_lpips"]
    assert found == pytest.approx(Lpips.load(lpips_weights)(low, high), abs=1e-6)
    rows = list(csv.DictReader((tmp_path / "o.csv").open()))
    mean = np.mean([float(row["standard_lpips"]) for row in rows])
    assert report["means"]["standard_lpips"]["mean"] == pytest.approx(mean, abs=1e-5)
    assert hashlib.sha256(lpips_weights.read_bytes()).hexdigest() in report["lpips"]
    printed = capsys.readouterr().out
    assert "PSNR  SSIM LPIPS" in printed
    ours = next(line for line in printed.splitlines() if "this run, standard" in line)
    assert f"{mean:.4g}" in ours
    assert "not measured (no AlexNet" not in printed


def test_without_weights_one_line_says_how_to_get_lpips(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate("--baseline", "input", "--data", pairs, "-o", tmp_path / "o.json") == 0
    reason = json.loads((tmp_path / "o.json").read_text())["lpips"]
    assert "give --lpips-weights FILE or set LLDIFF_LPIPS_WEIGHTS" in reason
    assert f"LPIPS: not measured ({reason})" in capsys.readouterr().out.splitlines()


def test_limit_measures_the_first_images(pairs: Path, tmp_path: Path) -> None:
    assert evaluate("--baseline", "input", "--data", pairs, "--limit", 1, "-o", tmp_path / "o.json") == 0
    assert [image["name"] for image in json.loads((tmp_path / "o.json").read_text())["images"]] == ["a"]


def test_missing_results_are_all_named(
    pairs: Path, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (results / "a.png").unlink()
    (results / "c.png").unlink()
    assert evaluate("--results", results, "--data", pairs, "-o", tmp_path / "o.json") == 2
    error = capsys.readouterr().err.strip()
    assert "has no result for a, c (2 in all)" in error
    assert "\n" not in error
    assert not (tmp_path / "o.json").exists()


def test_results_of_another_size_are_all_named(
    pairs: Path, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        write_image(results / f"{name}.png", Image(np.zeros((96, 200, 3), np.float32)))
    assert evaluate("--results", results, "--data", pairs, "-o", tmp_path / "o.json") == 2
    assert "a 200x96 for 224x96, b 200x96 for 224x96" in capsys.readouterr().err


def test_two_results_for_one_image_are_refused(
    pairs: Path, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(results / "a.jpg", read_image(results / "a.png"))
    assert evaluate("--results", results, "--data", pairs, "-o", tmp_path / "o.json") == 2
    assert "several results for a" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--baseline", "gama"), "did you mean 'gamma'"),
        (("--baseline", "gamma", "--protocol", "standart"), "did you mean 'standard'"),
        (("--baseline", "gamma", "--results", "x"), "--results and --baseline exclude each other"),
        (("--baseline", "gamma", "--steps", "3"), "--steps only apply to a model"),
        (("--baseline", "gamma", "-o", "report.txt"), "ends in .json"),
        (("--baseline", "gamma", "--niqe-params", "none.mat"), "no NIQE parameters at 'none.mat'"),
        (("--baseline", "gamma", "--lpips-weights", "none.npz"), "no LPIPS weights at 'none.npz'"),
        (("--video", "clip.mp4", "--lpips-weights", "none.npz"), "--lpips-weights are of images"),
        (("--results", "nowhere"), "'nowhere' is not a folder"),
        (("--seeds", "0,x"), "give whole numbers"),
        (("--seeds", "1,1"), "each is given once"),
        (("--model", "nowhere"), "model 'nowhere' does not exist"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(
    pairs: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(pairs.parent)
    assert evaluate("--data", pairs, *arguments) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
    assert not list(pairs.parent.glob("*.json"))


def test_unpaired_images_get_niqe_only(
    pairs: Path, tmp_path: Path, niqe_params: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dark = (pairs / "low").rename(tmp_path / "night")
    assert evaluate("--baseline", "gamma", "--data", dark, "-o", tmp_path / "o.json", "--niqe-params", niqe_params) == 0
    report = json.loads((tmp_path / "o.json").read_text())
    assert set(report["means"]) == {"niqe", "seconds"}
    assert report["lpips"] == "no normal-light images"  # and its weights were not fetched
    assert "Published results" not in capsys.readouterr().out
    assert evaluate("--baseline", "gamma", "--data", dark, "-o", tmp_path / "p.json") == 2
    assert "nothing to measure: NIQE has no parameters" in capsys.readouterr().err


def test_broken_pairs_are_never_taken_for_unpaired_images(
    pairs: Path, tmp_path: Path, niqe_params: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pairs / "high" / "b.png").unlink()
    assert (
        evaluate("--baseline", "gamma", "--data", pairs, "-o", tmp_path / "o.json", "--niqe-params", niqe_params) == 2
    )
    assert "has no partner" in capsys.readouterr().err


def test_an_empty_folder_and_a_missing_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    for name, message in (("empty", "it is empty"), ("missing", "no such folder")):
        assert evaluate("--baseline", "gamma", "--data", tmp_path / name, "-o", tmp_path / "o.json") == 2
        assert message in capsys.readouterr().err


def test_a_model_is_measured_with_several_seeds(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from lldiffusion.config import load_config
    from lldiffusion.model.checkpoint import save_checkpoint
    from lldiffusion.model.network import LLDiffusion

    config = load_config("tiny")
    save_checkpoint(tmp_path / "model", config, LLDiffusion(config, with_degrader=False).state_dict())
    options = ("--steps", 1, "--seeds", "0,1", "--limit", 2, "--protocol", "standard", "-o", tmp_path / "m.json")
    assert evaluate("--model", tmp_path / "model", "--data", pairs, *options) == 0
    assert "±" in capsys.readouterr().out
    report = json.loads((tmp_path / "m.json").read_text())
    about = report["method"]
    assert (about["kind"], about["seeds"], about["steps"]) == ("model", [0, 1], "1")
    assert len(about["weights_sha256"]) == 64
    assert [(image["name"], image["seed"]) for image in report["images"]] == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    per_seed = [np.mean([i["standard_psnr"] for i in report["images"] if i["seed"] == seed]) for seed in (0, 1)]
    mean = report["means"]["standard_psnr"]
    assert mean["mean"] == pytest.approx(np.mean(per_seed), abs=1e-5)
    assert mean["spread_over_seeds"] == pytest.approx(np.std(per_seed, ddof=1), abs=1e-5)


def test_equal_images_are_infinite_in_the_report_and_stay_valid_json(pairs: Path, tmp_path: Path) -> None:
    jobs = [EvaluationCase("a", pairs / "high" / "a.png", pairs / "high" / "a.png")]
    tools = Instruments((get_protocol("standard"),), "no backbone", "no parameters")
    scores = list(measure(jobs, lambda pixels: pixels, tools))
    report = EvaluationReport({"name": "same", "kind": "results"}, "x", tools, scores)
    report.save(tmp_path / "o.json")
    saved = json.loads((tmp_path / "o.json").read_text())
    assert saved["means"]["standard_psnr"]["mean"] == "inf"
    assert saved["means"]["standard_ssim"]["mean"] == 1


def test_ctrl_c_says_how_far_it_came(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = []

    def interrupted(pixels: np.ndarray) -> np.ndarray:
        seen.append(pixels)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return pixels

    monkeypatch.setitem(BASELINES, "input", interrupted)
    assert evaluate("--baseline", "input", "--data", pairs, "-o", tmp_path / "o.json") == 130
    assert "stopped after 1 of 3 images" in capsys.readouterr().err
    assert not (tmp_path / "o.json").exists()
