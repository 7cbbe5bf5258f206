"""Folders of every kind of file: nothing stops the others, nothing is passed over without a word."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from lldiffusion.cli import run
from lldiffusion.cli.batch import choose_format, plan_batch
from lldiffusion.errors import LLDiffusionError, printable
from lldiffusion.images import Image, read_image, write_image
from lldiffusion.scale.places import Place
from support.toy import toy_bundle


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, Image(np.full((32, 48, 3), 0.1, np.float32)))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(toy_bundle(tmp_path_factory.mktemp("toy") / "toy"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures, a hidden one, and files of kinds that are not read."""
    for name in ("a.jpg", "below/b.png", "._a.jpg", ".thumbnails/c.png"):
        picture(tmp_path / "in" / name)
    for name in ("movie.mov", "sheet.pdf", "below/notes.txt"):
        (tmp_path / "in" / name).write_bytes(b"x")
    return tmp_path / "in"


def names(jobs: list[tuple[Place, Place]], root: Path) -> list[str]:
    return [Path(str(output)).relative_to(root).as_posix() for _, output in jobs]


def test_hidden_files_are_left_out_and_others_are_named(folder: Path, tmp_path: Path) -> None:
    batch = plan_batch([str(folder)], str(tmp_path / "out"))
    assert names(batch.jobs, tmp_path / "out") == ["a.jpg", "below/b.png"]
    assert [path.name for path in batch.passed_over] == ["notes.txt", "movie.mov", "sheet.pdf"]


def test_an_output_folder_inside_the_input_does_not_feed_on_itself(folder: Path, tmp_path: Path) -> None:
    out = folder / "bright"
    picture(out / "a.jpg")
    assert names(plan_batch([str(folder)], str(out), overwrite=True).jobs, out) == ["a.jpg", "below/b.png"]


@pytest.mark.parametrize("out", ["x.psd", "x.dng", "results.gif"])
def test_an_output_that_cannot_be_written_is_an_error_and_no_folder(folder: Path, tmp_path: Path, out: str) -> None:
    with pytest.raises(LLDiffusionError, match=r"cannot write .*accepted suffixes are .png.*'.*/'"):
        plan_batch([str(folder / "a.jpg")], str(tmp_path / out))
    assert names(plan_batch([str(folder / "a.jpg")], f"{tmp_path / out}/").jobs, tmp_path) == [f"{out}/a.jpg"]


def test_existing_outputs_can_be_skipped(folder: Path, tmp_path: Path) -> None:
    done = picture(tmp_path / "out" / "a.jpg")
    with pytest.raises(LLDiffusionError, match=r"already there: .*a\.jpg"):
        plan_batch([str(folder)], str(done.parent))
    batch = plan_batch([str(folder)], str(done.parent), skip_existing=True)
    assert names(batch.jobs, done.parent) == ["below/b.png"] and batch.existing == [folder / "a.jpg"]


def test_formats_change_names_and_what_is_written(folder: Path, tmp_path: Path, model: str) -> None:
    assert choose_format("jpg") == "jpeg" and choose_format("TIF") == "tiff"
    with pytest.raises(LLDiffusionError, match="unknown format 'gif'"):
        choose_format("gif")
    with pytest.raises(LLDiffusionError, match="say different things"):
        plan_batch([str(folder / "a.jpg")], str(tmp_path / "a.png"), "webp")
    out = tmp_path / "out"
    assert run(["enhance", str(folder), "-o", str(out), "--model", model, "--format", "webp", "--quality", "40"]) == 0
    assert {p.relative_to(out).as_posix() for p in out.rglob("*.*")} == {"a.webp", "below/b.webp"}
    assert read_image(out / "a.webp").format == "webp" and not read_image(out / "below" / "b.webp").lossless


def test_quality_decides_the_size_and_is_refused_where_it_says_nothing(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(0).random((64, 64, 3)).astype(np.float32)
    sizes = []
    for quality in (30, 90):
        write_image(tmp_path / "a.jpg", Image(noise), quality)
        sizes.append((tmp_path / "a.jpg").stat().st_size)
    assert sizes[0] < sizes[1] / 2
    source = str(picture(tmp_path / "b.png"))
    assert run(["enhance", source, "-o", str(tmp_path / "out"), "--model", model, "--quality", "40"]) == 2
    assert "--quality is for JPEG and WebP" in capsys.readouterr().err


NAMES = [b"caf\xe9.png", b"a\nb.jpg", b"c[1].tif", b"q" * 250 + b".bmp", "ü".encode() * 120 + b".webp", b"-.png"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_of_every_kind_are_read_and_written(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in NAMES:
        picture(tmp_path / "in" / os.fsdecode(name))
    out = tmp_path / "out"
    assert run(["enhance", str(tmp_path / "in"), "-o", str(out), "--model", model, "--verbose"]) == 0
    assert {os.fsencode(path.name) for path in out.iterdir()} == set(NAMES)
    said = capsys.readouterr()
    assert "6 enhanced" in said.out and "caf\\xe9.png" in said.err and "a\\nb.jpg" in said.err


def test_one_bad_file_fails_alone_with_exit_code_1(
    folder: Path, tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "torn\nname.jpg").write_bytes(b"\xff\xd8 no JPEG")
    assert run(["enhance", str(folder), "-o", str(tmp_path / "out"), "--model", model]) == 1
    said = capsys.readouterr()
    assert said.out.strip() == f"2 enhanced in {tmp_path / 'out'}, 1 failed, 3 passed over"
    first, *_, count, reason = said.err.strip().splitlines()  # the bar between them
    assert first.startswith("passed over") and "movie.mov" in first and "sheet.pdf" in first
    assert count == "error: 1 of 3 not enhanced:" and "torn\\nname.jpg" in reason


def test_an_error_of_the_system_fails_alone_too(
    folder: Path, tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import lldiffusion.images as images

    def deny(path: Path, max_pixels: int) -> Image:
        if path.name == "a.jpg":
            raise PermissionError(13, "Permission denied", str(path))
        return read_image(path, max_pixels)

    monkeypatch.setattr(images, "read_image", deny)
    assert run(["enhance", str(folder), "-o", str(tmp_path / "out"), "--model", model]) == 1
    assert "a.jpg': Permission denied" in capsys.readouterr().err
    assert (tmp_path / "out" / "below" / "b.png").is_file()


def test_quiet_prints_nothing(folder: Path, tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["enhance", str(folder), "-o", str(tmp_path / "out"), "--model", model, "-q"]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")


def test_a_picture_comes_and_goes_through_pipes(tmp_path: Path, model: str) -> None:
    source = picture(tmp_path / "a.webp").read_bytes()
    command = [sys.executable, "-m", "lldiffusion", "enhance", "-", "-o", "-", "--model", model]
    for options, kind in ([], "WEBP"), (["--format", "png"], "PNG"):
        done = subprocess.run([*command, *options], input=source, capture_output=True, check=True)
        with Pillow.open(io.BytesIO(done.stdout)) as result:
            assert (result.format, result.size) == (kind, (48, 32))
        assert b"enhanced: standard output" in done.stderr
    failed = subprocess.run([*command[:-3], str(tmp_path), "--model", model], input=source, capture_output=True)
    assert failed.returncode == 2 and b"has no name: give a file as -o" in failed.stderr


def test_printable_names() -> None:
    assert printable(Path("a b/ü.jpg")) == "a b/ü.jpg"
    assert printable("caf\udce9\n\t\x1b.jpg") == "caf\\xe9\\n\\t\\x1b.jpg"
