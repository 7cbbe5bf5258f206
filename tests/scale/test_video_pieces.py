"""The pieces of a video, made anywhere in any order, are those that one machine makes.

The workers of a cluster are stood in for by this process, which gets everything pickled, as they do, and answers in
another order.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lldiffusion.cli import run
from lldiffusion.errors import LLDiffusionError
from lldiffusion.scale import ray_video
from lldiffusion.scale.video_pieces import Made, Piece, PieceWork, make_piece
from lldiffusion.video import VideoSource
from support import clips
from support.toy import toy_bundle

pytest.importorskip("av")


class Here:
    """`Workers` of this process; the last that was handed out comes back first."""

    places, dies_after, sent = 3, 99, list[int]()

    def __init__(self, ray: Any, work: PieceWork, places: int) -> None:
        self._work, self._pending = pickle.dumps(work), list[bytes]()

    def runner(self, *arguments: Any) -> ray_video.RayRun:
        return ray_video.RayRun(self, *arguments)  # type: ignore[arg-type]

    @property
    def busy(self) -> bool:
        return bool(self._pending)

    @property
    def full(self) -> bool:
        return len(self._pending) >= self.places

    def start(self, piece: Piece) -> None:
        self._pending.append(pickle.dumps(piece))

    def finished(self) -> Iterator[tuple[Piece, Made]]:
        piece: Piece = pickle.loads(self._pending.pop())
        if len(self.sent) == self.dies_after:
            raise LLDiffusionError("Ray lost it")
        self.sent.append(piece.number)
        made: Made = pickle.loads(pickle.dumps(make_piece(pickle.loads(self._work), piece)))
        assert not made.error, made.error
        yield piece, made

    def cancel(self) -> None:
        self._pending.clear()


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> type[Here]:
    @contextmanager
    def joined(address: str) -> Iterator[None]:
        yield None

    monkeypatch.setattr(Here, "sent", [])
    monkeypatch.setattr(ray_video, "Workers", Here)
    monkeypatch.setattr(ray_video, "joined", joined)
    monkeypatch.setattr(ray_video, "places_for_work", lambda *_: 1)
    return Here


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    toy = toy_bundle(tmp_path_factory.mktemp("models") / "toy", level="grid")
    return ["--model", str(toy), "--device", "cpu", "--piece", "0.2", "-q"]


@pytest.mark.parametrize("target", ["out.mp4", "out.mkv", "frames/%03d.png"])
def test_they_join_to_what_one_machine_makes(target: str, command: list[str], tmp_path: Path) -> None:
    clip = clips.rich(tmp_path / "in.mkv") if target == "out.mkv" else clips.plain(tmp_path / "in.mp4")
    made = []
    for folder, more in (("one", []), ("many", ["--ray", "x", "--exposure", "0"])):
        (tmp_path / folder / "frames").mkdir(parents=True)
        assert run(["video", str(clip), str(tmp_path / folder / target), *command, *more]) == 0
        files = sorted(path for path in (tmp_path / folder).rglob("*") if path.is_file())
        made.append({path.relative_to(tmp_path / folder): path.read_bytes() for path in files})
    assert made[0] == made[1] and len(made[0]) == (25 if "frames" in target else 1)
    assert len(Here.sent) == 5 and Here.sent != sorted(Here.sent)


def test_nothing_that_came_back_is_made_again(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clip, one, many = clips.plain(tmp_path / "in.mp4"), tmp_path / "one.mp4", tmp_path / "many.mp4"
    assert run(["video", str(clip), str(one), *command]) == 0
    asked = ["video", str(clip), str(many), *command, "--ray", "x"]
    monkeypatch.setattr(Here, "dies_after", 2)
    assert run(asked) == 2
    assert "Ray lost it; 10 frames are finished and kept" in capsys.readouterr().err
    assert run(asked) == 2 and "holds 10 frames: go on with --resume" in capsys.readouterr().err
    monkeypatch.setattr(Here, "dies_after", 99)
    assert run([*asked, "--resume"]) == 0
    assert sorted(Here.sent) == [0, 1, 2, 3, 4]
    assert clips.same(one, many)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "many.mp4", "one.mp4"]


def test_one_machine_goes_on_where_a_cluster_ended(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, one, many = clips.plain(tmp_path / "in.mp4"), tmp_path / "one.mp4", tmp_path / "many.mp4"
    assert run(["video", str(clip), str(one), *command]) == 0
    monkeypatch.setattr(Here, "places", 1)
    monkeypatch.setattr(Here, "dies_after", 3)
    assert run(["video", str(clip), str(many), *command, "--ray", "x"]) == 2
    assert run(["video", str(clip), str(many), *command, "--resume"]) == 0
    assert clips.same(one, many)


def test_where_seeking_gives_other_frames_it_reads_from_the_beginning(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, one, many = clips.plain(tmp_path / "in.mp4"), tmp_path / "one.mp4", tmp_path / "many.mp4"
    assert run(["video", str(clip), str(one), *command]) == 0
    whole, seeks = VideoSource.frames, []

    def frames(self: VideoSource, start: float = 0.0, end: float | None = None, skip: int = 0) -> Iterator[Any]:
        if start:  # as an index would that points to the wrong place
            seeks.append(start)
            start += 0.04
        return whole(self, start, end, skip)

    monkeypatch.setattr(VideoSource, "frames", frames)
    assert run(["video", str(clip), str(many), *command, "--ray", "x"]) == 0
    assert len(seeks) >= 4 and clips.same(one, many)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--warm-start", "0.5"], "--warm-start makes each frame from the one before"),
        (["--preview"], "--ray makes a file of a file, and no preview"),
        (["--model", "no-such-model"], "no-such-model"),
    ],
)
def test_what_a_cluster_cannot_do_is_one_line(
    more: list[str], words: str, command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = clips.plain(tmp_path / "in.mp4")
    assert run(["video", str(clip), str(tmp_path / "out.mp4"), *command, *more, "--ray", "x"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert words in line
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]
