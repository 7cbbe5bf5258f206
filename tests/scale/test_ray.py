"""Pictures on a real Ray: a cluster of two nodes of which one is lost, and a driver that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from lldiffusion.cli import run
from support.clusters import nodes, struck, wait_until
from support.pictures import dark, photograph
from support.toy import toy_bundle

pytestmark = pytest.mark.slow
COUNT = 20


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return ["--model", str(toy_bundle(tmp_path_factory.mktemp("models") / "toy")), "--device", "cpu"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of several sizes, in two folders, and a broken one."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "below").mkdir()
    for number in range(COUNT):
        pixels = (dark(photograph(height=200 + 32 * (number % 5), width=300)) * 255).astype(np.uint8)
        Pillow.fromarray(pixels).save(folder / ("below" if number % 2 else ".") / f"{number}.jpg")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def wanted(model: list[str], photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Path, bytes]:
    """What one machine makes of them."""
    out = tmp_path_factory.mktemp("wanted")
    assert run(["enhance", str(photos), "-o", str(out), "-q", *model]) == 1  # one is broken
    return results(out)


def results(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.jpg")}


def made(folder: Path) -> int:
    """How many are done."""
    return len(list(folder.rglob("*.jpg")))


def test_a_node_is_lost_in_the_middle(
    model: list[str],
    photos: Path,
    wanted: dict[Path, bytes],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("ray.data", reason="needs Ray (extra 'ray')")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    out = tmp_path / "out"
    cluster, lost = nodes(2)
    lose = partial(cluster.remove_node, lost, allow_graceful=False)
    with struck(cluster, lambda: made(out) >= 3, lose) as was_lost:
        code = run(["enhance", str(photos), "-o", str(out), *model, "--ray", cluster.address])
    said = capfd.readouterr()
    assert was_lost.is_set(), said.err
    assert code == 1 and f"cannot read '{photos / 'broken.png'}'" in said.err, said.err[-3000:]
    assert results(out) == wanted


def test_a_killed_driver_goes_on_where_it_ended(
    model: list[str], photos: Path, wanted: dict[Path, bytes], tmp_path: Path
) -> None:
    pytest.importorskip("ray.data", reason="needs Ray (extra 'ray')")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "lldiffusion", "enhance", str(photos), "-o", str(out), *model, "--ray", "local"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ) as first:
        assert wait_until(lambda: made(out) >= 3)
        first.send_signal(signal.SIGKILL)
    done = {path: path.stat().st_mtime_ns for path in out.rglob("*.jpg")}
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 1, again.stderr
    assert f"1 of {COUNT + 1} not enhanced" in again.stderr
    assert results(out) == wanted
    assert {path: path.stat().st_mtime_ns for path in done} == done  # nothing that was committed was made again


def test_an_actor_that_dies_of_memory_costs_nothing_of_300(
    model: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Killed as the kernel kills what takes too much; Ray starts another, and every picture is made."""
    pytest.importorskip("ray.data", reason="needs Ray (extra 'ray')")
    (tmp_path / "in").mkdir()
    for number in range(300):
        pixels = (dark(photograph(height=64, width=64 + number % 7)) * 255).astype(np.uint8)
        Pillow.fromarray(pixels).save(tmp_path / "in" / f"{number}.jpg")
    assert run(["enhance", str(tmp_path / "in"), "-o", str(tmp_path / "one"), "-q", *model]) == 0
    out = tmp_path / "out"
    cluster, _ = nodes(2)
    with struck(cluster, lambda: made(out) >= 30, lambda: os.kill(actors()[0], signal.SIGKILL)) as killed:
        code = run(["enhance", str(tmp_path / "in"), "-o", str(out), *model, "--ray", cluster.address])
    assert code == 0 and killed.is_set(), capfd.readouterr().err[-3000:]
    assert results(out) == results(tmp_path / "one")


def actors() -> list[int]:
    """Processes of this test's own actors."""
    titles = ((path.parent.name, path.read_bytes()) for path in Path("/proc").glob("[0-9]*/cmdline"))
    found = [int(pid) for pid, title in titles if title.startswith(b"ray::") and b"PictureActor" in title]
    return sorted(pid for pid in found if is_below(pid, os.getpid()))


def is_below(pid: int, ancestor: int) -> bool:
    """Whether a process was started by another, or by what that started."""
    while pid > 1 and pid != ancestor:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return pid == ancestor
