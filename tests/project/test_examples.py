"""Every program in examples/ runs, on clips and pictures made here."""

from __future__ import annotations

import asyncio
import importlib.util
import io
import re
import runpy
import struct
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from lldiffusion.engines import Enhancer
from lldiffusion.engines.driver import driver
from lldiffusion.images import Image, list_images, read_image, write_image
from support.pictures import dark, photograph

FOLDER = Path(__file__).parents[2] / "examples"
FRAMES = 4


def load(name: str) -> ModuleType:
    """An example as a module; its `main` is not run."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def clip() -> list[np.ndarray]:
    """Dark frames of a moving scene, (64, 96, 3) uint8 RGB, red on the left."""
    wide = photograph("coffee", 64, 96 + 2 * FRAMES)
    wide[:, :48] *= np.array([1.0, 0.3, 0.3], np.float32)
    return [(dark(wide[:, 2 * i : 2 * i + 96]) * 255 * 2).clip(0, 255).astype(np.uint8) for i in range(FRAMES)]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clip with uneven times: 0, 40, 120, 200 ms."""
    av = pytest.importorskip("av")
    path = tmp_path_factory.mktemp("video") / "dark.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("h264", rate=25, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for pixels, tick in zip(clip(), (0, 1, 3, 5), strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def decoded(path: Path) -> tuple[list[np.ndarray], list[float]]:
    """Frames and times of a video."""
    import av

    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return [frame.to_ndarray(format="rgb24") for frame in frames], [float(frame.time) for frame in frames]


def assert_bright(frames: list[np.ndarray], low: list[np.ndarray]) -> None:
    """The pictures are as bright as the model makes the low ones, and with the colours where they belong."""
    with Enhancer.open("tiny") as enhancer:
        wanted = enhancer(low[0])
    assert len(frames) == FRAMES
    assert np.mean(frames[0]) > 1.2 * np.mean(low[0])
    assert np.abs(frames[0].mean(axis=(0, 1)) - wanted.mean(axis=(0, 1))).max() < 8  # red would be blue otherwise
    red, blue = frames[0][:, :40, 0].mean(), frames[0][:, :40, 2].mean()
    assert red > blue + 10


