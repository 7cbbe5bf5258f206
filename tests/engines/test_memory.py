"""Memory estimates against the peaks that the system measured, in processes of their own."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from lldiffusion.config import ModelConfig, load_config
from lldiffusion.engines import Enhancer
from lldiffusion.engines.memory import SAFETY, attention_stride, host_memory, largest_tile_side, peak_bytes
from lldiffusion.engines.select_backend import memory_need
from lldiffusion.images import Image, read_image, write_image
from support.toy import ToyEngine

pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="no /proc: peaks cannot be reset")

# Opens a model, runs a small picture to have its code and weights loaded, resets the peak (proc(5)), runs a large one.
MEASURE = """
import re, sys
from pathlib import Path
import numpy as np
from lldiffusion.engines import Enhancer

source, backend, height, width = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

def status(key):
    return 1024 * int(re.search(rf"{key}:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

enhancer = Enhancer.open(source, backend=backend, device="cpu", steps=1, tile="none")
enhancer(np.full((64, 64, 3), 9, np.uint8))
before = status("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
enhancer(np.full((height, width, 3), 9, np.uint8))
print(status("VmHWM") - before)
"""


def measured(source: str, backend: str, height: int, width: int) -> int:
    """Bytes that enhancing one picture added to the process at its peak."""
    command = [sys.executable, "-c", MEASURE, source, backend, str(height), str(width)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def check(source: str, backend: str, model: ModelConfig, height: int, width: int) -> None:
    peak, estimate = measured(source, backend, height, width), peak_bytes(model, height * width, memory_need(backend))
    assert peak < estimate < 2 * peak, (
        f"{backend} {width}x{height}: {peak / 2**20:.0f} MiB, {estimate / 2**20:.0f} expected"
    )


@pytest.mark.parametrize("size", [(256, 384), (704, 512)])
def test_pytorch_takes_less_than_expected_and_more_than_half(size: tuple[int, int]) -> None:
    check("tiny", "torch", load_config("tiny").model, *size)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_bundles_take_less_than_expected_and_more_than_half(tiny_bundle: Path, backend: str) -> None:
    for size in ((512, 384), (1088, 800)):
        check(str(tiny_bundle), backend, load_config("tiny").model, *size)


@pytest.fixture(scope="module")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from lldiffusion.export.exporter import Settings, export_bundle

    return export_bundle("tiny", tmp_path_factory.mktemp("tiny") / "b", settings=Settings(verify=False)).path


def test_a_large_picture_is_held_three_times_beside_the_given_one() -> None:
    """As planes, as noise and as result.  tracemalloc sees NumPy's arrays; an engine's own are not among them."""
    pixels = np.full((1200, 1600, 3), 0.1, np.float32)
    enhancer = Enhancer(ToyEngine(), load_config("tiny", ["model.level=none"]), tile=256)
    tracemalloc.start()
    bright = enhancer(pixels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert bright.shape == pixels.shape and peak < 3.5 * pixels.nbytes


def test_writing_a_large_picture_takes_little_more_than_its_bytes(tmp_path: Path) -> None:
    image = Image(np.full((1200, 1600, 3), 0.1, np.float32))
    tracemalloc.start()
    write_image(tmp_path / "a.jpg", image)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.7 * image.pixels.nbytes  # twice its 8-bit numbers
    tracemalloc.start()
    read_image(tmp_path / "a.jpg")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * image.pixels.nbytes


@pytest.mark.slow
def test_12_megapixels_stay_below_two_and_a_half_gibibytes(tmp_path: Path) -> None:
    import resource

    pixels = np.random.default_rng(0).integers(0, 40, (3000, 4000, 3), np.uint8)
    write_image(tmp_path / "a.jpg", Image(pixels.astype(np.float32) / np.float32(255)))
    arguments = ["enhance", str(tmp_path / "a.jpg"), "-o", str(tmp_path / "b.jpg"), "-q"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    subprocess.run([sys.executable, "-m", "lldiffusion", *arguments], check=True)
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert max(before, most) * 1024 < 2.5 * 2**30


def test_attention_is_stored_by_onnx_runtime_alone() -> None:
    """`paper` attends at a quarter of the size: four times the pixels, more than four times the memory."""
    model = load_config("paper").model
    assert attention_stride(model) == 4
    ratio = {
        name: peak_bytes(model, 1 << 20, memory_need(name)) / peak_bytes(model, 1 << 18, memory_need(name))
        for name in ("torch", "onnxruntime")
    }
    assert ratio["torch"] == 4 and ratio["onnxruntime"] > 10
    plain, need = load_config("tiny").model, memory_need("onnxruntime")  # convolutions alone
    assert peak_bytes(plain, 1 << 20, need) == 4 * peak_bytes(plain, 1 << 18, need)


@pytest.mark.parametrize("backend", ["torch", "onnxruntime", "openvino", "tensorrt"])
@pytest.mark.parametrize("name", ["tiny", "paper"])
def test_a_tile_is_the_largest_that_fits(name: str, backend: str) -> None:
    model, free, need = load_config(name).model, 16 << 30, memory_need(backend)
    side = largest_tile_side(free, model, need)
    assert side % 32 == 0
    assert peak_bytes(model, side**2, need) < SAFETY * free <= peak_bytes(model, (side + 32) ** 2, need)
    assert largest_tile_side(0, model, need) == 256
    assert host_memory() > 1 << 28
