"""Several videos, or a folder of them, in one command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lldiffusion.cli import run
from lldiffusion.images import Image, write_image
from support import clips
from support.toy import toy_bundle

pytest.importorskip("av")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return ["--model", str(toy_bundle(tmp_path_factory.mktemp("model") / "toy")), "--steps", "1", "--end", "0.12"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two videos, a GIF in a folder below, a text, a hidden file."""
    home = tmp_path / "in"
    (home / "more").mkdir(parents=True)
    clips.plain(home / "a.mp4")
    clips.ffmpeg(*clips.VIDEO, "-c:v", "wmv2", home / "b.wmv")
    clips.ffmpeg(*clips.VIDEO, "-t", "0.2", home / "more" / "c.gif")
    (home / "notes.txt").write_text("no video")
    (home / "._a.mp4").write_bytes(b"hidden")
    return home


def made(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_folder(model: list[str], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["video", str(folder), str(tmp_path / "out"), *model]) == 0
    out, error = capsys.readouterr()
    assert made(tmp_path / "out") == ["a.mp4", "b.mp4", "more/c.gif"]
    assert "notes.txt" in error and "._a" not in error
    assert out.startswith(f"[1/3] {folder / 'a.mp4'}\n")
    assert out.endswith("3 of 3 done, 1 passed over\n")
    assert len(clips.times(tmp_path / "out" / "b.mp4")) == 3


def test_an_output_inside_the_input_feeds_on_nothing(model: list[str], folder: Path) -> None:
    for _ in range(2):
        assert run(["video", str(folder), str(folder / "out"), *model, "-y"]) == 0
    assert made(folder / "out") == ["a.mp4", "b.mp4", "more/c.gif"]


def test_one_video_never_stops_the_others(
    model: list[str], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "a.mp4").write_bytes(b"not a video" * 100)
    names = [str(folder / "a.mp4"), str(folder / "b.wmv")]
    assert run(["video", *names, str(tmp_path / "out"), *model]) == 1
    out, error = capsys.readouterr()
    assert out.endswith("1 of 2 done, 1 failed\n")
    assert "not a video that FFmpeg knows" in error
    assert error.endswith(f"error: 1 of 2 not enhanced: {names[0]}\n")
    assert made(tmp_path / "out") == ["b.mp4"]


def test_resume_leaves_finished_ones(
    model: list[str], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["video", str(folder / "a.mp4"), str(folder / "b.wmv"), str(tmp_path / "out"), *model]
    assert run(["video", str(folder / "a.mp4"), str(tmp_path / "out" / "a.mp4"), *model]) == 2  # no folder yet
    (tmp_path / "out").mkdir()
    assert run(["video", str(folder / "a.mp4"), str(tmp_path / "out" / "a.mp4"), *model]) == 0
    before = (tmp_path / "out" / "a.mp4").stat().st_mtime_ns
    assert run(arguments) == 2
    assert "already there" in capsys.readouterr().err
    assert run([*arguments, "--resume"]) == 0
    out = capsys.readouterr().out
    assert f"finished already: {tmp_path / 'out' / 'a.mp4'}\n" in out
    assert out.endswith("2 of 2 done\n")
    assert (tmp_path / "out" / "a.mp4").stat().st_mtime_ns == before


def test_a_folder_with_pictures_is_a_sequence_for_one_video(model: list[str], folder: Path, tmp_path: Path) -> None:
    write_image(folder / "1.png", Image(np.full((64, 96, 3), 0.2, np.float32)))
    assert run(["video", str(folder), str(tmp_path / "out.mp4"), *model]) == 0
    assert len(clips.times(tmp_path / "out.mp4")) == 1
    assert run(["video", str(folder), str(tmp_path / "out"), *model]) == 0
    assert made(tmp_path / "out") == ["a.mp4", "b.mp4", "more/c.gif"]


def test_skip_existing_and_quiet(
    model: list[str], folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.mp4").write_bytes(b"precious")
    names = [str(folder / "a.mp4"), str(folder / "b.wmv"), str(tmp_path / "out")]
    assert run(["video", *names, *model, "--skip-existing", "--quiet"]) == 0
    assert capfd.readouterr() == ("", "")
    assert made(tmp_path / "out") == ["a.mp4", "b.mp4"]
    assert (tmp_path / "out" / "a.mp4").read_bytes() == b"precious"
    assert run(["video", *names, *model, "--skip-existing"]) == 0
    assert capfd.readouterr().out == "0 of 0 done, 2 there already\n"
    one = ["video", str(folder / "b.wmv"), str(tmp_path / "out" / "b.mp4"), *model, "--skip-existing"]
    assert run(one) == 0
    assert capfd.readouterr().out.startswith("there already: ")


def test_a_line_break_in_a_name_stays_one_line(
    model: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = clips.plain(tmp_path / "a.mp4")
    odd = source.rename(tmp_path / "a\nb.gif")
    assert run(["video", str(odd), str(tmp_path / "c\nd.mp4"), *model]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("c\\nd.mp4")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{in}", "{out}/x.mp4"], "several videos and one output"),
        (["{in}", "-"], "several videos and one output '-'"),
        (["{in}/a.mp4", "{in}/a.mp4", "{out}"], "several inputs would be written to"),
        (["{in}/*.mov", "{out}"], "no video '"),
        (["{in}", "{out}", "--model", "tinny"], "model 'tinny' does not exist"),
        (["{in}/more", "{in}/a.mp4", "{in}/empty", "{out}"], "no video in folder"),
        (["{in}/a.mp4", "{in}/b.wmv", "{in}"], "would replace the input"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], words: str, model: list[str], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "empty").mkdir()
    given = [text.replace("{in}", str(folder)).replace("{out}", str(tmp_path / "out")) for text in arguments]
    assert run(["video", *(given if "--model" in given else [*given, *model])]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert words in error[-1]
    assert not (tmp_path / "out").exists()


def test_an_index_at_the_end_of_a_pipe_is_named(tmp_path: Path) -> None:
    source = clips.plain(tmp_path / "in.mp4")
    data = source.read_bytes()
    assert data.index(b"mdat") < data.index(b"moov")
    command = [sys.executable, "-m", "lldiffusion", "video", "-", str(tmp_path / "out.mp4")]
    done = subprocess.run(command, input=data, capture_output=True)
    assert done.returncode == 2
    assert done.stderr.decode().startswith("error: standard input is an MP4 or MOV with its index at the end")
    assert done.stderr.count(b"\n") == 1


def test_nobody_is_told_to_resume_what_would_fail_again(
    model: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    for number in range(4):
        side = 64 if number < 3 else 32
        write_image(tmp_path / "in" / f"{number}.png", Image(np.full((side, 96, 3), 0.2, np.float32)))
    arguments = ["video", str(tmp_path / "in"), str(tmp_path / "out.mp4"), *model[:4], "--piece", "0.1", "--fps", "20"]
    assert run(arguments) == 2
    error = capsys.readouterr().err
    assert "a video has one size" in error and "--resume" not in error
