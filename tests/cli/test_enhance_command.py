"""`lldiff enhance` as a user meets it: real files of every kind, and broken ones."""

from pathlib import Path

import numpy as np
import pytest

from lldiffusion.cli import run
from lldiffusion.config import load_config
from support.pictures import SMALL, dark, photograph
from support.untrained import see_all

torch = pytest.importorskip("torch")
PIL = pytest.importorskip("PIL.Image")

from lldiffusion.model import LLDiffusion, save_checkpoint  # noqa: E402


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    config = load_config("tiny", [*SMALL, "sampling.steps=1", "model.rest=0"])  # or what is not lifted stays as it is
    folder = tmp_path_factory.mktemp("model") / "small"
    save_checkpoint(folder, config, see_all(LLDiffusion(config)).state_dict())
    return str(folder)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with a JPEG (EXIF), a PNG with alpha, one in a folder below, and a text file."""
    low = (dark(photograph(height=64, width=80)) * 255).astype(np.uint8)
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    exif = PIL.Exif()
    exif[0x0110] = "Camera"  # Model
    PIL.fromarray(low).save(folder / "one.jpg", exif=exif, quality=95)
    alpha = np.full((64, 80, 1), 200, np.uint8)
    PIL.fromarray(np.concatenate([low, alpha], axis=2)).save(folder / "two.png")
    PIL.fromarray(low).save(folder / "below" / "three.webp", lossless=True)
    (folder / "notes.txt").write_text("not an image")
    return folder


def test_a_folder_keeps_names_formats_and_what_is_inside(model: str, photos: Path, tmp_path: Path) -> None:
    assert run(["enhance", str(photos), "-o", str(tmp_path / "out"), "--model", model]) == 0
    out = tmp_path / "out"
    assert sorted(str(p.relative_to(out)) for p in out.rglob("*.*")) == ["below/three.webp", "one.jpg", "two.png"]
    with PIL.open(out / "one.jpg") as jpeg, PIL.open(out / "two.png") as png:
        assert jpeg.format == "JPEG"
        assert jpeg.getexif()[0x0110] == "Camera"
        assert png.mode == "RGBA"
        assert np.asarray(png)[..., 3].min() == 200
        assert jpeg.size == png.size == (80, 64)


def test_one_file_to_one_file_and_globs(model: str, photos: Path, tmp_path: Path) -> None:
    target = tmp_path / "new" / "bright.png"
    assert run(["enhance", str(photos / "one.jpg"), "-o", str(target), "--model", model]) == 0
    with PIL.open(target) as image:
        assert image.format == "PNG"
    assert run(["enhance", str(photos / "*.png"), "-o", str(tmp_path / "glob"), "--model", model]) == 0
    assert [p.name for p in (tmp_path / "glob").iterdir()] == ["two.png"]


def test_sixteen_bits_stay_sixteen(model: str, tmp_path: Path) -> None:
    import pyvips

    ramp = (np.linspace(0, 6000, 64 * 64 * 3).reshape(64, 64, 3)).astype(np.uint16)
    pyvips.Image.new_from_memory(ramp.tobytes(), 64, 64, 3, "ushort").copy(interpretation="rgb16").pngsave(
        str(tmp_path / "deep.png")
    )
    assert run(["enhance", str(tmp_path / "deep.png"), "-o", str(tmp_path / "out"), "--model", model]) == 0
    assert pyvips.Image.new_from_file(str(tmp_path / "out" / "deep.png")).format == "ushort"


def test_nothing_is_overwritten_unasked(
    model: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "one.jpg").write_bytes(b"precious")
    arguments = ["enhance", str(photos / "one.jpg"), "-o", str(out), "--model", model]
    assert run(arguments) == 2
    assert "already there" in capsys.readouterr().err
    assert (out / "one.jpg").read_bytes() == b"precious"
    assert run([*arguments, "-y"]) == 0
    assert (out / "one.jpg").read_bytes() != b"precious"
    assert run(["enhance", str(photos / "one.jpg"), "-o", str(photos), "--model", model, "-y"]) == 2
    assert "would replace the input" in capsys.readouterr().err


def test_a_broken_file_does_not_stop_the_others(
    model: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "broken.jpg").write_bytes(b"\xff\xd8 this is no JPEG")
    assert run(["enhance", str(photos), "-o", str(tmp_path / "out"), "--model", model]) == 1
    error = capsys.readouterr().err
    assert "1 of 4 not enhanced" in error
    assert "broken.jpg" in error
    assert (tmp_path / "out" / "two.png").exists()
    assert not (tmp_path / "out" / "broken.jpg").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no-such.jpg"], "no-such.jpg"),
        (["{photos}/one.jpg", "{photos}/one.jpg"], "several inputs"),
        (["{photos}/one.jpg", "--model", "no-such-model"], "no-such-model"),
        (["{photos}/one.jpg", "--sampler", "magic"], "magic"),
        (["{photos}/one.jpg", "--tile", "big"], "big"),
        (["{photos}/one.jpg", "--steps", "0"], "steps"),
        (["{photos}/one.jpg", "--device", "cuda:99"], "cuda:99"),
        (["{photos}/notes.txt"], "notes.txt"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], words: str, model: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [argument.format(photos=photos) for argument in arguments]
    given += [] if "--model" in given else ["--model", model]
    assert run(["enhance", *given, "-o", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err.strip()
    assert words in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_samples_are_averaged_and_their_spread_is_saved(model: str, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["enhance", str(photos / "two.png"), "-o", str(out), "--model", model]
    command += ["--samples", "3", "--save-spread", "--steps", "4"]
    assert run(command) == 0
    with PIL.open(out / "two.spread.png") as spread, PIL.open(out / "two.png") as mean:
        assert (spread.mode, spread.size) == ("L", (80, 64))
        assert np.asarray(spread).max() > 0  # random weights do not agree with themselves
        assert mean.mode == "RGBA"
    (out / "two.png").unlink()
    assert run(command) == 2  # the spread would be replaced


def test_exposure_and_match_move_the_brightness(model: str, photos: Path, tmp_path: Path) -> None:
    """Random weights make no picture, but what they make follows the level that they are given."""
    seen = {}
    PIL.new("RGB", (8, 8), (200, 200, 200)).save(tmp_path / "reference.png")
    for name, options in {"as it is": [], "up": ["--exposure", "2"], "like": ["--match", "reference.png"]}.items():
        options = [str(tmp_path / o) if o.endswith(".png") else o for o in options]
        out = str(tmp_path / f"{name}.png")
        assert run(["enhance", str(photos / "two.png"), "-o", out, "--model", model, *options]) == 0
        with PIL.open(out) as picture:
            seen[name] = np.asarray(picture)[..., :3].astype(float)
    assert not np.array_equal(seen["as it is"], seen["up"])
    assert not np.array_equal(seen["as it is"], seen["like"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--match", "{photo}", "--exposure", "1"], "exclude each other"),
        (["--save-spread"], "--samples"),
        (["--samples", "8", "--steps", "1"], "samples of one step do not differ: add e.g. --steps 4"),
        (["--match", "nowhere.png"], "nowhere.png"),
    ],
)
def test_wishes_that_cannot_be_met(
    model: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    photo = str(photos / "two.png")
    command = ["enhance", photo, "-o", str(tmp_path / "out"), "--model", model]
    assert run([*command, *(option.format(photo=photo) for option in options)]) == 2
    assert said in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "out").exists()
