"""Writing so that a reader sees the old or the new, never a half: a temporary name beside the target, fsync, rename."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from lldiffusion.errors import LLDiffusionError, printable

LONGEST = 180  # bytes of a target's name that its temporaries repeat
TEMPORARY = re.compile(
    r"\.(?P<start>.+)\.(?P<machine>[0-9a-f]{8})-(?P<pid>\d{1,10})-[0-9a-f]{8}\.(?P<kind>tmp|old)(\.d)?", re.DOTALL
)
SCRATCH = "lldiff"  # how folders of `scratch` begin
_swept: set[Path] = set()  # by this process
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # a full or failing disk: true of the machine, not of us


@contextmanager
def new_path(target: Path) -> Iterator[Path]:
    """A temporary path beside `target` that becomes it when the block ends well, and vanishes when it does not.

    The block makes a file or a folder there.  What stood at `target` is replaced.
    Raises LLDiffusionError when the disk is full or fails, in the block or when what it wrote is brought to the disk.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep(target.parent)
    temporary = beside(target, "tmp")
    try:
        yield temporary
        flush(temporary)
        _replace(temporary, target)
        _sync(target.parent)
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise LLDiffusionError(f"cannot write '{printable(target)}': {no_room(error, target.parent)}") from error
    finally:
        remove(temporary)


def no_room(error: OSError, folder: Path) -> str:
    """What a full or failing disk means, and what to do."""
    free = shutil.disk_usage(folder).free >> 20
    return f"{error.strerror} ({free} MiB left in '{printable(folder)}'); make room, or name another output"


@contextmanager
def scratch(folder: Path | None = None) -> Iterator[Path]:
    """A new empty folder in `folder`, or among the system's temporary files; it goes when the block ends.

    What a killed process left is removed by the next of this user that asks for one.
    """
    place = Path(tempfile.gettempdir()) if folder is None else folder
    _sweep_scratch(place)
    path = beside(place / SCRATCH, "tmp")
    path.mkdir(0o700)
    try:
        yield path
    finally:
        remove(path)


def _sweep_scratch(place: Path) -> None:
    """In a folder that all users share only folders of this very kind are touched."""
    with suppress(OSError):
        for name in os.listdir(place) if os.name != "nt" else ():
            found = TEMPORARY.fullmatch(name)
            ours = found and (found["start"], found["kind"], found["machine"]) == (SCRATCH, "tmp", _machine())
            if found and ours and not _lives(int(found["pid"])) and not (place / name).is_symlink():
                remove(place / name)


def write_text(target: Path, text: str) -> None:
    """Write a text file, UTF-8, line ends as they are given: the file is the old one or the whole new one."""
    with new_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def beside(target: Path, suffix: str) -> Path:
    """A hidden name beside `target` that nobody uses, short enough for file systems that allow 255 bytes.

    It names this process, so that others know whether its maker still lives.
    """
    start = os.fsdecode(os.fsencode(target.name)[:LONGEST])
    return target.parent / f".{start}.{_machine()}-{os.getpid()}-{secrets.token_hex(4)}.{suffix}"


def sweep(folder: Path) -> None:
    """Remove the temporaries that killed processes of this machine have left in `folder`; once for each folder.

    What was moved aside for a successor that never came is moved back.  Those of living processes, of other machines
    and of other containers, whose process numbers mean nothing here, stay.
    """
    if folder.absolute() in _swept or os.name == "nt":  # on Windows, asking after a process may end it
        return
    _swept.add(folder.absolute())
    with suppress(OSError):  # a folder that may be written but not listed
        for name in os.listdir(folder):
            found = TEMPORARY.fullmatch(name)
            if found and found["machine"] == _machine() and not _lives(int(found["pid"])):
                _clear(folder / name, folder / found["start"], aside=found["kind"] == "old")


def _clear(left: Path, target: Path, aside: bool) -> None:
    with suppress(OSError):  # another process may be sweeping, too
        if aside and not os.path.lexists(target) and len(os.fsencode(target.name)) < LONGEST:
            os.replace(left, target)
        else:
            remove(left)


@lru_cache(1)
def _machine() -> str:
    """Eight hexadecimal digits for where process numbers mean the same: this host, and this container on it."""
    with suppress(OSError):
        return hashlib.sha256(f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}".encode()).hexdigest()[:8]
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        pass  # another user's
    return True


def _replace(source: Path, target: Path) -> None:
    """Rename over `target`; a folder that stands there is moved aside first, and back if the rename fails."""
    if not target.is_dir() or target.is_symlink():
        os.replace(source, target)
        return
    aside = beside(target, "old")
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


def discard(path: Path) -> None:
    """Delete a finished file or folder so that a kill leaves the whole of it or, under a hidden name, the rest."""
    aside = beside(path, "tmp")
    os.replace(path, aside)
    remove(aside)


def remove(path: Path) -> None:
    """Delete a file or folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
