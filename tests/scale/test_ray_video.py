"""A clip on a real Ray: a cluster of three nodes of which one is lost, and a driver that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from lldiffusion.cli import run
from lldiffusion.video.jobs.journal import JobJournal
from lldiffusion.video.writing.outputs import parts_folder
from support import clips
from support.clusters import nodes, struck, wait_until
from support.toy import toy_bundle

pytestmark = pytest.mark.slow
PIECES = 40


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """All but the output: a clip of 8 s in pieces of 0.2 s."""
    pytest.importorskip("ray", reason="needs Ray (extra 'ray')")
    folder = tmp_path_factory.mktemp("given")
    clip = folder / "in.mp4"
    source = ("-f", "lavfi", "-i", f"testsrc2=size=320x192:rate=25:duration={PIECES * 0.2}")
    clips.ffmpeg(*source, "-f", "lavfi", "-i", f"sine=duration={PIECES * 0.2}", *clips.X264, "-c:a", "aac", clip)
    model = str(toy_bundle(folder / "toy", level="grid"))
    return [str(clip), "--model", model, "--device", "cpu", "--piece", "0.2", "-q"]


@pytest.fixture(scope="module")
def wanted(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one machine makes of it."""
    out = tmp_path_factory.mktemp("wanted") / "out.mp4"
    assert run(["video", command[0], str(out), *command[1:]]) == 0
    return out


def came_back(target: Path) -> set[str]:
    """Files of pieces that are finished."""
    return {path.name for path in parts_folder(str(target)).glob("segment-*.nut")}


def test_a_node_is_lost_in_the_middle(
    command: list[str], wanted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    out = tmp_path / "out.mp4"
    cluster, lost = nodes(3)
    lose = partial(cluster.remove_node, lost, allow_graceful=False)
    with struck(cluster, lambda: len(came_back(out)) >= 3, lose) as was_lost:
        code = run(["video", command[0], str(out), *command[1:], "--ray", cluster.address])
    assert code == 0 and was_lost.is_set(), capfd.readouterr().err[-3000:]
    assert clips.same(out, wanted)


def test_a_killed_driver_goes_on_where_it_ended(command: list[str], wanted: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    asked = [sys.executable, "-m", "lldiffusion", "video", command[0], str(out), *command[1:], "--ray", "local"]
    with subprocess.Popen(asked, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ) as first:
        assert wait_until(lambda: len(came_back(out)) >= 4)
        first.send_signal(signal.SIGKILL)
    folder = parts_folder(str(out))
    kept = JobJournal.open(folder).kept
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("segment-*.nut")}
    assert 0 < kept < PIECES * 5
    seen: dict[str, int] = {}
    with subprocess.Popen([*asked, "--resume"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as again:
        while again.poll() is None:
            for name in before:
                with suppress(FileNotFoundError):  # once the whole is put together
                    seen[name] = (folder / name).stat().st_mtime_ns
            time.sleep(0.05)
        said = again.stderr.read() if again.stderr is not None else b""
    assert again.returncode == 0, said[-3000:]
    assert clips.same(out, wanted)
    made_again = [name for name, stamp in seen.items() if stamp != before[name]]
    assert seen and len(made_again) <= 1  # the one whose receipt was not written yet when the kill came
