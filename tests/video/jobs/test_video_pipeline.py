"""The three threads: order, bounded memory, the first cause, a clean stop, and where the time goes."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from lldiffusion.video import Frame, run_pipeline
from lldiffusion.video.jobs.pipeline import PipelineProgress


def clip(count: int, size: int = 8) -> Iterator[Frame]:
    for i in range(count):
        yield Frame(np.full((size, size, 3), i, np.float32), i, Fraction(1, 25))


def same(frame: Frame) -> list[Frame]:
    return [frame]


def test_every_frame_arrives_in_order_and_each_stage_has_its_thread() -> None:
    seen: list[int] = []
    threads: set[str] = set()

    def source() -> Iterator[Frame]:
        for frame in clip(200):
            threads.add(f"source {threading.get_ident()}")
            yield frame

    def work(frame: Frame) -> list[Frame]:
        threads.add(f"work {threading.get_ident()}")
        return [frame]

    def sink(frame: Frame) -> None:
        threads.add(f"sink {threading.get_ident()}")
        seen.append(frame.pts)

    progress = run_pipeline(source(), work, sink)
    assert seen == list(range(200))
    assert (progress.read, progress.written) == (200, 200)
    assert len(threads) == len({name.split()[1] for name in threads}) == 3
    assert str(threading.get_ident()) not in {name.split()[1] for name in threads}


def test_work_may_gather_and_flush() -> None:
    held: list[Frame] = []
    seen: list[int] = []

    def work(frame: Frame) -> list[Frame]:
        held.append(frame)
        if len(held) < 3:
            return []
        ready = held.copy()
        held.clear()
        return ready

    run_pipeline(clip(7), work, lambda frame: seen.append(frame.pts), flush=lambda: held)
    assert seen == list(range(7))


@pytest.mark.parametrize("slow", ["work", "sink"])
def test_memory_is_constant_over_the_length(slow: str) -> None:
    """No more frames are ever alive than fit in the queues and the stages, however many there are."""
    alive: weakref.WeakSet[Frame] = weakref.WeakSet()
    most: dict[int, int] = {}

    def source(count: int) -> Iterator[Frame]:
        for frame in clip(count):
            alive.add(frame)
            most[count] = max(most.get(count, 0), len(alive))
            yield frame
            del frame

    def work(frame: Frame) -> list[Frame]:
        time.sleep(0.001 if slow == "work" else 0)
        return [frame]

    def sink(frame: Frame) -> None:
        time.sleep(0.001 if slow == "sink" else 0)

    for count in (50, 500):
        run_pipeline(source(count), work, sink, queue_depth=4)
        gc.collect()
        assert not alive
    assert most[500] <= 2 * 4 + 5  # two queues; one frame in each hand, and in the source's


def test_a_queue_takes_depth_frames_ahead() -> None:
    started = threading.Event()
    read: list[int] = []

    def source() -> Iterator[Frame]:
        for frame in clip(50):
            read.append(frame.pts)
            yield frame

    def work(frame: Frame) -> list[Frame]:
        if not started.is_set():
            time.sleep(0.2)
            ahead.append(len(read))
            started.set()
        return [frame]

    ahead: list[int] = []
    run_pipeline(source(), work, lambda frame: None, queue_depth=3)
    assert ahead == [5]  # one at work, three waiting, one that finds no place


class Broken(Exception):
    pass


@pytest.mark.parametrize("stage", ["source", "work", "sink", "flush"])
def test_a_failure_anywhere_stops_everything(stage: str) -> None:
    closed = threading.Event()
    threads = threading.active_count()

    def source() -> Iterator[Frame]:
        try:
            for frame in clip(1000):
                if stage == "source" and frame.pts == 20:
                    raise Broken("source")
                yield frame
                if stage == "flush" and frame.pts == 30:
                    return
        finally:
            closed.set()

    def work(frame: Frame) -> list[Frame]:
        if stage == "work" and frame.pts == 20:
            raise Broken("work")
        return [frame]

    def sink(frame: Frame) -> None:
        if stage == "sink" and frame.pts == 20:
            raise Broken("sink")

    def flush() -> list[Frame]:
        if stage == "flush":
            raise Broken("flush")
        return []

    progress = PipelineProgress()
    with pytest.raises(Broken, match=stage):
        run_pipeline(source(), work, sink, flush=flush, progress=progress)
    assert closed.is_set()
    assert progress.read < 60
    assert threading.active_count() == threads


def test_the_first_cause_is_raised_and_not_what_it_causes() -> None:
    gate = threading.Event()

    def source() -> Iterator[Frame]:
        try:
            yield from clip(100)
        finally:
            if gate.is_set():
                raise Broken("a consequence")

    def work(frame: Frame) -> list[Frame]:
        if frame.pts == 5:
            gate.set()
            raise ValueError("the cause")
        return [frame]

    with pytest.raises(ValueError, match="the cause"):
        run_pipeline(source(), work, lambda frame: None, queue_depth=1)


def test_a_stop_finishes_what_is_under_way() -> None:
    stop, closed = threading.Event(), threading.Event()
    seen: list[int] = []

    def source() -> Iterator[Frame]:
        try:
            yield from clip(10_000)
        finally:
            closed.set()

    def sink(frame: Frame) -> None:
        seen.append(frame.pts)
        if frame.pts == 10:
            stop.set()

    progress = run_pipeline(source(), same, sink, stop=stop)
    assert seen == list(range(progress.read))
    assert 11 <= progress.read < 30
    assert closed.is_set()


def test_ctrl_c_finishes_what_is_under_way() -> None:
    code = """
        import sys, time
        sys.path.insert(0, sys.argv[1])
        from test_video_pipeline import clip, run_pipeline, same
        seen, read = [], []

        def source():
            for frame in clip(100000):
                read.append(frame.pts)
                yield frame

        def work(frame):
            time.sleep(0.01)
            return [frame]

        print("ready", flush=True)
        try:
            run_pipeline(source(), work, lambda frame: seen.append(frame.pts))
        except KeyboardInterrupt:
            print("interrupted", len(read) - len(seen) <= 1, seen == list(range(len(seen))), len(seen) > 0)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(Path(__file__).parent)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert out == "interrupted True True True\n"


def test_the_slowest_stage_is_named() -> None:
    def slow(frame: Frame) -> None:
        time.sleep(0.005)

    progress = run_pipeline(clip(20), same, slow)
    assert progress.slowest == "encode"
    assert progress.busy["encode"] >= 0.1
    assert progress.busy["enhance"] < progress.busy["encode"]


def test_stages_work_at_the_same_time() -> None:
    def nap(frame: Frame) -> list[Frame]:
        time.sleep(0.01)
        return [frame]

    def source() -> Iterator[Frame]:
        for frame in clip(30):
            time.sleep(0.01)
            yield frame

    start = time.perf_counter()
    progress = run_pipeline(source(), nap, lambda frame: time.sleep(0.01))
    assert time.perf_counter() - start < 0.7 * sum(progress.busy.values())


def test_nothing_is_fine() -> None:
    assert run_pipeline(iter(()), same, lambda frame: None).read == 0
