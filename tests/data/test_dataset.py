"""Training crops: both images alike, reproducible, and from the right side of the split."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lldiffusion.config import DataConfig
from lldiffusion.errors import LLDiffusionError
from support.pictures import write_pairs

torch = pytest.importorskip("torch")

from lldiffusion.data.dataset import PairCrops, find_sources, load_pixels  # noqa: E402
from lldiffusion.data.illumination import draw_light  # noqa: E402
from lldiffusion.engines.level import reduce_picture  # noqa: E402
from lldiffusion.images import Image, write_image  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs whose low image is exactly half the normal one, so that a mismatch of crops shows."""
    root = tmp_path_factory.mktemp("halves")
    rng = np.random.default_rng(0)
    for number in range(4):
        normal = (rng.integers(0, 128, (96, 128, 3)) * 2).astype(np.float32) / np.float32(255)
        for side, pixels in (("low", normal * np.float32(0.5)), ("normal", normal)):
            (root / side).mkdir(exist_ok=True)
            write_image(root / side / f"{number}.png", Image(pixels=pixels, format="png"))
    return root


def _crops(folder: Path, length: int = 16, **settings: object) -> PairCrops:
    config = replace(DataConfig(pairs=(str(folder),), crop=64, validation=1), **settings)  # type: ignore[arg-type]
    sources, _ = find_sources(config)
    return PairCrops(sources, config, seed=5, length=length)


def test_both_images_are_cropped_flipped_and_turned_alike(folder: Path) -> None:
    data = _crops(folder)
    for sample in (data[i] for i in range(16)):
        torch.testing.assert_close((sample["low"] + 1) * 2, sample["normal"] + 1, atol=0.02, rtol=0)
        assert sample["low"].shape == (3, 64, 64)


def test_resized_crops_still_agree(folder: Path) -> None:
    data = _crops(folder, scale_min=0.5)
    for sample in (data[i] for i in range(8)):
        torch.testing.assert_close((sample["low"] + 1) * 2, sample["normal"] + 1, atol=0.02, rtol=0)


def test_all_eight_orientations_occur(folder: Path) -> None:
    config = DataConfig(pairs=(str(folder),), crop=96, validation=3)  # one pair left, 96x128
    sources, _ = find_sources(replace(config, pairs=(str(folder),)))
    data = PairCrops(sources, config, seed=0, length=64)
    with_corner = sources[0].pairs[0]
    normal = torch.from_numpy(load_pixels(with_corner.normal)).permute(2, 0, 1) * 2 - 1
    seen: set[int] = set()
    for index in range(64):
        crop = data[index]["normal"]
        for k in set(range(8)) - seen:
            turned = torch.rot90(crop.flip(2) if k > 3 else crop, k % 4, (1, 2))
            if any(torch.allclose(turned, normal[:, :, left : left + 96], atol=1e-3) for left in range(33)):
                seen.add(k)
    assert seen == set(range(8))


def test_a_sample_depends_on_its_number_alone(folder: Path) -> None:
    one, two = _crops(folder), _crops(folder, length=99)
    assert torch.equal(one[7]["low"], two[7]["low"])
    assert not torch.equal(one[7]["low"], one[8]["low"])


def test_crops_per_image_share_their_photograph(folder: Path) -> None:
    data = _crops(folder, crops_per_image=4, crop=96)
    means = [round(float(data[i]["normal"].mean()), 4) for i in range(8)]
    assert len(set(means[:4])) <= 4
    assert not torch.equal(data[0]["normal"], data[1]["normal"])


def test_held_out_pairs_are_never_drawn(folder: Path) -> None:
    config = DataConfig(pairs=(str(folder),), crop=64, validation=2)
    sources, held_out = find_sources(config)
    assert not {p.name for p in sources[0].pairs} & {p.name for p in held_out}
    assert len(held_out) == 2


def test_exposure_touches_only_the_low_image(folder: Path) -> None:
    plain, exposed = _crops(folder), _crops(folder, expose=1.0, gamma=0.2, cast=0.1)
    assert torch.equal(plain[3]["normal"], exposed[3]["normal"])
    assert not torch.equal(plain[3]["low"], exposed[3]["low"])


def test_normal_photographs_are_darkened(folder: Path) -> None:
    config = DataConfig(normal=(str(folder / "normal"),), crop=64)
    sources, held_out = find_sources(config)
    sample = PairCrops(sources, config, seed=0, length=4)[0]
    assert held_out == []
    assert sample["low"].mean() < sample["normal"].mean() - 0.2


def test_small_photographs_are_enlarged(tmp_path: Path) -> None:
    folder = write_pairs(tmp_path, count=2, height=40, width=50)
    data = _crops(folder)
    assert data[0]["low"].shape == (3, 64, 64)


