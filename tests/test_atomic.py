"""Writing atomically: the old or the new, never a half, and no leftovers."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lldiffusion.atomic import beside, new_path, scratch, write_text
from lldiffusion.errors import LLDiffusionError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with new_path(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new" and names(tmp_path) == ["file"]


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    (target / "stale").touch()
    with new_path(target) as temporary:
        temporary.mkdir()
        (temporary / "fresh").touch()
    assert names(target) == ["fresh"] and names(tmp_path) == ["folder"]


def test_a_block_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file"
    write_text(target, "old")
    with pytest.raises(KeyboardInterrupt), new_path(target) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert target.read_text() == "old" and names(target.parent) == ["file"]


def test_text_that_does_not_reach_the_disk_is_not_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(tmp_path / "file", "old")

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_text(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "old" and names(tmp_path) == ["file"]


def test_text_is_written_as_given(tmp_path: Path) -> None:
    write_text(tmp_path / "table.csv", "ä\r\nb\n")
    assert (tmp_path / "table.csv").read_bytes() == "ä\r\nb\n".encode()


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "old")

    def fill() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    says = r"file': No space left on device \(\d+ MiB left.*make room"
    with pytest.raises(LLDiffusionError, match=says), new_path(tmp_path / "file") as temporary:  # noqa: PT012
        temporary.write_text("half")
        fill()
    assert (tmp_path / "file").read_text() == "old" and names(tmp_path) == ["file"]


def test_a_disk_that_fails_at_the_end_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(LLDiffusionError, match="Input/output error"):
        write_text(tmp_path / "file", "new")
    assert names(tmp_path) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from lldiffusion import atomic
target = Path(sys.argv[1])
if sys.argv[2] == "between":  # the old one is aside, the new one not yet in its place
    real = os.replace
    def replace(source, place):
        if source.name.endswith(".tmp"):
            os.kill(os.getpid(), signal.SIGKILL)
        real(source, place)
    os.replace = replace
with atomic.new_path(target) as temporary:
    temporary.mkdir()
    (temporary / "new").touch()
    if sys.argv[2] == "inside":
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL on Windows")
@pytest.mark.parametrize("moment", ["inside", "between"])
def test_the_next_run_removes_what_a_killed_one_left(moment: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old").touch()
    command = [sys.executable, "-c", KILLED, str(tmp_path / "folder"), moment]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert [name for name in names(tmp_path) if name.endswith(".tmp")]
    write_text(tmp_path / "other", "x")
    assert names(tmp_path) == ["folder", "other"] and names(tmp_path / "folder") == ["old"]


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL on Windows")
def test_scratch_folders_go_and_those_of_killed_runs_too(tmp_path: Path) -> None:
    with scratch(tmp_path) as folder:
        (folder / "file").touch()
        assert folder.stat().st_mode & 0o777 == 0o700
    assert names(tmp_path) == []
    code = "import os, signal, sys; from pathlib import Path; from lldiffusion.atomic import scratch\n"
    code += "with scratch(Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    (left,) = names(tmp_path)
    foreign = beside(tmp_path / "somebody's", "tmp").with_name(left.replace("lldiff", "somebody", 1))
    foreign.touch()
    with scratch(tmp_path) as folder:
        assert names(tmp_path) == sorted([folder.name, foreign.name])


def test_temporaries_of_the_living_and_of_other_machines_stay(tmp_path: Path) -> None:
    living = beside(tmp_path / "a", "tmp")
    elsewhere = tmp_path / f".a.{'0' * 8}-{2**22 + 1}-{'0' * 8}.tmp"
    foreign = tmp_path / ".a.tmp"
    for path in (living, elsewhere, foreign):
        path.touch()
    write_text(tmp_path / "other", "x")
    assert all(path.exists() for path in (living, elsewhere, foreign))
