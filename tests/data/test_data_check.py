"""`lldiff data`: alignment, duplicates, overlap with test data, and simulated sets."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from scipy import ndimage
from skimage import data

from lldiffusion.cli import run
from lldiffusion.data.alignment import measure_alignment
from lldiffusion.data.check import check_data
from lldiffusion.data.fingerprint import compare, find_near, take_fingerprint
from lldiffusion.data.simulate import simulate
from lldiffusion.errors import LLDiffusionError
from lldiffusion.images import read_image, to_uint8
from support.pictures import photograph

PHOTOS = {
    "astronaut": data.astronaut()[:240, 100:460],
    "chelsea": data.chelsea()[20:260, 40:400],
    "coffee": data.coffee()[50:290, 100:460],
    "rocket": data.rocket()[100:340, 150:510],
    "hubble": data.hubble_deep_field()[100:340, 100:460],
    "cells": data.immunohistochemistry()[100:340, 100:460],
}


def as_float(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32) / 255


def dark(values: np.ndarray, seed: int = 0) -> np.ndarray:
    return to_uint8(simulate(as_float(values), np.random.default_rng(seed)))


def write_set(root: Path, names: list[str], seed: int = 0) -> Path:
    """low/ and normal/ of the photographs of those names."""
    for side in ("low", "normal"):
        (root / side).mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        Pillow.fromarray(PHOTOS[name]).save(root / "normal" / f"{name}.png")
        Pillow.fromarray(dark(PHOTOS[name], seed + number)).save(root / "low" / f"{name}.png")
    return root


@pytest.mark.parametrize("shift", [(0, 0), (0.4, -0.3), (1.5, 0.7), (-6, 4.2)])
@pytest.mark.parametrize("name", ["astronaut", "coffee"])
def test_shifts_are_measured_through_the_dark(name: str, shift: tuple[float, float]) -> None:
    normal = as_float(PHOTOS[name])
    moved = ndimage.shift(normal, (*shift, 0), order=3, mode="nearest").clip(0, 1)  # what the normal picture shows
    low = simulate(normal, np.random.default_rng(1))
    found = measure_alignment(low, moved)
    assert found.reliable
    assert (found.down, found.right) == pytest.approx(shift, abs=0.25)
    assert found.distance == pytest.approx(np.hypot(*shift), abs=0.25)


def test_different_scenes_are_no_measured_shift() -> None:
    assert not measure_alignment(as_float(dark(PHOTOS["coffee"])), as_float(PHOTOS["chelsea"])).reliable
    assert not measure_alignment(np.zeros((64, 64, 3), np.float32), as_float(PHOTOS["chelsea"][:64, :64])).reliable


@pytest.mark.parametrize("quality", [90, 40])
@pytest.mark.parametrize("size", [(360, 240), (180, 120), (500, 400)])
def test_a_photograph_is_known_again(tmp_path: Path, size: tuple[int, int], quality: int) -> None:
    known = [take_fingerprint(as_float(values)) for values in PHOTOS.values()]
    for index, values in enumerate(PHOTOS.values()):
        Pillow.fromarray(values).resize(size, Pillow.Resampling.BICUBIC).save(tmp_path / "a.jpg", quality=quality)
        again = take_fingerprint(read_image(tmp_path / "a.jpg").pixels)
        assert list(find_near([again], known)) == [(0, index, "identical")]


def test_dark_versions_are_known_again(tmp_path: Path) -> None:
    known = [take_fingerprint(as_float(dark(values))) for values in PHOTOS.values()]
    for index, values in enumerate(PHOTOS.values()):
        Pillow.fromarray(dark(values)).resize((300, 200)).save(tmp_path / "a.jpg", quality=85)
        again = take_fingerprint(read_image(tmp_path / "a.jpg").pixels)
        assert list(find_near([again], known)) == [(0, index, "identical")]


def test_another_exposure_is_the_same_scene() -> None:
    scene = as_float(PHOTOS["coffee"])
    assert compare(take_fingerprint(scene), take_fingerprint(scene * np.float32(0.8))) == "same scene"
    assert compare(take_fingerprint(scene), take_fingerprint(as_float(PHOTOS["chelsea"]))) is None
    black = take_fingerprint(np.zeros((40, 40, 3), np.float32))
    assert compare(black, take_fingerprint(np.ones((40, 40, 3), np.float32))) is None
    assert compare(black, black) == "identical"


def test_a_clean_set(tmp_path: Path) -> None:
    report = check_data(write_set(tmp_path, ["astronaut", "coffee"]))
    assert report.paired
    assert [seen.item.name for seen in report.seen] == ["astronaut", "coffee"]
    assert report.seen[0].size == (360, 240)
    assert report.seen[0].brightness["normal"] == pytest.approx(PHOTOS["astronaut"].mean() / 255, abs=1e-4)
    assert report.seen[0].brightness["low"] == pytest.approx(dark(PHOTOS["astronaut"]).mean() / 255, abs=1e-4)
    assert (report.problems, report.misaligned, report.unclear, report.duplicates) == ([], [], [], [])


def test_faults_are_found(tmp_path: Path) -> None:
    write_set(tmp_path, ["astronaut", "coffee", "chelsea", "rocket"])
    Pillow.fromarray(np.roll(PHOTOS["coffee"], 3, axis=1)).save(tmp_path / "normal" / "coffee.png")
    Pillow.fromarray(PHOTOS["hubble"]).save(tmp_path / "normal" / "chelsea.png")
    for side in ("low", "normal"):
        picture = Pillow.open(tmp_path / side / "astronaut.png").resize((300, 200))
        picture.save(tmp_path / side / "copy.png")
    whole = (tmp_path / "low" / "rocket.png").read_bytes()
    (tmp_path / "low" / "rocket.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "low" / "lonely.png").write_bytes(whole)
    report = check_data(tmp_path)
    assert [seen.item.name for seen in report.misaligned] == ["coffee"]
    assert [seen.item.name for seen in report.unclear] == ["chelsea"]
    assert [(m.name, m.other) for m in report.duplicates] == [("astronaut", "copy")]
    assert len(report.problems) == 2
    assert "lonely.png" in report.problems[0]
    assert "rocket.png" in report.problems[1]


def test_overlap_is_found_on_the_side_that_both_have(tmp_path: Path) -> None:
    train = write_set(tmp_path / "train", ["astronaut", "coffee", "chelsea"])
    test = write_set(tmp_path / "test", ["rocket", "coffee"], seed=7)
    Pillow.fromarray(to_uint8(as_float(PHOTOS["chelsea"]) * 0.8)).save(test / "normal" / "again.png")
    Pillow.fromarray(dark(PHOTOS["chelsea"], 9)).save(test / "low" / "again.png")
    report = check_data(train, test)
    assert [(m.name, m.other, m.likeness) for m in report.overlaps] == [
        ("coffee", "coffee", "identical"),
        ("chelsea", "again", "same scene"),
    ]
    assert [m.name for m in report.identical] == ["coffee"]
    photographs = check_data(train / "normal", test)  # single pictures against pairs
    assert not photographs.paired
    assert [(m.name, m.other) for m in photographs.identical] == [("coffee.png", "coffee")]


def test_several_exposures_of_one_scene_are_not_duplicates(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Pillow.fromarray(PHOTOS["coffee"]).save(tmp_path / "images" / "n.png")
    for name in ("a", "b"):
        Pillow.fromarray(dark(PHOTOS["coffee"])).save(tmp_path / "images" / f"{name}.png")
    (tmp_path / "pairs.csv").write_text("low,normal\na.png,n.png\nb.png,n.png\n")
    assert check_data(tmp_path).duplicates == []


def test_half_a_data_set_is_not_taken_for_single_pictures(tmp_path: Path) -> None:
    write_set(tmp_path, ["coffee"])
    (tmp_path / "normal").rename(tmp_path / "nomral")
    with pytest.raises(LLDiffusionError, match="no pairs under"):
        check_data(tmp_path)


def test_command_passes_a_clean_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = write_set(tmp_path / "train", ["astronaut", "coffee"])
    test = write_set(tmp_path / "test", ["rocket"])
    arguments = ["data", "check", str(train), "--against", str(test), "-o", str(tmp_path / "report.json")]
    assert run(arguments) == 0
    shown = capsys.readouterr()
    assert "360x240 (2)" in shown.out
    assert shown.err == ""
    report = json.loads((tmp_path / "report.json").read_text())
    assert [image["name"] for image in report["images"]] == ["astronaut", "coffee"]
    assert set(report["images"][0]["shift_pixels"]) == {"down", "right", "agreement"}
    assert report["overlaps"] == []


def test_command_fails_on_overlap(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = write_set(tmp_path / "train", ["astronaut", "coffee"])
    test = write_set(tmp_path / "test", ["coffee"])
    assert run(["data", "check", str(train), "--against", str(test)]) == 2
    error = capsys.readouterr().err
    assert "coffee = coffee" in error
    assert "leave them out" in error


def test_command_fails_on_damage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_set(tmp_path, ["astronaut", "coffee"])
    (root / "low" / "coffee.png").write_bytes(b"nothing")
    assert run(["data", "check", str(root)]) == 2
    assert "coffee.png" in capsys.readouterr().err
    assert run(["data", "check", str(tmp_path / "nothing")]) == 2
    assert run(["data", "check", str(root), "-o", str(tmp_path / "no" / "report.json")]) == 2


def test_simulate_writes_reproducible_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "photos" / "sub"
    source.mkdir(parents=True)
    pixels = to_uint8(photograph())
    Pillow.fromarray(pixels).save(source / "a.jpg")
    Pillow.fromarray(pixels).save(source / "a.png")
    for out in ("one", "two"):
        arguments = ["data", "simulate", str(source.parent), str(tmp_path / out), "--seed", "5", "--count", "3"]
        assert run(arguments) == 0
    names = ["sub_a_jpg-1.png", "sub_a_jpg.png", "sub_a_png.png"]
    for side in ("low", "normal"):
        assert sorted(p.name for p in (tmp_path / "one" / side).iterdir()) == names
        for name in names:
            assert (tmp_path / "one" / side / name).read_bytes() == (tmp_path / "two" / side / name).read_bytes()
    first, again = (np.asarray(Pillow.open(tmp_path / "one" / "low" / name)) for name in names[:2])
    assert not np.array_equal(first, again)
    np.testing.assert_array_equal(np.asarray(Pillow.open(tmp_path / "one" / "normal" / "sub_a_png.png")), pixels)
    assert run(["data", "check", str(tmp_path / "one")]) == 0
    capsys.readouterr()
    assert run(["data", "simulate", str(source.parent), str(tmp_path / "one")]) == 2
    assert "already hold" in capsys.readouterr().err
