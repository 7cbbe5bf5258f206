"""Long jobs: killed, interrupted, out of space, out of memory, not finite; and what they leave behind."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support import clips
from support.passing import PassThrough, pass_through

pytest.importorskip("av")

from lldiffusion.errors import LLDiffusionError
from lldiffusion.video import Frame
from lldiffusion.video.jobs.cutting import split_into_segments
from lldiffusion.video.jobs.journal import JobJournal
from lldiffusion.video.writing.outputs import check_target, parts_folder
from lldiffusion.video.writing.segment import reorder_depth

TESTS = Path(__file__).parents[2]


def start(source: Path, target: Path, seconds: float, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "support.long_job", str(source), str(target), str(seconds), *more]
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)


def finish(source: Path, target: Path, *more: str) -> list[int]:
    """Run to the end; (frames kept, frames made)."""
    out, err = (process := start(source, target, 0, *more)).communicate(timeout=120)
    assert process.returncode == 0, err.decode()
    return [int(word) for word in out.split()]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return clips.plain(tmp_path / "in.mp4")


def until(condition: Any, process: subprocess.Popen[bytes], seconds: float = 60) -> None:
    limit = time.monotonic() + seconds
    while not condition() and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.005)


@pytest.mark.parametrize("kills", [2, pytest.param(25, marks=pytest.mark.slow)])
def test_a_killed_job_goes_on_and_makes_the_same_file(kills: int, clip: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole.mp4", tmp_path / "broken.mp4"
    assert finish(clip, whole) == [0, 25]
    chance, folder = random.Random(kills), parts_folder(str(broken))
    for _ in range(kills):
        process = start(clip, broken, 0.03, "resume")
        until(folder.exists, process)
        time.sleep(chance.uniform(0.0, 0.9))
        process.kill()
        process.communicate()
        if broken.exists():  # it was quicker
            assert clips.same(broken, whole)
            broken.unlink()
    kept = JobJournal.open(folder).frames if (folder / "journal.json").exists() else 0
    (tmp_path / ".broken.mp4.0123abcd.tmp").write_bytes(b"a kill while the file was put together")
    assert finish(clip, broken, "resume") == [kept, 25 - kept]
    assert clips.same(broken, whole)
    assert [path.name for path in tmp_path.iterdir() if "broken" in path.name] == ["broken.mp4"]


def test_state_is_what_makes_it_the_same(clip: Path, tmp_path: Path) -> None:
    """Without the enhancer's state a resumed job would differ: the test above can fail."""
    first, second = tmp_path / "first.mp4", tmp_path / "second.mp4"
    pass_through(clip, first, memory=0.9, start=0.0)
    pass_through(clip, second, memory=0.9, start=0.4)
    rest = clips.samples(first, "yuv420p").reshape(25, -1)[10:]
    assert not np.array_equal(clips.samples(second, "yuv420p").reshape(15, -1), rest)


