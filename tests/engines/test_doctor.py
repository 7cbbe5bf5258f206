"""`lldiff doctor`: it answers on any machine, and each gap it names comes with a fix."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from lldiffusion.cli import run
from lldiffusion.engines import doctor
from lldiffusion.engines.driver import Driver, Gpu

GPU = Driver(None, "13.1", (Gpu(0, "GeForce", "8.9", 8 << 30),))
NONE = Driver("no NVIDIA driver is installed")


def with_packages(monkeypatch: pytest.MonkeyPatch, **versions: str) -> None:
    known = {name.replace("_", "-"): value for name, value in versions.items()}
    monkeypatch.setattr(doctor, "installed", known.get)


def with_driver(monkeypatch: pytest.MonkeyPatch, found: Driver) -> None:
    monkeypatch.setattr(doctor, "driver", lambda: found)


def test_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--json"]) in (0, 1)
    findings = {item["topic"]: item for item in json.loads(capsys.readouterr().out)}
    assert set(findings) >= {"gpu", "onnxruntime", "openvino", "tensorrt", "tensorrt-rtx", "torch", "images", "video"}
    assert findings["images"]["state"] == "ok"
    assert "CPU" in findings["onnxruntime"]["detail"]
    assert all(item["fix"] for item in findings.values() if item["state"] != "ok")


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    run(["doctor"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("ok       lldiffusion")
    assert all(len(line.split()) > 1 for line in lines)


@pytest.mark.parametrize("check", doctor.CHECKS)
def test_nothing_installed(check: Callable[[], doctor.Finding], monkeypatch: pytest.MonkeyPatch) -> None:
    with_packages(monkeypatch)
    with_driver(monkeypatch, NONE)
    finding = check()
    assert "\n" not in finding.detail + finding.fix
    assert finding.state == "ok" or finding.fix


def test_both_onnx_runtimes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with_packages(monkeypatch, onnxruntime="1.32.0", onnxruntime_gpu="1.31.0")
    with_driver(monkeypatch, GPU)
    finding = doctor.check_onnx_runtime()
    assert finding.state == "broken"
    assert "overwrite" in finding.detail
    assert finding.fix.endswith("pip install onnxruntime-gpu")


def fake_runtime(*starting: str) -> Any:
    """An ONNX Runtime that lists CUDA and CPU and falls back, as the real one does, when CUDA does not start."""

    def session(model: bytes, options: object, providers: list[str]) -> Any:
        alive = [name for name in providers if name in starting]
        return SimpleNamespace(get_providers=lambda: alive or ["CPUExecutionProvider"])

    return SimpleNamespace(
        get_available_providers=lambda: ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"],
        preload_dlls=lambda: None,
        SessionOptions=SimpleNamespace,
        InferenceSession=session,
    )


@pytest.mark.parametrize(
    ("starting", "found", "state", "words"),
    [
        (("CUDAExecutionProvider", "CPUExecutionProvider"), GPU, "ok", "runs on CUDA, CPU"),
        (("CPUExecutionProvider",), GPU, "broken", "CUDA is listed but does not start"),
        (("CPUExecutionProvider",), NONE, "ok", "runs on CPU"),
    ],
)
def test_providers_are_started_not_believed(
    starting: tuple[str, ...], found: Driver, state: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_packages(monkeypatch, onnxruntime_gpu="1.32.0")
    with_driver(monkeypatch, found)
    monkeypatch.setitem(sys.modules, "onnxruntime", fake_runtime(*starting))
    finding = doctor.check_onnx_runtime()
    assert finding.state == state
    assert words in finding.detail


@pytest.mark.parametrize(
    ("package", "module", "check"),
    [
        ("onnxruntime", "onnxruntime", doctor.check_onnx_runtime),
        ("openvino", "openvino", doctor.check_openvino),
        ("tensorrt", "tensorrt", doctor.check_tensorrt),
        ("tensorrt_rtx", "tensorrt_rtx", doctor.check_tensorrt_rtx),
        ("av", "av", doctor.check_video),
    ],
)
def test_an_installed_package_that_cannot_be_imported(
    package: str, module: str, check: Callable[[], doctor.Finding], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_packages(monkeypatch, **{package: "1.0"})
    monkeypatch.setitem(sys.modules, module, None)
    finding = check()
    assert finding.state == "broken"
    assert "cannot be imported" in finding.detail
    assert finding.fix.startswith("pip ")


@pytest.mark.parametrize(("extra", "package", "suffix"), [("heic", "pillow_heif", ".heic"), ("raw", "rawpy", ".dng")])
def test_picture_formats_name_their_extras(
    extra: str, package: str, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_packages(monkeypatch)
    missing = doctor.check_picture_extra(extra)
    assert (missing.state, missing.fix) == ("missing", f'pip install "lldiffusion[{extra}]"')
    assert suffix in missing.detail
    with_packages(monkeypatch, **{package: "1.0"})
    monkeypatch.setitem(sys.modules, package, SimpleNamespace())
    assert doctor.check_picture_extra(extra).state == "ok"
    monkeypatch.setitem(sys.modules, package, None)
    assert doctor.check_picture_extra(extra).state == "broken"


def test_picture_formats_are_listed() -> None:
    assert doctor.check_images().detail.endswith("png, jpeg, webp, tiff, avif, gif, bmp")


def test_a_gpu_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    with_driver(monkeypatch, GPU)
    assert doctor.check_gpu().detail == "cuda:0 GeForce, sm_8.9, 8 GiB; the driver runs CUDA up to 13.1"


def test_something_broken_is_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CHECKS", (lambda: doctor.Finding("x", "broken", "y", "z"),))
    assert run(["doctor"]) == 1