def test_too_few_pairs_and_none(folder: Path) -> None:
    with pytest.raises(LLDiffusionError, match="none to train on"):
        find_sources(DataConfig(pairs=(str(folder),), validation=4))
    with pytest.raises(LLDiffusionError, match="nothing to train on"):
        find_sources(DataConfig())


def test_test_images_of_a_layout_are_left_out(tmp_path: Path) -> None:
    """The root of LOL-v1 holds its test set beside its training set."""
    write_pairs(tmp_path / "our485", count=3)
    write_pairs(tmp_path / "eval15", count=2)
    sources, held_out = find_sources(DataConfig(pairs=(str(tmp_path),), validation=1))
    used = [p.normal for p in (*sources[0].pairs, *held_out)]
    assert len(used) == 3
    assert all("our485" in str(path) for path in used)


def test_a_crop_knows_its_whole_picture(folder: Path) -> None:
    """The thumbnail is the area average of the whole, turned as the crop is, and the window says where it lies."""
    data = _crops(folder, part_min=1.0)
    for sample in (data[i] for i in range(8)):
        assert sample["thumbnail"].shape == sample["normal_thumbnail"].shape == (3, 64, 96)
        torch.testing.assert_close((sample["thumbnail"] + 1) * 2, sample["normal_thumbnail"] + 1, atol=0.02, rtol=0)
        top, left, bottom, right = sample["window"].tolist()
        turned = abs((bottom - top) * 96 - 64) > 0.5  # a crop of 64 px spans 64 of 96 rows, or of 128
        assert ((bottom - top) * (128 if turned else 96)) == pytest.approx(64, abs=1e-3)
        assert ((right - left) * (96 if turned else 128)) == pytest.approx(64, abs=1e-3)
        assert 0 <= top < bottom <= 1 and 0 <= left < right <= 1


def test_thumbnails_are_area_averages() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (128, 96, 3), np.uint8)
    small = reduce_picture(picture)
    np.testing.assert_allclose(small, picture.reshape(64, 2, 96, 3).mean(axis=1), rtol=1e-5)
    odd = np.random.default_rng(1).random((101, 77, 3), np.float32)
    np.testing.assert_allclose(reduce_picture(odd).mean(axis=(0, 1)), odd.mean(axis=(0, 1)), rtol=1e-5)


def test_pictures_that_need_nothing_are_as_they_are(folder: Path) -> None:
    config = DataConfig(normal=(str(folder / "normal"),), crop=64, as_is=1.0, expose=1.0, cast=0.2, offset=2.0)
    sources, _ = find_sources(config)
    data = PairCrops(sources, config, seed=0, length=8)
    for sample in (data[i] for i in range(8)):
        assert torch.equal(sample["low"], sample["normal"])
        assert torch.equal(sample["thumbnail"], sample["normal_thumbnail"])


def test_saturation_moves_both_sides_alike(folder: Path) -> None:
    plain, coloured = _crops(folder, length=40), _crops(folder, length=40, saturate=0.3)
    ratios = [_chroma(coloured[i]["normal"]) / _chroma(plain[i]["normal"]) for i in range(40)]
    lows = [_chroma(coloured[i]["low"]) / _chroma(plain[i]["low"]) for i in range(40)]
    assert 8 < sum(abs(ratio - 1) < 1e-5 for ratio in ratios) < 32
    assert min(ratios) < 0.9 < 1.1 < max(ratios)
    assert np.corrcoef(ratios, lows)[0, 1] > 0.9


def _chroma(planes: Any) -> float:
    return float((planes - planes.mean(dim=0, keepdim=True)).std())


def test_lists_name_what_is_held_out_and_left_out(folder: Path, tmp_path: Path) -> None:
    held, never = tmp_path / "held.txt", tmp_path / "never.txt"
    held.write_text(f"{folder.name}/1\nelsewhere/2\n")
    never.write_text(f"{folder.name}/3\n")
    config = DataConfig(pairs=(str(folder),), crop=64, held_out=(str(held),), never=(str(never),))
    sources, held_out = find_sources(config)
    assert [p.name for p in held_out] == ["1"]
    assert [p.name for p in sources[0].pairs] == ["0", "2"]
    keep = tmp_path / "keep.txt"
    keep.write_text("elsewhere/0\n")  # restricts another folder
    assert len(find_sources(replace(config, include=(str(keep),)))[0][0].pairs) == 2
    held.write_text("nothing/9\n")
    with pytest.raises(LLDiffusionError, match="FOLDER/NAME"):
        find_sources(config)


def test_uneven_light_leaves_lit_parts(folder: Path) -> None:
    fields = [draw_light(60, 90, np.random.default_rng(seed)) for seed in range(8)]
    assert {field.shape for field in fields} == {(60, 90)}
    assert all(0 < field.min() < 0.5 * field.max() and field.max() <= 1 for field in fields)
    assert max(field.max() for field in fields) > 0.5
