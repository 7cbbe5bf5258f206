"""A full disk: every command that writes says so in one line, and leaves nothing behind."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lldiffusion.cli import run
from lldiffusion.errors import LLDiffusionError
from lldiffusion.images import FORMATS, Image, write_image
from support.extras import need_extra


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB."""
    path = tmp_path / "disk"
    path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(path)], capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


@pytest.mark.parametrize("suffix", sorted({format_: suffix for suffix, format_ in FORMATS.items()}.values()))
def test_a_picture_is_whole_or_not_there(suffix: str, disk: Path) -> None:
    need_extra(suffix)
    noise = np.random.default_rng(0).random((200, 300, 3), np.float32)
    with pytest.raises(LLDiffusionError, match="cannot write"):
        write_image(disk / f"a{suffix}", Image(noise), quality=100 if suffix in (".jpg", ".jpeg", ".webp") else None)
    assert not list(disk.iterdir())


def test_a_checkpoint_is_whole_or_not_there(disk: Path) -> None:
    torch = pytest.importorskip("torch")
    from lldiffusion.config import load_config
    from lldiffusion.model.checkpoint import save_checkpoint

    with pytest.raises(LLDiffusionError, match=r"cannot write '.*model': No space left on device.*make room"):
        save_checkpoint(disk / "model", load_config("tiny"), {"a": torch.zeros(1 << 20)})
    assert not list(disk.iterdir())


@pytest.mark.parametrize("named", [True, False])
def test_whatever_finds_the_disk_full_is_one_line(
    named: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fill(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *(["a\nb"] if named else []))

    monkeypatch.setattr("lldiffusion.engines.describe.describe", fill)
    assert run(["inspect", "tiny"]) == 2
    error = capsys.readouterr().err
    assert "No space left on device; make room" in error and error.count("\n") == 1
