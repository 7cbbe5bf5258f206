"""Ctrl-C after engines of OpenVINO were closed: in a process of its own, which it used to end with a crash."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import gc, os, signal
from lldiffusion.engines import Enhancer

first, second = (Enhancer.open("tiny", backend="openvino", precision="fp32") for _ in range(2))
first.close(); del first; gc.collect()
second.close(); del second; gc.collect()
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("stopped")
"""


def test_ctrl_c_after_engines_were_closed() -> None:
    pytest.importorskip("openvino")
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "stopped\n"), done.stderr
