"""The quality table: numbers of made-up pictures are what they must be, and a whole small run writes what it shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from benchmarks.quality.__main__ import PictureScore, main, to_markdown
from benchmarks.quality.data import DataSet, read_sets
from benchmarks.quality.scores import EQUAL, pair_numbers, picture_numbers, unchanged_numbers
from lldiffusion.errors import LLDiffusionError
from lldiffusion.evaluation.measure import EvaluationCase, Instruments, measure
from lldiffusion.evaluation.metrics import Uint8
from lldiffusion.evaluation.protocols import GTMEAN, STANDARD
from lldiffusion.hashing import sha256_of
from lldiffusion.images import Image, image_size, read_image, to_uint8, write_image
from support.micro import save_teacher
from support.pictures import photograph, write_pairs


def write_picture(folder: Path, name: str, pixels: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_image(folder / f"{name}.png", Image(pixels=np.asarray(pixels, np.float32), format="png"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pairs/{low,normal} of two, good/ and night/ of one and two pictures."""
    folder = tmp_path_factory.mktemp("data")
    write_pairs(folder / "pairs", count=2, height=48, width=64)
    write_picture(folder / "good", "cat", photograph("chelsea", 48, 64))
    write_picture(folder / "night", "wide", photograph("rocket", 48, 64) * 0.2)
    write_picture(folder / "night", "tall", photograph("coffee", 64, 48) * 0.2)
    return folder