@pytest.mark.parametrize(
    "moment", ["before the journal", "in the middle of a segment", "while the file is put together"]
)
def test_a_death_at_the_worst_moments(moment: str, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, broken = tmp_path / "whole.mp4", tmp_path / "broken.mp4"
    pass_through(clip, whole, memory=0.9)

    class Died(BaseException):
        """As a kill would: nobody catches it."""

    def die(*_: object) -> None:
        raise Died

    def no_cleaning(*_: object) -> None:
        """A killed process cleans nothing up."""

    with monkeypatch.context() as patch:
        if moment == "before the journal":
            patch.setattr(JobJournal, "_save", die_on_call(Died, JobJournal._save, 2))
        elif moment == "in the middle of a segment":
            patch.setattr("lldiffusion.video.writing.segment.VideoSegmentWriter.abandon", no_cleaning)
            patch.setattr(PassThrough, "enhance", die_on_call(Died, PassThrough.enhance, 15))
        else:
            patch.setattr("lldiffusion.video.writing.outputs.assemble", die)
        with pytest.raises(Died):
            pass_through(clip, broken, memory=0.9)
    assert not broken.exists()
    folder = parts_folder(str(broken))
    journal = JobJournal.open(folder) if (folder / "journal.json").exists() else None
    summary = pass_through(clip, broken, memory=0.9, journal=journal)
    assert summary.earlier_frames == {"before the journal": 0, "in the middle of a segment": 10}.get(moment, 25)
    assert clips.same(broken, whole)


def die_on_call(error: type[BaseException], call: Any, number: int) -> Any:
    """`call`, the `number`-th time an `error`."""
    count = iter(range(1, 1000))

    def counted(*arguments: Any) -> Any:
        if next(count) == number:
            raise error
        return call(*arguments)

    return counted


def test_ctrl_c_finishes_the_segment_and_says_how_to_go_on(clip: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    folder = parts_folder(str(target))
    process = start(clip, target, 0.05)
    until(lambda: (folder / "segment-00000.nut").exists(), process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    said = err.decode().splitlines()
    assert said[0] == "finishing the piece under way (Ctrl-C again drops it)"
    kept = int(said[-1].split()[0])
    assert kept in (10, 20)  # the signal may come just before the second piece begins
    assert said[-1] == f"{kept} frames are finished and kept: go on with the same command and --resume"
    assert not target.exists()
    assert finish(clip, target, "resume") == [kept, 25 - kept]


def test_a_second_ctrl_c_does_not_wait(clip: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    process = start(clip, target, 0.2)
    until(lambda: (parts_folder(str(target)) / "journal.json").exists(), process)
    time.sleep(0.3)  # a piece takes two seconds
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert process.stderr.readline().startswith(b"finishing the piece")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.decode().splitlines()[-1] == "interrupted: nothing was finished"
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_a_full_disk_is_one_line_and_nothing_is_lost(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out.mp4"
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with monkeypatch.context() as patch:
        patch.setattr("lldiffusion.video.writing.segment.flush", raises(full, after=1))
        with pytest.raises(LLDiffusionError, match=r"No space left on device; 10 frames are .* --resume$"):
            pass_through(clip, target, codec="libx264", crf=0)
    assert not target.exists()
    assert pass_through(clip, target, journal=JobJournal.open(parts_folder(str(target)))).earlier_frames == 10


def raises(error: BaseException, after: int) -> Any:
    """A function that raises from the call after `after` on."""
    count = iter(range(1000))

    def call(*_: object) -> None:
        if next(count) >= after:
            raise error

    return call


def test_a_small_disk(clip: Path, tmp_path: Path) -> None:
    """A real one, where the test may mount it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        with pytest.raises(LLDiffusionError, match=r"No space left on device.* --resume"):
            pass_through(clip, disk / "out.mp4", codec="libx264", crf=0)
        assert [path.name for path in disk.iterdir()] == ["out.mp4.parts"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_changed_segment_is_noticed(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "out.mp4"
    monkeypatch.setattr("lldiffusion.video.writing.outputs.assemble", raises(KeyboardInterrupt(), 0))
    with pytest.raises(KeyboardInterrupt):
        pass_through(clip, target)
    monkeypatch.undo()
    piece = parts_folder(str(target)) / "segment-00001.nut"
    piece.write_bytes(piece.read_bytes()[:-100])
    with pytest.raises(LLDiffusionError, match=r"segment-00001\.nut' was changed"):
        pass_through(clip, target, journal=JobJournal.open(piece.parent))
    assert not target.exists()


def test_segments_do_not_depend_on_where_reading_begins() -> None:
    frames = [Frame(np.zeros((2, 2, 3), np.float32), pts, Fraction(1, 25)) for pts in (0, 1, 4, 5, 6, 20, 21)]
    whole = [[f.pts for f in part] for part in split_into_segments(iter(frames), Fraction(0), Fraction(1, 5))]
    assert whole == [[0, 1, 4], [5, 6], [20, 21]]
    assert [
        [f.pts for f in part] for part in split_into_segments(iter(frames[3:]), Fraction(0), Fraction(1, 5))
    ] == whole[1:]


def test_reordering_depth() -> None:
    assert reorder_depth([0, 1, 2]) == 0
    assert reorder_depth([0, 4, 2, 1, 3, 8, 6, 5, 7]) == 2
    assert reorder_depth([]) == 0


def test_outputs_are_not_replaced_unasked(clip: Path, tmp_path: Path) -> None:
    there = tmp_path / "there.mp4"
    there.write_bytes(b"precious")
    with pytest.raises(LLDiffusionError, match="already there"):
        check_target(str(there), str(clip), overwrite=False)
    check_target(str(there), str(clip), overwrite=True)
    with pytest.raises(LLDiffusionError, match="would replace the input"):
        check_target(str(clip), str(clip), overwrite=True)
    with pytest.raises(LLDiffusionError, match=r"folder .*nowhere' does not exist"):
        check_target(str(tmp_path / "nowhere" / "out.mp4"), str(clip), overwrite=False)


def test_the_preview_shows_both(clip: Path, tmp_path: Path) -> None:
    from lldiffusion.images import image_size

    summary = pass_through(clip, tmp_path / "out.mp4", preview=tmp_path / "out.preview.jpg")
    assert image_size(tmp_path / "out.preview.jpg") == (192, 64)
    assert summary.flicker_before.frames == summary.flicker_after.frames == 25
    assert summary.flicker_before.change == pytest.approx(summary.flicker_after.change)
    assert "flicker" in summary.lines()[1]