def test_opencv_capture(video: Path, tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    target = tmp_path / "bright.mp4"
    assert load("opencv_capture").main(str(video), str(target)) == FRAMES
    assert_bright(decoded(target)[0], decoded(video)[0])


def test_opencv_capture_says_when_it_cannot_open(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    with pytest.raises(SystemExit, match="cannot open"):
        load("opencv_capture").main(str(tmp_path / "nothing.mp4"), str(tmp_path / "bright.mp4"))


def test_pyav_filter(video: Path, tmp_path: Path) -> None:
    target = tmp_path / "bright.mp4"
    assert load("pyav_filter").main(str(video), str(target)) == FRAMES
    frames, times = decoded(target)
    assert_bright(frames, decoded(video)[0])
    assert times == pytest.approx([0, 0.04, 0.12, 0.2])


def test_generator_pipeline(tmp_path: Path) -> None:
    for i, pixels in enumerate(clip()):
        (tmp_path / "dark").mkdir(exist_ok=True)
        write_image(tmp_path / "dark" / f"{i:03d}.png", Image((pixels / 255).astype(np.float32)))
    assert load("generator_pipeline").main(str(tmp_path / "dark"), str(tmp_path / "bright")) == FRAMES
    written = [(read_image(path).pixels * 255).round() for path in list_images(tmp_path / "bright")]
    assert_bright(written, clip())


async def ask(port: int, pixels: Any) -> np.ndarray | str:
    """What the service answers to one request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    message = io.BytesIO()
    np.save(message, pixels)
    writer.write(struct.pack("!I", len(message.getvalue())) + message.getvalue())
    (length,) = struct.unpack("!I", await reader.readexactly(4))
    if length == 0:
        (length,) = struct.unpack("!I", await reader.readexactly(4))
        answer: np.ndarray | str = (await reader.readexactly(length)).decode()
    else:
        answer = np.load(io.BytesIO(await reader.readexactly(length)), allow_pickle=False)
    writer.close()
    return answer


def test_asyncio_service_answers_many_at_once_and_survives_bad_requests() -> None:
    service = load("asyncio_service")

    async def talk() -> tuple[list[np.ndarray | str], np.ndarray | str]:
        with Enhancer.open("tiny") as enhancer:
            server = await asyncio.start_server(service.EnhancerService(enhancer).answer, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            bad = await ask(port, np.zeros((5, 5), np.uint8))
            answers = await asyncio.gather(*(ask(port, pixels) for pixels in clip()))
            server.close()
            return list(answers), bad

    answers, bad = asyncio.run(talk())
    assert isinstance(bad, str) and "shape (H, W, 3)" in bad
    assert_bright([answer for answer in answers if isinstance(answer, np.ndarray)], clip())


def test_asyncio_service_keeps_its_bound_when_requests_are_cancelled() -> None:
    service = load("asyncio_service")
    working, most, go = 0, 0, threading.Event()
    lock = threading.Lock()

    def slow(pixels: np.ndarray) -> np.ndarray:
        nonlocal working, most
        with lock:
            working += 1
            most = max(most, working)
        go.wait(30)
        with lock:
            working -= 1
        return pixels

    async def storm() -> None:
        serving = service.EnhancerService(slow, at_once=2)
        pixels = np.zeros((1, 1, 3), np.uint8)
        for _ in range(6):  # every request is given up while its thread works, or while it waits
            request = asyncio.create_task(serving.enhance(pixels))
            await asyncio.sleep(0.05)
            request.cancel()
        go.set()
        assert (await asyncio.wait_for(serving.enhance(pixels), 30)).shape == (1, 1, 3)

    asyncio.run(storm())
    assert most == 2


HUGE = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000000000,)}".ljust(80)
NPY = b"\x93NUMPY\x01\x00"
MESSAGES = {
    "nothing": b"",
    "text": b"hello",
    "cut": NPY,
    "header of no table": NPY + b"\x10\x00" + b"[" * 16,
    "a picture of 10^18 pixels": NPY + b"\x50\x00" + HUGE,
    "an archive": None,
    "objects": None,
    "times": None,
}


@pytest.mark.parametrize("name", MESSAGES)
def test_asyncio_service_answers_every_malformed_message(name: str) -> None:
    service = load("asyncio_service")
    message = MESSAGES[name]
    if message is None:
        buffer = io.BytesIO()
        if name == "an archive":
            np.savez(buffer, a=np.zeros(3))
        else:
            np.save(buffer, np.array([{}]) if name == "objects" else np.zeros((1, 1, 3), "M8[s]"), allow_pickle=True)
        message = buffer.getvalue()

    async def talk() -> str:
        server = await asyncio.start_server(service.EnhancerService(lambda pixels: pixels).answer, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
        writer.write(struct.pack("!I", len(message)) + message)
        empty, length = struct.unpack("!II", await asyncio.wait_for(reader.readexactly(8), 30))
        assert empty == 0
        text = (await reader.readexactly(length)).decode()
        writer.close()
        server.close()
        return text

    assert "not a picture in NumPy's .npy format" in asyncio.run(talk())


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_an_example_without_arguments_says_what_it_needs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "opencv_capture":
        pytest.importorskip("cv2")
    monkeypatch.setattr(sys, "argv", [name])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    said = ended.value.code
    assert isinstance(said, str)  # Python prints it on standard error, and ends with 1
    assert said.startswith(f"usage: python examples/{name}.py ") and "\n" not in said


def test_asyncio_service_as_a_program() -> None:
    """It starts, says where it listens, answers, and ends with Ctrl-C."""
    import signal

    command = [sys.executable, str(FOLDER / "asyncio_service.py"), "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        found = re.fullmatch(r"listening on 127\.0\.0\.1:(\d+)\n", process.stdout.readline())
        assert found is not None
        answer = asyncio.run(ask(int(found[1]), clip()[0]))
        assert isinstance(answer, np.ndarray) and answer.mean() > 1.2 * clip()[0].mean()
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30)[0] == "stopped\n"
    finally:
        process.kill()


@pytest.mark.gpu
@pytest.mark.parametrize("library", ["torch", "cupy", "pycuda"])
def test_gpu_arrays(library: str, tmp_path: Path) -> None:
    """`tiny` on the GPU, from arrays of each library, against NumPy planes."""
    pytest.importorskip(library)
    if driver().problem:
        pytest.skip(str(driver().problem))
    from lldiffusion import export_bundle
    from lldiffusion.cli import run

    bundle = tmp_path / "tiny"
    export_bundle("tiny", bundle)
    assert run(["build", str(bundle)]) == 0
    scene = 0.1 * np.random.default_rng(0).random((1, 3, 256, 256), dtype=np.float32) - 1
    with Enhancer.open(str(bundle), device="cpu") as enhancer:
        wanted = enhancer.enhance_planes(scene)
        np.testing.assert_allclose(
            load("gpu_arrays").main(library, str(bundle)), enhancer.pipeline.engine.numpy(wanted), atol=0.02
        )


def test_gpu_arrays_names_each_library() -> None:
    """The one example that most machines cannot run still loads, and calls what exists."""
    example = load("gpu_arrays")
    assert list(example.WAYS) == ["torch", "cupy", "pycuda"]
    assert hasattr(Enhancer, "enhance_planes")


def test_every_example_is_tested_and_shown() -> None:
    own = Path(__file__).read_text(encoding="utf-8")
    page = (FOLDER.parent / "docs" / "embedding.md").read_text(encoding="utf-8")
    for path in sorted(FOLDER.glob("*.py")):
        assert f'load("{path.stem}")' in own
        assert f"../examples/{path.name}" in page
        assert f"python examples/{path.name}" in path.read_text(encoding="utf-8")