def strips(*levels: int) -> Uint8:
    """(16, 32, 3): equal strips of these grey levels."""
    return np.tile(np.array(levels, np.uint8).repeat(32 // len(levels))[None, :, None], (16, 1, 3))


def test_what_burns_darkens_and_greys_is_counted() -> None:
    before = strips(20, 40, 100, 200)
    found = picture_numbers(before, strips(10, 60, 255, 180))
    assert found["burnt"] == 25
    assert found["darker_half"] == ((10 - 20) + (60 - 40)) / 2
    assert found["darkened"] == 0
    assert found["brightest"] == 180 - 200
    darker = picture_numbers(before, before // 2)
    assert darker["darkened"] == 1 and darker["burnt"] == 0
    assert picture_numbers(strips(252, 10), strips(255, 10))["burnt"] == 0  # it was burnt before


def test_a_picture_that_comes_back_as_it_was_is_equal() -> None:
    before = strips(30, 90)
    same = unchanged_numbers(before, before)
    assert (same["psnr"], same["contrast"]) == (EQUAL, 1)
    assert unchanged_numbers(before, strips(40, 60))["contrast"] == pytest.approx(1 / 3, abs=1e-4)


def test_pairs_are_measured_as_scikit_image_does(data: Path) -> None:
    folder = data / "pairs"
    case = EvaluationCase("000", folder / "low" / "000.png", folder / "normal" / "000.png")
    (score,) = measure([case], lambda pixels: pixels, Instruments((STANDARD, GTMEAN), "none", "none"))
    found = pair_numbers(score)
    low, normal = (to_uint8(read_image(folder / side / "000.png").pixels) for side in ("low", "normal"))
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "channel_axis": 2}
    assert found["psnr"] == pytest.approx(peak_signal_noise_ratio(normal, low), abs=1e-3)
    assert found["ssim"] == pytest.approx(structural_similarity(normal, low, **options), abs=1e-3)
    assert found["gtmean_psnr"] is not None and found["psnr"] is not None
    assert found["gtmean_psnr"] > found["psnr"] and found["lpips"] is None


class Perceived:
    """Stands in for LPIPS, which needs weights that are not shipped."""

    definition = "made up"

    def __call__(self, result: Any, truth: Any) -> float:
        return 0.25


@pytest.fixture(scope="module")
def level_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A checkpoint whose brightness can be told."""
    return save_teacher(tmp_path_factory.mktemp("model"))


def test_a_run_writes_what_it_shows(
    data: Path,
    level_model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("benchmarks.quality.__main__.lpips_at_hand", Perceived)
    (tmp_path / "held.txt").write_text("pairs/001\nother/000\n")
    sets = {
        "pairs": [f"all={data / 'pairs'}", f"held={data / 'pairs'}@{tmp_path / 'held.txt'}"],
        "unchanged": [f"good={data / 'good'}"],
        "pictures": [f"night={data / 'night'}"],
    }
    options: dict[str, Any] = {"steps": 1, "device": "cpu", **sets}
    first, sheet = tmp_path / "first", tmp_path / "sheet.jpg"
    main([level_model], [], told=True, out=first, sheet=sheet, save=tmp_path / "saved", **options)
    page = (first / "quality.md").read_text(encoding="utf-8")
    document = json.loads((first / "quality.json").read_text())
    assert page in capsys.readouterr().out
    assert str(tmp_path) not in page + json.dumps(document)  # no paths of this machine
    assert document["methods"] == ["gamma", "clahe", "teacher", "teacher, told"]
    assert [(one["name"], one["pictures"]) for one in document["sets"]] == [
        *(("all", 2), ("held", 1), ("good", 1), ("night", 2))
    ]
    assert len(document["scores"]) == 4 * 3 + 3 * 3  # what needs a truth is measured on pairs only
    assert any(sha256_of(Path(level_model) / "model.safetensors") in fact for fact in document["facts"])
    gamma = [s["numbers"]["psnr"] for s in document["scores"] if (s["data"], s["method"]) == ("all", "gamma")]
    assert f"| gamma | {np.mean(gamma):.2f} |" in page
    assert page.count("| gamma |") == 4 and page.count("| LPIPS |") == 2 and "LPIPS: made up" in page
    assert image_size(sheet) == (4 * 400 + 3 * 6, 2 * 400 + 6)

    saved = tmp_path / "saved" / "teacher"
    main(None, [f"before={saved}"], told=False, out=tmp_path / "second", sheet=None, save=None, **options)  # type: ignore[arg-type]
    again = json.loads((tmp_path / "second" / "quality.json").read_text())
    mine, kept = (
        {(s["data"], s["picture"]): s["numbers"] for s in scores if s["method"] == name}
        for scores, name in ((document["scores"], "teacher"), (again["scores"], "before"))
    )
    assert mine.keys() == kept.keys()
    for place, numbers in kept.items():
        assert numbers["seconds"] is None
        assert {n: v for n, v in numbers.items() if n != "seconds"} == pytest.approx(
            {n: v for n, v in mine[place].items() if n != "seconds"}, abs=1e-3
        )


def test_pictures_to_look_at_first_are_named() -> None:
    scores = [
        PictureScore("night", "m", name, {"burnt": burnt, "darkened": dark})
        for name, burnt, dark in (("a", 3.0, 0.0), ("b", 1.0, 1.0), ("c", 2.5, 0.0))
    ]
    page = to_markdown([DataSet("night", "pictures", ())], ["m"], scores, [])
    assert "- burnt by m: a, c" in page and "- darkened by m: b" in page


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["nonsense"], "write NAME=FOLDER"),
        (["a=/nowhere"], "no such folder"),
        (["a={data}", "a={data}"], "given twice"),
        (["a={data}@/nowhere.txt"], "no file '/nowhere.txt'"),
        (["a={data}@{wrong}"], "names 'pairs/7' of"),
        (["a={data}@{empty}"], "names nothing of"),
    ],
)
def test_bad_data_is_named(texts: list[str], words: str, data: Path, tmp_path: Path) -> None:
    (tmp_path / "wrong.txt").write_text("000\npairs/7\n")
    (tmp_path / "empty.txt").write_text("other/1\n")
    places = {"data": data / "pairs", "wrong": tmp_path / "wrong.txt", "empty": tmp_path / "empty.txt"}
    with pytest.raises(LLDiffusionError, match=words):
        read_sets({"pairs": [text.format(**places) for text in texts]})


def test_nothing_to_measure_and_equal_names_are_named(data: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"unchanged": [], "pictures": [], "told": False, "steps": 0, "device": "cpu"}
    options |= {"out": tmp_path, "sheet": None, "save": None}
    with pytest.raises(LLDiffusionError, match="give --pairs"):
        main([], [], [], **options)
    some = [f"a={data / 'pairs'}"]
    for results, words in (
        ([f"gamma={tmp_path}"], "two methods are called 'gamma'"),
        (["x"], "write NAME=FOLDER"),
        (["x=/nowhere"], "'/nowhere' is no folder"),
        ([f"x={tmp_path}"], "has no pictures '000'"),
    ):
        with pytest.raises(LLDiffusionError, match=words):
            main([], results, some, **options)
