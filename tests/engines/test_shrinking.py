"""Memory that runs out: smaller tiles, then one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lldiffusion.cli import run
from lldiffusion.engines.backends.base import Array, Conditions
from lldiffusion.engines.enhancer import Enhancer
from lldiffusion.engines.sampler import Step
from lldiffusion.errors import LLDiffusionError, is_out_of_memory
from lldiffusion.images import Image, write_image
from support.toy import ToyEngine, toy_bundle, toy_config


class Small(ToyEngine):
    """Has memory for so many pixels at once; says so as each engine does."""

    def __init__(self, most: int, error: Exception) -> None:
        self.most, self.error, self.asked = most, error, 0

    def step(self, x: Array, conditions: Conditions, step: Step, previous: Array) -> tuple[Array, Array]:
        self.asked += 1
        if x.shape[2] * x.shape[3] > self.most:
            raise self.error
        return super().step(x, conditions, step, previous)


ERRORS = [
    MemoryError(),
    LLDiffusionError("ONNX Runtime failed in denoiser: Failed to allocate memory for requested buffer of size 9"),
    RuntimeError("std::bad_alloc"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB"),
]
UNMAPPED = ImportError("libgomp.so.1: failed to map segment from shared object")
PICTURE = np.random.default_rng(0).integers(0, 60, (300, 500, 3), np.uint8)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("tile", ["auto", 384])
def test_a_failed_allocation_becomes_smaller_tiles(error: Exception, tile: str | int) -> None:
    assert is_out_of_memory(error)
    engine = Small(130 * 130, error)
    bright = Enhancer(engine, toy_config(), tile=tile)(PICTURE)
    wanted = Enhancer(ToyEngine(), toy_config(), tile=128)(PICTURE)
    np.testing.assert_array_equal(bright, wanted)


def test_what_was_not_memory_is_raised_as_it_is() -> None:
    engine = Small(0, ValueError("something else"))
    with pytest.raises(ValueError, match="something else"):
        Enhancer(engine, toy_config())(PICTURE)
    assert engine.asked == 1


@pytest.mark.parametrize(("tile", "says"), [("auto", "in tiles of 128 pixels"), ("none", "leave --tile none out")])
def test_when_nothing_helps_it_is_one_line(tile: str, says: str) -> None:
    with pytest.raises(LLDiffusionError, match=f"not enough memory for 512x320.*{says}") as caught:
        Enhancer(Small(0, ERRORS[1]), toy_config(), tile=tile)(PICTURE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [MemoryError("Unable to allocate 9 GiB"), ERRORS[3], UNMAPPED])
def test_the_command_line_says_it_in_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(path: Path) -> None:
        raise error

    monkeypatch.setattr("lldiffusion.engines.describe.describe", fail)
    assert run(["inspect", "tiny"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: not enough memory (") and said.count("\n") == 1


def test_one_picture_too_large_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from lldiffusion import images

    for name in ("a", "b"):
        write_image(tmp_path / f"{name}.png", Image(np.zeros((40, 50, 3), np.float32)))
    whole = images.read_image

    def read(path: Path, *limit: int) -> Image:
        if path.name == "a.png":
            raise MemoryError("Unable to allocate 9 GiB")
        return whole(path, *limit)

    monkeypatch.setattr(images, "read_image", read)
    model = str(toy_bundle(tmp_path / "model"))
    inputs = [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    assert run(["enhance", *inputs, "-o", str(tmp_path / "out"), "--model", model, "-q"]) == 1
    assert (tmp_path / "out" / "b.png").exists()
    assert "a.png': not enough memory (Unable to allocate 9 GiB)" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ulimit -v")
@pytest.mark.parametrize("limit", [200_000, 350_000, 500_000, 650_000])  # KiB
def test_under_a_limit_of_address_space_it_is_success_or_one_line(limit: int, tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg", Image(np.full((600, 800, 3), 0.05, np.float32)))
    command = f'ulimit -v {limit}; exec "{sys.executable}" -m lldiffusion enhance a.jpg -o b.jpg -q'
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode in (0, 1, 2) and "Traceback" not in done.stderr, done.stderr
    assert (done.returncode == 0) == (tmp_path / "b.jpg").exists() and (done.returncode == 0 or limit < 600_000)
