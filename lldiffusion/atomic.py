"""Writing so that a reader sees the old or the new, never a half: a temporary name beside the target, fsync, rename."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def new_path(target: Path) -> Iterator[Path]:
    """A temporary path beside `target` that becomes it when the block ends well, and vanishes when it does not.

    The block makes a file or a folder there.  What stood at `target` is replaced.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(target, "tmp")
    try:
        yield temporary
        flush(temporary)
        _replace(temporary, target)
        _sync(target.parent)
    finally:
        remove(temporary)


def write_text(target: Path, text: str) -> None:
    """Write a text file, UTF-8, line ends as they are given: the file is the old one or the whole new one."""
    with new_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def _beside(target: Path, suffix: str) -> Path:
    """A hidden name beside `target` that nobody uses, short enough for file systems that allow 255 bytes."""
    start = os.fsdecode(os.fsencode(target.name)[:200])
    return target.parent / f".{start}.{secrets.token_hex(4)}.{suffix}"


def _replace(source: Path, target: Path) -> None:
    """Rename over `target`; a folder that stands there is moved aside first, and back if the rename fails."""
    if not target.is_dir() or target.is_symlink():
        os.replace(source, target)
        return
    aside = _beside(target, "old")
    os.replace(target, aside)
    try:
        os.replace(source, target)
    except OSError:
        os.replace(aside, target)
        raise
    remove(aside)


def flush(path: Path) -> None:
    """Bring a file, or everything in a folder, to the disk."""
    if path.is_dir():
        for child in path.iterdir():
            flush(child)
    _sync(path)


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot open a folder
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """Delete a file or folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
