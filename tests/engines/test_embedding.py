"""The enhancer inside other programs: threads, closing, BGR, streams of arrays, planes that stay where they are."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from lldiffusion.engines import Enhancer
from lldiffusion.engines.pixels import from_planes, to_planes
from lldiffusion.errors import LLDiffusionError
from support.level_engine import flat, level_enhancer
from support.pictures import dark, photograph
from support.toy import ToyEngine, toy_bundle, toy_config


def test_the_runtime_is_imported_in_under_0_3_seconds() -> None:
    """All of it, NumPy too, in processor time: a busy machine makes the clock slow, not the import."""
    code = "import time; t = time.process_time(); import lldiffusion.engines; print(time.process_time() - t)"
    times = [float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(3)]
    assert min(times) < 0.3


@pytest.mark.parametrize("backend", ["torch", "onnxruntime", "openvino"])
def test_threads_share_an_enhancer(backend: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    source = "tiny" if backend == "torch" else toy_bundle(tmp_path_factory.mktemp(backend) / "toy")
    pytest.importorskip(backend)
    sizes = [(64, 64), (64, 96), (70, 90)] * 2
    pictures = [dark(photograph(height=h, width=w)) + np.float32(i / 100) for i, (h, w) in enumerate(sizes)]
    with Enhancer.open(source, backend=backend) as enhancer:
        alone = [enhancer(picture) for picture in pictures]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(enhancer, pictures))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_a_closed_enhancer_says_so() -> None:
    with level_enhancer()[0] as enhancer:
        picture = flat([1.0])[0]
        enhancer(picture)
    calls = (lambda: enhancer(picture), enhancer.info, lambda: list(enhancer.stream([picture])))
    for call in calls:
        with pytest.raises(LLDiffusionError, match="closed"):
            call()
    enhancer.close()  # again is no mistake


def test_closing_lets_calls_that_run_finish() -> None:
    enhancer, engine = level_enhancer()
    begun, closed = threading.Event(), threading.Event()
    step = engine.step

    def slow(*arguments: object) -> object:
        begun.set()
        assert closed.wait(10)
        return step(*arguments)  # type: ignore[arg-type]

    engine.step = slow  # type: ignore[method-assign,assignment]
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(enhancer, flat([1.0])[0])
        assert begun.wait(10)
        enhancer.close()
        closed.set()
        assert future.result().shape == (64, 96, 3)


def test_closing_frees_the_engine() -> None:
    import gc
    import weakref

    enhancer, engine = level_enhancer()
    seen = weakref.ref(engine)
    enhancer.close()
    del engine
    gc.collect()
    assert seen() is None


def test_bgr_is_rgb_turned_round() -> None:
    rgb = dark(photograph(height=64, width=96))
    bgr = np.ascontiguousarray(rgb[..., ::-1])
    noise = np.random.default_rng(3).standard_normal(rgb.shape, dtype=np.float32)
    config = toy_config()
    for options in ({}, {"noise": noise}):
        turned = {name: array[..., ::-1] for name, array in options.items()}
        wanted = Enhancer(ToyEngine(), config)(rgb, **options)  # type: ignore[arg-type]
        given = Enhancer(ToyEngine(), config, channels="bgr")(bgr, **turned)  # type: ignore[arg-type]
        np.testing.assert_array_equal(given, wanted[..., ::-1])
    with pytest.raises(LLDiffusionError, match="accepted are rgb, bgr"):
        Enhancer(ToyEngine(), config, channels="brg")


def test_a_stream_of_bgr_is_that_of_rgb_turned_round() -> None:
    pictures = [(frame * 255).astype(np.uint8) for frame in flat([1.0, 1.2, 0.9])]
    pictures = [np.ascontiguousarray(frame * np.array([1.0, 0.8, 0.5])).astype(np.uint8) for frame in pictures]
    rgb = list(level_enhancer()[0].stream(pictures))
    bgr = list(level_enhancer(channels="bgr")[0].stream([frame[..., ::-1] for frame in pictures]))
    for one, other in zip(rgb, bgr, strict=True):
        np.testing.assert_array_equal(one, other[..., ::-1])
        assert other.flags.c_contiguous
        assert other.dtype == np.uint8


def test_a_stream_reads_one_frame_at_a_time_and_keeps_order() -> None:
    read: list[int] = []

    def source() -> Iterator[np.ndarray]:
        for i, frame in enumerate(flat([1.0] * 5)):
            read.append(i)
            yield frame

    stream = level_enhancer()[0].stream(source(), smoothing=0.1)
    assert read == []
    next(stream)
    assert read == [0]
    assert len(list(stream)) == 4
    assert len(list(level_enhancer()[0].stream(source(), batch=3))) == 5


def test_the_times_of_a_stream_are_seconds() -> None:
    """The same instants, given as times or as a frame rate, are smoothed alike; others are not."""

    def levels(**options: object) -> list[float]:
        enhancer, engine = level_enhancer()
        list(enhancer.stream(flat([1.0, 1.3, 1.3]), **options))  # type: ignore[arg-type]
        return engine.levels

    np.testing.assert_allclose(levels(times=[0, 0.1, 0.2]), levels(fps=10), rtol=1e-6)
    np.testing.assert_allclose(levels(times=[5, 5.04, 5.08]), levels(), rtol=1e-5)
    assert abs(levels(fps=100)[-1] - levels(fps=10)[-1]) > 0.02


def test_bad_streams_are_refused_at_once() -> None:
    enhancer, _ = level_enhancer()
    with pytest.raises(LLDiffusionError, match="fps 0"):
        enhancer.stream([], fps=0)
    with pytest.raises(LLDiffusionError, match="smoothing -1"):
        enhancer.stream([], smoothing=-1)
    with pytest.raises(LLDiffusionError, match="frame 1 has no time"):
        list(enhancer.stream(flat([1.0, 1.0]), times=[0.0]))
    with pytest.raises(LLDiffusionError, match="frame 0 has no time"):
        list(enhancer.stream(flat([1.0]), times=[float("nan")]))
    with pytest.raises(LLDiffusionError, match="shape"):
        list(enhancer.stream([[1, 2, 3]]))  # type: ignore[list-item]
    assert list(enhancer.stream([])) == []


def test_planes_are_the_picture_without_the_way_there_and_back() -> None:
    picture = dark(photograph(height=64, width=96))
    enhancer = Enhancer(ToyEngine(), toy_config())
    np.testing.assert_array_equal(from_planes(enhancer.enhance_planes(to_planes(picture)), picture), enhancer(picture))
    for shape in ((1, 3, 70, 64), (3, 64, 64), (1, 4, 64, 64), (1, 3, 32, 64)):
        with pytest.raises(LLDiffusionError, match="multiples of 32"):
            enhancer.enhance_planes(np.zeros(shape, np.float32))


def test_planes_of_pytorch_stay_tensors() -> None:
    torch = pytest.importorskip("torch")
    picture = dark(photograph(height=64, width=96))
    with Enhancer.open("tiny", backend="torch") as enhancer:
        result = enhancer.enhance_planes(torch.from_numpy(to_planes(picture)))
        assert isinstance(result, torch.Tensor)
        np.testing.assert_allclose(from_planes(result.numpy(), picture), enhancer(picture), atol=1e-5)


def test_onnx_runtime_borrows_through_dlpack(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    planes = to_planes(dark(photograph(height=64, width=96)))
    with Enhancer.open(toy_bundle(tmp_path / "toy"), backend="onnxruntime") as enhancer:
        given = torch.from_numpy(planes)
        assert enhancer.pipeline.engine._value("encoder", "low", given).data_ptr() == given.data_ptr()  # type: ignore[attr-defined]
        result = enhancer.enhance_planes(given)
        np.testing.assert_array_equal(result.numpy(), enhancer.enhance_planes(planes).numpy())
        with pytest.raises(LLDiffusionError, match="DLPack is needed, not memoryview"):
            enhancer.pipeline.engine.encode(memoryview(planes))  # type: ignore[arg-type]
