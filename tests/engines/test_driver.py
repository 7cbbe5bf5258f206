"""Questions to the NVIDIA driver, answered by a stand-in for its C library; and its absence."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from lldiffusion.engines import driver as module
from lldiffusion.engines.driver import Gpu, ask, device_index


class FakeCuda:
    """Two GPUs behind driver functions with C conventions: results through pointers, 0 for success."""

    def __init__(self, init: int = 0, count: int = 2) -> None:
        self.init, self.count = init, count

    def cuInit(self, flags: int) -> int:
        return self.init

    def cuDriverGetVersion(self, out: Any) -> int:
        return self._put(out, 13010)

    def cuDeviceGetCount(self, out: Any) -> int:
        return self._put(out, self.count)

    def cuDeviceGet(self, out: Any, index: int) -> int:
        return self._put(out, index + 10)

    def cuDeviceGetName(self, buffer: Any, size: int, device: Any) -> int:
        buffer.value = f"GPU {device.value}".encode()
        return 0

    def cuDeviceTotalMem_v2(self, out: Any, device: Any) -> int:
        return self._put(out, 24 << 30)

    def cuDeviceGetAttribute(self, out: Any, kind: int, device: Any) -> int:
        return self._put(out, {75: 8, 76: 9}[kind])

    @staticmethod
    def _put(out: Any, value: int) -> int:
        out._obj.value = value
        return 0


def test_gpus_of_a_driver() -> None:
    found = ask(FakeCuda())
    assert found.problem is None
    assert found.cuda == "13.1"
    assert found.gpus == (Gpu(0, "GPU 10", "8.9", 24 << 30), Gpu(1, "GPU 11", "8.9", 24 << 30))


def test_a_driver_without_a_usable_gpu() -> None:
    assert "error 100" in (ask(FakeCuda(init=100)).problem or "")
    assert "no NVIDIA GPU is visible" in (ask(FakeCuda(count=0)).problem or "")


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", absent)
    assert module.driver.__wrapped__().problem == "no NVIDIA driver is installed"
    assert module.free_memory(0) == 0


@pytest.mark.parametrize(
    ("text", "index"), [("cuda", 0), ("cuda:1", 1), ("cpu", None), ("auto", None), ("cuda:x", None), ("cud", None)]
)
def test_device_index(text: str, index: int | None) -> None:
    assert device_index(text) == index
