"""One writer at a time.

The kernel holds the lock and drops it when its owner ends, however it ends: a lock file left behind by a crash
locks nothing.  The file names its owner for the message that the second writer gets.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lldiffusion.errors import LLDiffusionError


@contextmanager
def exclusive(target: Path, wait: float = 0.0) -> Iterator[None]:
    """Hold the right to write `target` (a file or folder) while the block runs.

    Raises LLDiffusionError, naming the other process, when it is still taken after `wait` seconds.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    path = target.parent / f".{target.name}.lock"
    handle = _acquire(path, target, time.monotonic() + wait)
    try:
        os.ftruncate(handle, 0)
        os.write(handle, f"process {os.getpid()} on {socket.gethostname()} since {time.ctime()}".encode())
        yield
    finally:
        with suppress(OSError):  # Windows keeps a file that is open: a lock file left behind locks nothing
            path.unlink()
        os.close(handle)


def _acquire(path: Path, target: Path, deadline: float) -> int:
    while True:
        handle = _open(path)
        if not _try_lock(handle):
            owner = os.read(handle, 200).decode(errors="replace") or "another process"
            os.close(handle)
            if time.monotonic() > deadline:
                raise LLDiffusionError(f"'{target}' is being written by {owner}: wait for it, or name another output")
            time.sleep(0.1)
        elif _same(handle, path):
            return handle
        else:
            os.close(handle)  # its owner has just removed it: take the new one


def _open(path: Path) -> int:
    """The lock file itself, never what a link at its place leads to: it will be written over."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EISDIR):
            raise
        raise LLDiffusionError(f"'{path}' is in the way of a lock file, and is none: remove it") from error
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(handle)
        raise LLDiffusionError(f"'{path}' is in the way of a lock file, and is none: remove it")
    return handle


def _same(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(path))
    except FileNotFoundError:
        return False


def _try_lock(handle: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(handle, 1 << 30, os.SEEK_SET)  # far behind the text, so that it stays readable
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            os.lseek(handle, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
