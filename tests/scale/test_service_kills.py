"""The service killed, or told to stop, while a clip is in work: nothing is left that its successor does not clear."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support import clips
from support.serving import ask, until
from support.toy import toy_bundle

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_bundle(tmp_path_factory.mktemp("models") / "toy", level="grid")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Long enough to be in work when it is asked after."""
    path = tmp_path_factory.mktemp("clips") / "in.mp4"
    clips.ffmpeg("-f", "lavfi", "-i", "testsrc2=size=320x192:rate=25:duration=60", *clips.X264, path)
    return path.read_bytes()


@contextmanager
def service(toy: Path, folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [sys.executable, "-m", "lldiffusion", "serve", str(toy), "--port", "0", "--device", "cpu", "--drain", "5"]
    environment = os.environ | {"TMPDIR": str(folder)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as started:
        assert started.stderr is not None
        yield started, int(started.stderr.readline().rpartition(":")[2])
        started.kill()


def begun(port: int, clip: bytes) -> str:
    """A clip of which some frames are done; the address of its job."""
    status, body, _ = ask(port, "POST", "/v1/video", clip)
    assert status == 202, body
    address: str = json.loads(body)["self"]
    until(lambda: about(port, address)["status"] == "working" and about(port, address)["frames"] > 3)
    return address


def about(port: int, address: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ask(port, "GET", address, b"")[1])
    return found


def test_a_killed_service_leaves_what_the_next_clears(toy: Path, clip: bytes, tmp_path: Path) -> None:
    with service(toy, tmp_path) as (first, port):
        begun(port, clip)
        first.send_signal(signal.SIGKILL)
        first.wait()
    (left,) = tmp_path.iterdir()  # the clip, and pieces of its result
    assert any(path.is_file() for path in left.rglob("*"))
    with service(toy, tmp_path) as (_, port):
        assert ask(port, "GET", "/readyz", b"")[0] == 200
        assert not left.exists() and len(list(tmp_path.iterdir())) == 1
        address = begun(port, clip)
        assert ask(port, "DELETE", address, b"")[0] == 204
        (own,) = tmp_path.iterdir()
        until(lambda: list(own.iterdir()) == [])  # a job in work ends at its next frame, and takes its files with it
        assert ask(port, "GET", address, b"")[0] == 404
        assert begun(port, clip) != address  # the next clip is worked on


def test_a_service_that_is_told_to_stop_drops_its_clip(toy: Path, clip: bytes, tmp_path: Path) -> None:
    with service(toy, tmp_path) as (started, port):
        begun(port, clip)
        started.send_signal(signal.SIGTERM)
        assert started.wait(30) == 0
    assert list(tmp_path.iterdir()) == []
