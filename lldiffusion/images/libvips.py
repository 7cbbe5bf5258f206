"""libvips through pyvips: started once, kept silent, its errors turned into ours, refused after a fork."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from lldiffusion.errors import LLDiffusionError, printable

from .formats import ACCEPTED

_threads_of: set[int] = set()  # the process in which libvips has started its threads


@lru_cache(1)
def libvips() -> ModuleType:
    """pyvips, made silent: warnings would land on the terminal, errors still raise."""
    os.environ.setdefault("VIPS_WARNING", "0")  # libvips reads this when it starts
    import pyvips

    # pyvips answers every message of libvips in Python, where a Ctrl-C that arrives just then is swallowed
    getattr(pyvips, "_remove_log_handler", lambda: None)()
    return pyvips


def refuse_after_fork() -> None:
    """libvips would wait for ever for the threads it had before the fork: say so instead."""
    if _threads_of and os.getpid() not in _threads_of:
        raise LLDiffusionError(
            "cannot read or write images in a process forked from one that already did (libvips' threads do not "
            "survive it): start workers by 'spawn' or 'forkserver' (PyTorch: DataLoader(multiprocessing_context=...))"
        )
    _threads_of.add(os.getpid())


@contextmanager
def errors_named(path: Path, verb: str) -> Iterator[None]:
    """Turn errors of libvips inside the block into one that names the file; `verb`: "read" or "write"."""
    vips = libvips()
    try:
        yield
    except vips.Error as error:
        reason = "; ".join(line.strip() for line in str(error.detail or error).splitlines() if line.strip())
        if "a known file format" in reason or "a known format" in reason:  # of a file, of a source
            reason = f"not an image, or damaged at its start; accepted are {ACCEPTED}"
        raise LLDiffusionError(f"cannot {verb} '{printable(path)}': {reason}") from error
