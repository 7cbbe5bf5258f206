"""The lock file: nothing but itself is ever opened or written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lldiffusion.errors import LLDiffusionError
from lldiffusion.lock import exclusive


@pytest.mark.parametrize("kind", ["link", "dangling link", "hard link", "folder", "pipe"])
def test_what_lies_in_its_place_is_named_and_left_as_it_is(kind: str, tmp_path: Path) -> None:
    precious, lock = tmp_path / "precious", tmp_path / ".out.lock"
    precious.write_text("mine")
    if kind == "folder":
        lock.mkdir()
    elif kind == "pipe":
        os.mkfifo(lock)
    elif kind == "hard link":
        lock.hardlink_to(precious)
    else:
        lock.symlink_to(precious if kind == "link" else tmp_path / "absent")
    with (
        pytest.raises(LLDiffusionError, match=r"\.out\.lock' is in the way of a lock file"),
        exclusive(tmp_path / "out"),
    ):
        pass
    assert precious.read_text() == "mine" and not (tmp_path / "absent").exists()
