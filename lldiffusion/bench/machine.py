"""The machine a benchmark runs on: its name, its packages, and the state it is in."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

from lldiffusion.engines.driver import driver
from lldiffusion.versions import installed_versions

from .record import Machine

PACKAGES = (
    *("numpy", "torch", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "tensorrt-rtx", "cuda-bindings"),
    *("onnx", "scikit-image"),
)
THERMAL = Path("/sys/class/thermal")
CLOCKS = Path("/sys/devices/system/cpu")


def describe_machine() -> Machine:
    """Name and size of this machine, and whatever of its state can be read now."""
    gpus = driver().gpus
    return Machine(
        system=f"{platform.system()} {platform.machine()}",
        cpu=_cpu(),
        cores=len(allowed_cpus()),
        memory=_memory(),
        gpu=gpus[0].name if gpus else "",
        gpu_memory=gpus[0].memory if gpus else 0,
        conditions=conditions(),
    )


def allowed_cpus() -> list[int]:
    """The processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def conditions() -> dict[str, str]:
    """Load, clocks and temperatures; what cannot be read is not there."""
    found = {"load": f"{os.getloadavg()[0]:.2f}"} if hasattr(os, "getloadavg") else {}
    for name, path in (
        ("clock governor", CLOCKS / "cpu0/cpufreq/scaling_governor"),
        ("clock kHz", CLOCKS / "cpu0/cpufreq/scaling_cur_freq"),
        ("temperature m°C", THERMAL / "thermal_zone0/temp"),
    ):
        try:
            found[name] = path.read_text().strip()
        except OSError:
            continue  # virtual machines show none of them
    return found | _gpu_conditions()


def _gpu_conditions() -> dict[str, str]:
    if driver().problem:
        return {}
    fields = ("clocks.sm", "clocks.mem", "temperature.gpu", "power.draw", "clocks_event_reasons.active")
    answer = _output(["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader", "-i", "0"])
    return {f"gpu {name}": value.strip() for name, value in zip(fields, answer.split(","), strict=False) if value}


def versions() -> dict[str, str]:
    """This program, Python and every package that runs a model here."""
    return installed_versions(PACKAGES) | ({"cuda driver": driver().cuda} if driver().cuda else {})


def commit() -> str:
    """Hash of the checked-out code, "+" behind it when files were changed; empty outside a repository."""
    here = str(Path(__file__).resolve().parent)
    name = _output(["git", "-C", here, "rev-parse", "--short=12", "HEAD"])
    changed = _output(["git", "-C", here, "status", "--porcelain", "--untracked-files=no"])
    return name and name + "+" * bool(changed)


def _output(command: list[str]) -> str:
    """Standard output of a command, empty when it fails or is not there."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _memory() -> int:
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 0
