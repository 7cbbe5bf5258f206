"""Folder layouts to pairs, and one error for everything that is wrong with them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from lldiffusion.data.layouts import find_pairs, find_unpaired, has_pairs, validate_pairs
from lldiffusion.errors import LLDiffusionError
from lldiffusion.images import list_images


def picture(path: Path, width: int = 12, height: int = 8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(np.full((height, width, 3), 90, np.uint8)).save(path)
    return path


def names(root: Path, split: str | None = None) -> list[tuple[str, str, str]]:
    """(name, low, normal) relative to the root."""
    return [
        (pair.name, pair.low.relative_to(root).as_posix(), pair.normal.relative_to(root).as_posix())
        for pair in validate_pairs(find_pairs(root, split))
    ]


def test_lol_v1(tmp_path: Path) -> None:
    for part, number in (("our485", 2), ("our485", 10), ("eval15", 1)):
        for side in ("low", "high"):
            picture(tmp_path / part / side / f"{number}.png")
    train = [(f"our485/{n}", f"our485/low/{n}.png", f"our485/high/{n}.png") for n in (10, 2)]
    test = [("eval15/1", "eval15/low/1.png", "eval15/high/1.png")]
    assert names(tmp_path, "train") == train
    assert names(tmp_path, "test") == test
    assert names(tmp_path) == test + train
    assert names(tmp_path / "eval15") == [("1", "low/1.png", "high/1.png")]


def test_lol_v2(tmp_path: Path) -> None:
    for subset, low, normal in (
        ("Real_captured", "low00001", "normal00001"),
        ("Synthetic", "r00816405t", "r00816405t"),
    ):
        for split in ("Train", "Test"):
            picture(tmp_path / subset / split / "Low" / f"{low}.png")
            picture(tmp_path / subset / split / "Normal" / f"{normal}.png")
    assert names(tmp_path, "test") == [
        (
            "Real_captured/Test/00001",
            "Real_captured/Test/Low/low00001.png",
            "Real_captured/Test/Normal/normal00001.png",
        ),
        ("Synthetic/Test/r00816405t", "Synthetic/Test/Low/r00816405t.png", "Synthetic/Test/Normal/r00816405t.png"),
    ]
    assert len(names(tmp_path)) == 4
    assert [name for name, _, _ in names(tmp_path / "Real_captured", "train")] == ["Train/00001"]


@pytest.mark.parametrize("kind", ["Cap", "Syn"])
def test_ve_lol(tmp_path: Path, kind: str) -> None:
    for split in ("train", "test"):
        for side in ("Low", "Normal"):
            picture(tmp_path / f"VE-LOL-L-{kind}-{side}_{split}" / f"{side.lower()}00690.png")
    assert names(tmp_path, "test") == [
        (
            "00690",
            f"VE-LOL-L-{kind}-Low_test/low00690.png",
            f"VE-LOL-L-{kind}-Normal_test/normal00690.png",
        )
    ]
    assert len(find_pairs(tmp_path)) == 2


@pytest.mark.parametrize("side", ["normal", "high", "Normal", "gt"])
def test_any_low_folder_with_equal_stems(tmp_path: Path, side: str) -> None:
    picture(tmp_path / "deep" / "low" / "b c.jpg")
    picture(tmp_path / "deep" / side / "b c.png")
    picture(tmp_path / ".cache" / "low" / "x.png")  # hidden: not looked at
    (tmp_path / "deep" / "low" / "notes.txt").touch()
    assert names(tmp_path) == [("deep/b c", "deep/low/b c.jpg", f"deep/{side}/b c.png")]
    assert names(tmp_path, "train") == names(tmp_path, "test") == names(tmp_path)  # a layout without splits


def test_table_of_pairs(tmp_path: Path) -> None:
    for name in ("1.jpg", "2.jpg", "5.jpg"):
        picture(tmp_path / "images" / name)
    (tmp_path / "pairs.csv").write_text("low,normal\n2.jpg,5.jpg\n1.jpg,5.jpg\n")
    assert names(tmp_path) == [("1_5", "images/1.jpg", "images/5.jpg"), ("2_5", "images/2.jpg", "images/5.jpg")]


@pytest.mark.parametrize(
    ("text", "reason"), [("a,b\n", "low,normal"), ("", "low,normal"), ("low,normal\nx.png,\n", "line 2")]
)
def test_bad_tables_are_named(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(LLDiffusionError, match=reason):
        find_pairs(tmp_path)


def test_everything_wrong_is_named_at_once(tmp_path: Path) -> None:
    for name in ("good", "small", "broken", "lonely", "empty"):
        picture(tmp_path / "low" / f"{name}.png")
        if name != "lonely":
            picture(tmp_path / "normal" / f"{name}.png", width=6 if name == "small" else 12)
    picture(tmp_path / "normal" / "widow.png")
    (tmp_path / "low" / "broken.png").write_text("no picture")
    (tmp_path / "normal" / "empty.png").write_bytes(b"")
    with pytest.raises(LLDiffusionError) as caught:
        validate_pairs(find_pairs(tmp_path))
    message = str(caught.value)
    assert message.startswith("5 problems in 6 pairs:")
    assert "sizes differ" in message
    assert "12x8" in message
    assert "6x8" in message
    assert "low/broken.png': not an image" in message
    assert "normal/empty.png': the file is empty" in message
    assert f"'{tmp_path}/low/lonely.png' has no partner '{tmp_path}/normal/lonely.png'" in message
    assert f"'{tmp_path}/normal/widow.png' has no partner '{tmp_path}/low/widow.png'" in message
    assert "good" not in message


def test_a_missing_partner_is_named_as_its_side_names_files(tmp_path: Path) -> None:
    picture(tmp_path / "Low" / "low00001.png")
    picture(tmp_path / "Normal" / "normal00002.png")
    with pytest.raises(LLDiffusionError, match=r"Normal/normal00001\.png.*\n.*Low/low00002\.png"):
        validate_pairs(find_pairs(tmp_path))


def test_an_empty_folder_is_one_line(tmp_path: Path) -> None:
    for number in range(30):
        picture(tmp_path / "low" / f"{number}.png")
    (tmp_path / "normal").mkdir()
    with pytest.raises(LLDiffusionError, match=r"1 problem in 30 pairs:\n  '.*normal' holds no images"):
        validate_pairs(find_pairs(tmp_path))


def test_long_lists_are_cut(tmp_path: Path) -> None:
    for number in range(30):
        picture(tmp_path / "low" / f"{number}.png")
    picture(tmp_path / "normal" / "0.png")
    with pytest.raises(LLDiffusionError, match=r"29 problems") as caught:
        validate_pairs(find_pairs(tmp_path))
    assert str(caught.value).endswith("and 9 more")


def test_one_stem_twice_is_an_error(tmp_path: Path) -> None:
    for name in ("low/1.png", "low/1.jpg", "normal/1.png"):
        picture(tmp_path / name)
    with pytest.raises(LLDiffusionError, match=r"two images with one stem: .*1\.jpg.*1\.png"):
        find_pairs(tmp_path)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(LLDiffusionError, match="no such folder"):
        find_pairs(tmp_path / "nothing")
    with pytest.raises(LLDiffusionError, match="it is empty"):
        find_pairs(tmp_path)
    picture(tmp_path / "photos" / "a.png")
    with pytest.raises(LLDiffusionError, match=r"expected low/ beside .*it holds photos/"):
        find_pairs(tmp_path)
    with pytest.raises(LLDiffusionError, match=r"unknown split 'tset'.*did you mean 'test'"):
        find_pairs(tmp_path, "tset")
    with pytest.raises(LLDiffusionError, match="no pairs"):
        validate_pairs([])


def test_a_missing_split_is_said(tmp_path: Path) -> None:
    for side in ("low", "high"):
        picture(tmp_path / "our485" / side / "1.png")
    with pytest.raises(LLDiffusionError, match="has no test part"):
        find_pairs(tmp_path, "test")


def test_unpaired_images_are_found_in_all_folders(tmp_path: Path) -> None:
    picture(tmp_path / "b.png")
    picture(tmp_path / "DICM" / "a.jpg")
    assert find_unpaired(tmp_path) == [tmp_path / "DICM" / "a.jpg", tmp_path / "b.png"]
    assert not has_pairs(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(LLDiffusionError, match="no images under"):
        find_unpaired(tmp_path / "empty")


def test_the_shared_data(shared: Path) -> None:
    """What the layouts promise, however many pictures lie there: each in one pair, both files usable, no name twice."""
    data = shared / "data"
    train, test = find_pairs(data / "LOL", "train"), find_pairs(data / "LOL", "test")
    assert {p.low.parent for p in train} == {data / "LOL" / "our485" / "low"}
    assert {p.low.parent for p in test} == {data / "LOL" / "eval15" / "low"}
    assert sorted(validate_pairs(train + test), key=lambda pair: pair.name) == find_pairs(data / "LOL")
    for name in ("LOL/our485", "LOL/eval15", "pairs", "mixed_light"):
        found = validate_pairs(find_pairs(data / name))
        for side, files in (("low", [p.low for p in found]), ("normal", [p.normal for p in found])):
            (folder,) = {file.parent for file in files}
            assert folder.parent == data / name and sorted(files) == list_images(folder), side
    table = (data / "multi_exposure" / "pairs.csv").read_text().split()
    assert len(validate_pairs(find_pairs(data / "multi_exposure"))) == len(table) - 1 > 0
