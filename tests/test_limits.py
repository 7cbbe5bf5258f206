"""Limits of control groups (v1 and v2), of `ulimit -v` and of the scheduler: the tightest one counts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lldiffusion import cli, limits
from lldiffusion.engines.backends.feeds import threads
from lldiffusion.engines.memory import host_memory


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty tree of control groups, and a process that is in none."""
    monkeypatch.setattr(limits, "GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(limits, "MEMBER", tmp_path / "self")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    return tmp_path


def member(groups: Path, *lines: str) -> None:
    (groups / "self").write_text("".join(f"{line}\n" for line in lines))


def group(groups: Path, name: str, **values: str) -> None:
    folder = groups / "cgroup" / name
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in values.items():
        (folder / file.replace("__", ".")).write_text(f"{text}\n")


def test_without_groups_there_is_no_limit(groups: Path) -> None:
    assert limits.cgroup_free() is None and limits.processors() == 64 and threads() == 0
    member(groups, "garbage", "0::/../elsewhere")
    group(groups, ".", memory__max="max", memory__current="5", cpu__max="max 100000")
    assert limits.cgroup_free() is None and limits.processors() == 64


def test_the_tightest_group_of_version_2_counts(groups: Path) -> None:
    member(groups, "0::/pod/box")
    group(groups, "pod", memory__max="1000", memory__current="400", cpu__max="350000 100000")
    group(groups, "pod/box", memory__max="max", memory__current="300", cpu__max="max 100000")
    assert limits.cgroup_free() == 600 and limits.processors() == 4 == threads()
    group(groups, "pod/box", memory__max="500", cpu__max="50000 100000")
    assert limits.cgroup_free() == 200 == host_memory()
    assert limits.processors() == 1 == threads()


def test_page_cache_that_goes_by_itself_is_free(groups: Path) -> None:
    member(groups, "0::/box")
    stat = "anon 100\ninactive_file 250\nactive_file 7"
    group(groups, "box", memory__max="500", memory__current="450", memory__stat=stat)
    assert limits.cgroup_free() == 300
    group(groups, "box", memory__current="900", memory__stat="anon 900")
    assert limits.cgroup_free() == 0


def test_version_1_and_a_container_that_sees_its_group_as_the_root(groups: Path) -> None:
    member(groups, "9:name=systemd:/", "4:memory:/docker/0123", "2:cpu,cpuacct:/docker/0123", "0::/")
    none = str((1 << 63) - 4096)
    group(groups, "memory", memory__limit_in_bytes="700", memory__usage_in_bytes="600")
    group(groups, "memory", memory__stat="total_inactive_file 50")
    group(groups, "cpu", cpu__cfs_quota_us="200000", cpu__cfs_period_us="100000")
    assert limits.cgroup_free() == 150 and limits.processors() == 2
    group(groups, "memory", memory__limit_in_bytes=none)
    group(groups, "cpu", cpu__cfs_quota_us="-1")
    assert (limits.cgroup_free() or 0) > 1 << 60 and limits.processors() == 64


def test_affinity_and_the_variable_that_overrules_all(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5}, raising=False)
    assert limits.processors() == 2 == threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert threads() == 7


def test_the_command_line_tells_libraries_how_many_processors_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "")  # so that it is put back
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr("sys.argv", ["lldiff", "--version"])
    for limited, told in ((False, None), (True, "3")):
        monkeypatch.setattr(cli, "processors_are_limited", lambda limited=limited: limited)
        monkeypatch.setattr(cli, "processors", lambda: 3)
        with pytest.raises(SystemExit):
            cli.main()
        assert os.environ.get("OMP_NUM_THREADS") == told


@pytest.mark.skipif(sys.platform != "linux", reason="ulimit -v")
def test_the_limit_of_a_shell_is_obeyed() -> None:
    code = "from lldiffusion.limits import address_space_free as f; from lldiffusion.engines.memory import host_memory"
    code += "; print(f(), host_memory())"
    command = f'ulimit -v {4 << 20}; exec "{sys.executable}" -c "{code}"'
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    left, free = map(int, done.stdout.split())
    assert 2 << 30 < left < 4 << 30 and free <= left
