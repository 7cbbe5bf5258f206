"""Peak memory of this process: the system's own high-water mark, reset before each call."""

from __future__ import annotations

import sys
from pathlib import Path

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # proc(5): resets VmHWM


def reset_peak() -> None:
    """Start measuring the peak anew, where the system can."""
    try:
        CLEAR.write_text(RESET_PEAK)
    except OSError:
        return  # no Linux, or not permitted: the peak is then that of the process's whole life


def peak() -> int | None:
    """Largest resident size in bytes since the last reset; None where the system does not say."""
    try:
        lines = STATUS.read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return _peak_of_life()


def _peak_of_life() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    value = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return value if sys.platform == "darwin" else value * 1024


def limit_memory(size: int) -> None:
    """Refuse this process more than `size` bytes of its own, so that a failure is its own and not the machine's."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_DATA, (size, size))
