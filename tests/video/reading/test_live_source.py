"""Live sources: the newest frame first, the rest dropped and counted, and nobody waits for what does not come."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from lldiffusion.errors import LLDiffusionError
from lldiffusion.video.reading.newest import Newest
from support.level_engine import flat, level_enhancer
from support.passing import Listener, PassThrough

pytest.importorskip("av")

from lldiffusion.video import Frame, VideoSource
from lldiffusion.video.jobs.job import Job, run_stream
from lldiffusion.video.reading import inputs, live
from lldiffusion.video.reading.live import LiveFigures, LiveSource, check_live
from lldiffusion.video.stream import LiveStream

RATE = 50
CAMERA = f"lavfi:testsrc2=size=96x64:rate={RATE},realtime"  # FFmpeg's own, as fast as the clock


def test_only_the_newest_is_kept() -> None:
    given, taken = threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        yield 0
        assert taken.wait(10)
        yield from (1, 2, 3)
        given.set()

    newest = Newest(items())
    seen = iter(newest)
    assert next(seen)[0] == 0
    taken.set()
    assert given.wait(10)
    assert [item for item, _ in seen] == [3]
    assert (newest.read, newest.dropped) == (4, 2)


def test_what_reading_raises_comes_after_what_was_read() -> None:
    def items() -> Iterator[int]:
        yield 7
        raise LLDiffusionError("the cable was pulled")

    seen = iter(Newest(items()))
    assert next(seen)[0] == 7
    with pytest.raises(LLDiffusionError, match="cable"):
        next(seen)


def test_who_waits_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lldiffusion.video.reading.newest._PATIENCE", 0.1)
    never = threading.Event()

    def silent() -> Iterator[int]:
        never.wait(30)
        yield 1

    newest = Newest(silent())
    threading.Timer(0.05, newest.stop).start()
    assert list(newest) == []
    assert not newest.close()  # the thread is still inside of its read
    never.set()


def test_a_latency_is_a_median_and_a_tail() -> None:
    figures = LiveFigures(read=12, dropped=3)
    assert figures.latency() == (0, 0)
    figures.latencies.extend(i / 1000 for i in range(101))
    assert figures.latency() == pytest.approx((0.050, 0.095))
    assert figures.latency(1) == pytest.approx((0.1, 0.1))
    assert figures.line() == "3 of 12 frames dropped to keep up, latency 50 ms (95 %: 95 ms)"


def slow(seconds: float) -> Callable[[Frame], list[Frame]]:
    def wait(frame: Frame) -> list[Frame]:
        time.sleep(seconds)
        return [frame]

    return wait


@pytest.mark.parametrize("where", ["model", "reader"])
def test_who_is_slower_than_the_camera_sees_the_present(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "DEVICES", (*inputs.DEVICES, "lavfi"))
    wait, shown = slow(0.1), []

    class Model(PassThrough):
        def enhance(self, frame: Frame) -> list[Frame]:
            return wait(frame) if where == "model" else [frame]

    def show(frame: Frame) -> None:
        if where == "reader":
            wait(frame)
        shown.append((float(frame.time), time.monotonic()))

    source = LiveSource(VideoSource(CAMERA, live.OPTIONS, live=True))
    assert not source.info.rereadable
    summary = run_stream(Job(lambda tile, exact: Model(), end=0.8), source, show, Listener())
    source.close()
    figures = source.figures
    assert summary.live is figures
    assert summary.frames == len(shown) == len(figures.latencies)
    assert 4 <= len(shown) <= 16  # of 40
    assert figures.read == len(shown) + figures.dropped > 30
    assert all(before < after for (before, _), (after, _) in pairwise(shown))
    behind = [clock - at for at, clock in shown[1:]]  # by how much pictures trail the camera's clock
    assert max(behind) - min(behind) < 0.25, "it falls behind"
    assert figures.latency()[0] < 0.35
    table = summary.to_dict()
    assert table["frames dropped"] == figures.dropped
    assert table["latency median"] == figures.latency()[0]


def test_every_frame_is_counted_however_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "DEVICES", (*inputs.DEVICES, "lavfi"))
    source = LiveSource(VideoSource(CAMERA, live.OPTIONS, live=True))
    frames = source.frames()
    for _ in range(3):
        next(frames)
        time.sleep(0.1)  # one waits now, as it may be when Ctrl-C comes
    frames.close()  # type: ignore[attr-defined]
    assert source.figures.read == 3 + source.figures.dropped > 10
    source.close()


def test_a_stream_of_arrays_drops_what_is_old() -> None:
    pictures = flat([0.8 + 0.006 * i for i in range(60)])

    def camera() -> Iterator[np.ndarray]:
        for picture in pictures:
            time.sleep(0.01)
            yield picture

    enhancer, _ = level_enhancer()
    stream = enhancer.stream(camera(), live=True, smoothing=0)
    assert isinstance(stream, LiveStream)
    results = []
    for result in stream:
        time.sleep(0.05)
        results.append(result)
    assert stream.figures.read == 60
    assert stream.figures.dropped == 60 - len(results) > 20
    np.testing.assert_allclose(results[-1], enhancer(pictures[-1]), atol=1e-6)  # the last one is never dropped
    assert len(stream.figures.latencies) == len(results)
    assert stream.figures.latency()[0] < 0.2


def test_a_stream_of_arrays_can_be_left() -> None:
    def camera() -> Iterator[np.ndarray]:
        while True:
            time.sleep(0.002)
            yield flat([1.0])[0]

    stream: Any = level_enhancer()[0].stream(camera(), live=True)
    next(stream)
    stream.close()
    assert not [thread for thread in threading.enumerate() if thread is stream._newest._thread]
    with pytest.raises(StopIteration):
        next(stream)


@pytest.mark.parametrize("name", ["-", "rtsp://camera/1", "http://camera/1.ts", "v4l2:/dev/video0", "pipe.fifo"])
def test_what_goes_on_by_itself_is_live(name: str) -> None:
    check_live(name)


def test_what_waits_to_be_read_is_not_live(tmp_path: Any) -> None:
    (tmp_path / "a.mp4").write_bytes(b"film")
    for name in (tmp_path / "a.mp4", tmp_path, "frames/%03d.png"):
        with pytest.raises(LLDiffusionError, match="waits to be read, leave --live out"):
            check_live(str(name))
