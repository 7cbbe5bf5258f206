"""Videos, models and evaluations at addresses are what they are here."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image as Pillow

from lldiffusion.cli import run
from lldiffusion.errors import LLDiffusionError
from lldiffusion.scale.fetching import KEPT, here, waiting_for
from lldiffusion.scale.places import Remote
from lldiffusion.scale.service.shelf import Shelf
from support import clips
from support.toy import toy_bundle


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_bundle(tmp_path_factory.mktemp("models") / "toy", level="grid")


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[fsspec.AbstractFileSystem]:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()


@pytest.fixture
def clip(tmp_path: Path, memory: fsspec.AbstractFileSystem) -> Path:
    path = clips.plain(tmp_path / "in.mp4")
    memory.put(str(path), "/b/clips/in.mp4")
    return path


def left(tmp_path: Path) -> list[str]:
    """Work folders that were not taken away."""
    return [path.name for path in tmp_path.glob("lldiff-*")]


def test_a_video_from_one_address_to_another(
    toy: Path, clip: Path, memory: fsspec.AbstractFileSystem, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("av")
    memory.put(f"{toy}/", "/b/toy/", recursive=True)
    model = ["--model", str(toy), "--device", "cpu", "-q"]
    assert run(["video", str(clip), str(tmp_path / "out.mp4"), *model]) == 0
    there = ["video", "memory://b/clips/in.mp4", "memory://b/bright.mp4", "--model", "memory://b/toy", *model[2:]]
    assert run(there) == 0
    assert memory.cat("/b/bright.mp4") == (tmp_path / "out.mp4").read_bytes()
    assert run(there) == 2 and "already there: memory://b/bright.mp4" in capsys.readouterr().err
    assert run([*there, "--resume"]) == 0 and run([*there[:-1], "--skip-existing"]) == 0
    assert "there already: memory://b/bright.mp4" in capsys.readouterr().out
    (tmp_path / "frames").mkdir()
    assert run(["video", str(clip), f"{tmp_path}/frames/%03d.png", "--end", "0.2", *model]) == 0
    assert run(["video", "memory://b/clips/in.mp4", "memory://b/frames/%03d.png", "--end", "0.2", *model]) == 0
    pictures = {path.name: path.read_bytes() for path in (tmp_path / "frames").iterdir()}
    assert {name.rpartition("/")[2]: memory.cat(name) for name in memory.find("/b/frames")} == pictures
    assert len(pictures) == 5 and left(tmp_path) == []


def test_a_folder_of_videos_at_an_address(
    toy: Path, clip: Path, memory: fsspec.AbstractFileSystem, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("av")
    memory.pipe("/b/clips/below/broken.mp4", b"no clip")
    memory.pipe("/b/clips/notes.txt", b"x")
    asked = ["video", "memory://b/clips", "memory://b/out/", "--model", str(toy), "--device", "cpu"]
    assert run(asked) == 1
    said = capsys.readouterr()
    assert "passed over, no videos: memory://b/clips/notes.txt" in said.err
    assert "cannot read 'memory://b/clips/below/broken.mp4'" in said.err and "/lldiff" not in said.err
    assert memory.find("/b/out") == ["/b/out/in.mp4"]
    assert run([*asked, "--skip-existing"]) == 1 and "0 of 1 done, 1 there already" in capsys.readouterr().out
    assert run(["video", "memory://b/none/*.mp4", "memory://b/out/"]) == 2
    assert "no video at 'memory://b/none/*.mp4'" in capsys.readouterr().err


def test_a_job_that_ended_goes_on_from_its_pieces(
    toy: Path, clip: Path, memory: fsspec.AbstractFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("av")
    there = ["video", "memory://b/clips/in.mp4", "memory://b/o.mp4", "--model", str(toy), "--device", "cpu", "-q"]
    whole = memory.mv

    def torn(*_: object, **__: object) -> None:
        raise ConnectionError("the line went dead")

    with monkeypatch.context() as patched:
        patched.setattr(type(memory), "mv", torn)
        assert run(there) == 2
    assert whole and not memory.exists("/b/o.mp4")
    kept = waiting_for(Remote.of("memory://b/o.mp4"))
    before = kept.stat().st_mtime_ns
    assert run([*there, "--resume"]) == 0  # it is whole, and only has to be sent
    assert before and memory.exists("/b/o.mp4") and left(tmp_path) == []


def test_a_model_at_an_address_is_served(toy: Path, memory: fsspec.AbstractFileSystem) -> None:
    memory.put(f"{toy}/", "/b/models/night/", recursive=True)
    shelf = Shelf({"night": "memory://b/models/night"}, {"device": "cpu"})
    assert shelf.describe()[0]["backend"] == "onnxruntime" and Path(shelf.sources["night"]).is_dir()
    shelf.close()
    with pytest.raises(LLDiffusionError, match="there is nothing at 'memory://b/models/none'"):
        Shelf({"none": "memory://b/models/none"}, {"device": "cpu"})


def test_an_evaluation_of_what_lies_there(
    memory: fsspec.AbstractFileSystem, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("skimage")
    for side, value in (("low", 20), ("high", 90)):
        file = io.BytesIO()
        Pillow.fromarray(np.full((64, 64, 3), value, np.uint8)).save(file, "PNG")
        memory.pipe(f"/b/pairs/eval15/{side}/1.png", file.getvalue())
    asked = ["eval", "--data", "memory://b/pairs", "--baseline", "gamma", "--protocol", "standard"]
    assert run([*asked, "-o", "memory://b/report.json"]) == 0, capsys.readouterr().err
    report = json.loads(memory.cat("/b/report.json"))
    assert "memory://b/pairs" in json.dumps(report) and "/lldiff" not in json.dumps(report)
    assert memory.exists("/b/report.csv") and "saved: memory://b/report.json" in capsys.readouterr().out
    assert run([*asked, "-o", "memory://b/report.json"]) == 2 and left(tmp_path) == []


def test_copies_do_not_pile_up(memory: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    for number in range(KEPT + 3):
        memory.pipe(f"/b/{number}", b"x")
    paths = [Path(here(f"memory://b/{number}")) for number in range(KEPT + 3)]
    assert [path.exists() for path in paths] == [False] * 3 + [True] * KEPT
    assert here(str(tmp_path)) == str(tmp_path)
