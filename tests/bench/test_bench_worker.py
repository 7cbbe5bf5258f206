"""Worker processes: what they answer is what the engine answers here, and every way of failing has its sentence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from lldiffusion.bench.group import Context
from lldiffusion.bench.peers import PEERS, PeerJob
from lldiffusion.bench.pictures import dark_picture
from lldiffusion.bench.worker_process import PeerError, WorkerProcess
from lldiffusion.engines import Enhancer
from support.bench_models import micro_source


@cache
def job() -> PeerJob:
    return PeerJob("onnxruntime", "fp32", str(micro_source()), "", str(micro_source()), "cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def worker(folder: Path) -> Iterator[WorkerProcess]:
    opened = WorkerProcess(
        PEERS["onnxruntime"], job(), folder, dark_picture(96, 64, folder), cpus=[min(os.sched_getaffinity(0))]
    )
    yield opened
    opened.close()


def test_a_call_is_timed_with_stages_and_memory(worker: WorkerProcess) -> None:
    sample = worker.call(2)
    assert 0 < sample.seconds < 60 and sample.bare is not None and 0 < sample.bare < sample.seconds
    assert sample.stages.step is not None and 2 * sample.stages.step < sample.seconds
    assert sample.memory is None or 20 << 20 < sample.memory < 4 << 30
    assert worker.cold_start > sample.seconds
    assert worker.info["backend"] == "onnxruntime" and worker.info["threads"] == "1"


def test_its_pictures_are_those_of_the_enhancer(worker: WorkerProcess, folder: Path) -> None:
    path = dark_picture(96, 64, folder)
    given = worker.enhance(path, 2)
    with Enhancer.open(micro_source(), backend="onnxruntime", steps=2) as enhancer:
        assert np.allclose(given, enhancer(np.load(path)), atol=1e-5)


def test_another_picture_and_batch(worker: WorkerProcess, folder: Path) -> None:
    one = worker.call(1).stages
    worker.set_picture(dark_picture(192, 128, folder), 2)
    eight_times_as_much = worker.call(1).stages
    assert one.step is not None and eight_times_as_much.step is not None
    assert eight_times_as_much.step > one.step


def test_it_is_pinned(worker: WorkerProcess) -> None:
    assert os.sched_getaffinity(worker._process.pid) == {min(os.sched_getaffinity(0))}


def test_a_peer_that_cannot_open_says_why(folder: Path) -> None:
    with pytest.raises(PeerError, match="does not exist"):
        WorkerProcess(PEERS["onnxruntime"], replace(job(), bundle="/nowhere"), folder, dark_picture(64, 64, folder))


def test_too_little_memory_is_the_peers_own_failure(folder: Path) -> None:
    with pytest.raises(PeerError):
        WorkerProcess(PEERS["onnxruntime"], job(), folder, dark_picture(64, 64, folder), memory=40 << 20)


def test_a_killed_worker_is_noticed(folder: Path) -> None:
    worker = WorkerProcess(PEERS["onnxruntime"], job(), folder, dark_picture(64, 64, folder))
    os.kill(worker._process.pid, signal.SIGKILL)
    with pytest.raises(PeerError, match="killed by signal 9"):
        worker.call(1)
    worker.close()


def test_no_patience_no_answer(folder: Path) -> None:
    worker = WorkerProcess(PEERS["onnxruntime"], job(), folder, dark_picture(64, 64, folder))
    os.kill(worker._process.pid, signal.SIGSTOP)
    with pytest.raises(PeerError, match="no answer within 1 s"):
        worker.call(1, patience=1)
    worker.close()


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_a_worker_ends_with_its_parent(folder: Path) -> None:
    picture = dark_picture(64, 64, folder)
    code = f"""
import os, signal, sys, time
from pathlib import Path
from lldiffusion.bench.peers import PEERS, PeerJob
from lldiffusion.bench.worker_process import WorkerProcess
worker = WorkerProcess(PEERS["onnxruntime"], {job()!r}, Path({str(folder)!r}), Path({str(picture)!r}))
os.kill(worker._process.pid, signal.SIGSTOP)  # so that it cannot see that its input ended
print(worker._process.pid, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    for _ in range(100):
        if not _alive(worker):
            return
        time.sleep(0.1)
    pytest.fail("the worker lives on")


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def test_remarks_are_kept_once(folder: Path) -> None:
    bench = Context(folder, "cpu", [0], {}, print)
    bench.note("twice")
    bench.note("twice")
    assert bench.notes == ["twice"]
