"""Engines have the processors to themselves: NumPy's OpenBLAS is left asleep.

Its threads spin for some 25 ms after a product of large matrices, which made two threads of an engine slower than one.
"""

import subprocess
import sys

import pytest

# Printed: processor time of OpenBLAS' threads, in ticks, before and after; these exist as soon as NumPy is loaded.
PROGRAM = """
import os, time
from pathlib import Path
os.environ["OPENBLAS_NUM_THREADS"] = "4"
import numpy as np
tasks = [t for t in Path("/proc/self/task").iterdir() if t.name != str(os.getpid())]

def ticks():
    after_name = [(t / "stat").read_text().rpartition(")")[2].split() for t in tasks]
    return sum(int(fields[11]) + int(fields[12]) for fields in after_name)

pixels = np.random.default_rng(0).random((720, 1280, 3), np.float32)
{work}
time.sleep(0.5)  # they spin once after they were made, too
before = ticks()
for _ in range(5):
    again()
print(len(tasks), ticks() - before)
"""

STREAM = """
from lldiffusion import Enhancer
enhancer = Enhancer.open("live", tile="none")
again = lambda: list(enhancer.stream([pixels] * 2))
"""

COLOURS = """
from lldiffusion.images.colour import from_srgb, to_srgb
from lldiffusion.images.icc import make_profile, power
adobe = make_profile((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), (0.3127, 0.329), power(563 / 256), "AdobeRGB")
again = lambda: from_srgb(to_srgb(pixels, adobe)[0], adobe)
"""

WARM = """
from lldiffusion.video.stability.flow import tone_mapped_luma
again = lambda: tone_mapped_luma(pixels)
"""

MATRIX = "again = lambda: pixels.reshape(720, 3840) @ np.ones((3840, 96), np.float32)"


def ticks_of(work: str) -> int:
    made = subprocess.run([sys.executable, "-c", PROGRAM.format(work=work)], capture_output=True, text=True, check=True)
    threads, ticks = map(int, made.stdout.split())
    if not threads:
        pytest.skip("this NumPy has no threads of its own")
    return ticks


def test_the_check_sees_what_it_looks_for() -> None:
    assert ticks_of(MATRIX) > 0


@pytest.mark.parametrize("work", [STREAM, COLOURS, WARM], ids=["stream", "colours", "luma"])
def test_openblas_sleeps(work: str) -> None:
    assert ticks_of(work) == 0
