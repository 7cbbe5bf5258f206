"""What this process may take: limits of its control groups (v1 and v2), of its shell, and of its scheduler.

A container sees the whole machine in /proc, and is killed when it takes it.  What counts is the tightest limit on the
way from the process's own group up to the root (cgroups(7); kernel documentation, cgroup-v1/memory and cgroup-v2).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
MEMBER = Path("/proc/self/cgroup")
STATM = Path("/proc/self/statm")


def cgroup_free() -> int | None:
    """Bytes left under the tightest memory limit of this process's control groups; None: there is none."""
    left = [
        room
        for limit, used, cache in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        )
        for folder in _folders("memory")
        if (room := _room(folder, limit, used, cache)) is not None
    ]
    return min(left, default=None)


def address_space_free() -> int | None:
    """Bytes left under RLIMIT_AS (`ulimit -v`); None: there is no such limit."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return None
    try:
        taken = int(STATM.read_text().split()[0]) * resource.getpagesize()
    except (OSError, ValueError):
        return limit
    return max(limit - taken, 0)


def processors() -> int:
    """How many processors this process may keep busy: of its affinity and its control groups' quota, the fewer."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *(math.ceil(quota) for quota in _quotas())]))


def processors_are_limited() -> bool:
    """Whether that is fewer than the machine has."""
    return processors() < (os.cpu_count() or 1)


def _quotas() -> Iterator[float]:
    """Processors that each control group may use on average."""
    for folder in _folders("cpu"):
        words = _text(folder / "cpu.max").split()  # "200000 100000": microseconds of each period; or "max 100000"
        quota, period = words if len(words) == 2 else ("", "")
        if not words:
            quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")  # -1: no limit
        if quota.isdigit() and period.isdigit() and int(quota) and int(period):
            yield int(quota) / int(period)


def _room(folder: Path, limit: str, used: str, cache: str) -> int | None:
    """Limit less use, of which the page cache that the kernel would give back at once is no part."""
    most, now = _text(folder / limit), _text(folder / used)
    if not most.isdigit() or not now.isdigit():  # absent, or "max"
        return None
    stat = (line.split() for line in _text(folder / "memory.stat").splitlines())
    back = sum(int(words[1]) for words in stat if words[0] == cache)
    return max(int(most) - max(int(now) - back, 0), 0)


def _folders(controller: str) -> Iterator[Path]:
    """The folders of this process's group and of all above it, in the v2 tree and in a v1 controller's."""
    for line in _text(MEMBER).splitlines():
        number, names, path = [*line.split(":", 2), "", ""][:3]
        if number == "0" or controller in names.split(","):
            top = GROUPS if number == "0" else GROUPS / controller
            inner = Path(path.lstrip("/"))
            yield from (top / part for part in (inner, *inner.parents) if ".." not in part.parts)


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, ValueError):
        return ""
