"""Parts of a folder: together the whole, each picture once."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image as Pillow

from lldiffusion.cli import run
from lldiffusion.cli.batch import plan_batch
from lldiffusion.cli.video_batch import plan_videos
from lldiffusion.errors import LLDiffusionError
from lldiffusion.scale.shard import Shard
from support.toy import toy_bundle


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(5):
        path = tmp_path / "in" / f"{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Pillow.new("RGB", (64, 64), (number, 2, 3)).save(path)
    return tmp_path / "in"


@pytest.mark.parametrize("count", [1, 2, 3, 7, 100])
def test_the_parts_are_the_whole(count: int) -> None:
    work = list(range(17))
    parts = [Shard(index, count).part(work) for index in range(count)]
    assert sorted(item for part in parts for item in part) == work
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["", "1", "2/2", "-1/2", "1/0", "a/b", "0/2/3", "0/99999999999"])
def test_what_is_no_part_is_one_line(text: str) -> None:
    with pytest.raises(LLDiffusionError, match="I from 0 to N - 1"):
        Shard.parse(text)


def test_a_part_does_not_depend_on_what_others_have_done(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (first,), before = Shard(1, 5).part([1, 2, 3, 4, 5]), plan_batch([str(photos)], str(out), shard=Shard(1, 2)).jobs
    assert first == 2 and len(before) == 2
    for _, output in plan_batch([str(photos)], str(out), shard=Shard(0, 2)).jobs:
        write(Path(str(output)))
    assert plan_batch([str(photos)], str(out), shard=Shard(1, 2)).jobs == before  # nor is it in the way
    write(Path(str(before[0][1])))
    again = plan_batch([str(photos)], str(out), skip_existing=True, shard=Shard(1, 2))
    assert again.jobs == before[1:] and again.existing == [before[0][0]]


def write(path: Path) -> None:
    """As if the picture were done."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"done")


def test_all_parts_make_what_one_command_makes(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(toy_bundle(tmp_path / "toy"))
    command = ["enhance", str(photos), "--model", model, "--device", "cpu", "-o"]
    assert run([*command, str(tmp_path / "whole")]) == 0
    for index in range(6):  # one more than there are pictures
        assert run([*command, str(tmp_path / "parts"), "--shard", f"{index}/6"]) == 0
    assert "part 5 of 6" in capsys.readouterr().out
    whole, parts = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.png")}
        for name in ("whole", "parts")
    )
    assert whole == parts and len(whole) == 5
    assert run([*command, str(tmp_path / "x"), "--shard", "6/6"]) == 2


def test_videos_are_parted_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "abcde":
        write(tmp_path / "in" / f"{name}.mp4")
    parts = [plan_videos([str(tmp_path / "in")], str(tmp_path / "out"), shard=Shard(i, 2)).jobs for i in range(2)]
    assert [[path.stem for path, _ in part] for part in parts] == [["a", "c", "e"], ["b", "d"]]
    one = str(tmp_path / "in" / "a.mp4")
    assert run(["video", one, str(tmp_path / "x.mp4"), "--shard", "0/2"]) == 2
    assert "--shard 0/2 is for several videos" in capsys.readouterr().err
