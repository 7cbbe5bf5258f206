"""Files and folders at addresses as paths of this machine, for those parts that know nothing of addresses."""

from __future__ import annotations

import atexit
import os
import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path

from lldiffusion.atomic import remove, scratch
from lldiffusion.errors import LLDiffusionError, printable

from .places import Remote, failures_named, is_remote, is_store
from .staging import put

KEPT = 4  # copies beside those that are kept for good: a batch of videos takes one after the other
_passing: OrderedDict[str, tuple[ExitStack, Path]] = OrderedDict()  # by address
_lasting: dict[str, tuple[ExitStack, Path]] = {}
_waiting: dict[str, Path] = {}  # results, by address


def here(text: str, lasting: bool = False) -> str:
    """A path where what `text` names can be read: itself, or a copy of what lies at that address.

    Args:
        lasting: keep the copy as long as this process lives; else until KEPT others were made.
    Raises LLDiffusionError where there is nothing, or nobody answers.
    """
    if not is_remote(text):
        return text
    if text not in _lasting and text not in _passing:
        if not _lasting and not _passing:
            atexit.register(_forget_all)
        (_lasting if lasting else _passing)[text] = _fetched(text)
        while len(_passing) > KEPT:
            _passing.popitem(last=False)[1][0].close()
    return str((_lasting.get(text) or _passing[text])[1])


def video_here(text: str) -> str:
    """The same for a video or pictures that FFmpeg may read where they are."""
    return here(text) if is_store(text) else text


def identity(text: str) -> str:
    """What changes with the content at an address, without reading it."""
    remote = Remote.of(text)
    with failures_named(text, "look at"):
        return str(remote.system.ukey(remote.path))


@contextmanager
def named(*given: str) -> Iterator[None]:
    """Messages of the block name these addresses, never copies of what lies there."""
    try:
        yield
    except LLDiffusionError as error:
        line = str(error)
        for address in filter(is_remote, given):
            copies = [found[1] for found in (_lasting.get(address), _passing.get(address)) if found]
            for copy in [*copies, *([_waiting[address]] if address in _waiting else [])]:
                line = line.replace(str(copy), printable(address))
        if line == str(error):
            raise
        raise LLDiffusionError(line) from error


@contextmanager
def committed(text: str, overwrite: bool = False) -> Iterator[str]:
    """A path to write to; what stands there, a file or a folder, is put at the address `text` when the block ends well.

    Otherwise what was made lies there still, so that work which is resumed finds it.  A path of this machine is itself.
    Raises LLDiffusionError for what is there already, unless it may be replaced.
    """
    if not is_store(text):
        yield text
        return
    target = Remote.of(text)
    if not overwrite and "%" not in target.name and target.exists():
        raise LLDiffusionError(f"already there: {printable(text)}; replace it with -y, or name another output")
    path = _waiting[text] = waiting_for(target)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        yield f"{path}/" if text.endswith("/") else str(path)
        _put_all(path, target)
        remove(path.parent)
    finally:
        if path.parent.is_dir() and not any(path.parent.iterdir()):
            path.parent.rmdir()


def waiting_for(target: Remote) -> Path:
    """Where a result lies until it is committed."""
    return _work_folder(target) / target.name


def _put_all(path: Path, target: Remote) -> None:
    """A file, and before it those beside it of its name; or a folder; or, of a pattern of pictures, what lies there."""
    if path.is_file():
        for file in (*sorted(each for each in path.parent.glob(f"{path.stem}.*") if each != path), path):
            put(file, target.with_name(file.name))
        return
    root, there = (path, target) if path.is_dir() else (path.parent, target.with_name(""))
    for file in sorted(each for each in root.rglob("*") if each.is_file()):
        put(file, there / file.relative_to(root))


def _work_folder(target: Remote) -> Path:
    """Always the same for an address, below $TMPDIR, of this user."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    return Path(tempfile.gettempdir()) / f"lldiff-{user}-{sha256(str(target).encode()).hexdigest()[:16]}"


def _fetched(address: str) -> tuple[ExitStack, Path]:
    remote, kept = Remote.of(address), ExitStack()
    folder = remote.is_dir()
    if not folder and not remote.exists():
        raise LLDiffusionError(f"there is nothing at '{printable(address)}'")
    path = kept.enter_context(scratch()) / (remote.name or "copy")
    try:
        for file, name in remote.files() if folder else [(remote, None)]:
            target = path / name if name else path
            target.parent.mkdir(parents=True, exist_ok=True)
            with failures_named(file, "read"):
                file.system.get_file(file.path, str(target))
    except BaseException:
        kept.close()
        raise
    return kept, path


def _forget_all() -> None:
    for kept, _ in (*_lasting.values(), *_passing.values()):
        kept.close()
