"""The one error a user sees, and the way a missing optional dependency is named."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from difflib import get_close_matches
from types import ModuleType


class LLDiffusionError(Exception):
    """A mistake the user can fix: the message says what was given, what is accepted and what to do.

    The command line prints it as one line and exits with code 2; it never shows a traceback.
    """


class DamagedGraphError(LLDiffusionError):
    """One engine found a graph damaged: no other native library is given it."""


# How engines and the system say that memory ran out: CUDA, ONNX Runtime, C++, PyTorch, mmap, the loader of libraries.
OUT_OF_MEMORY = (
    *("out of memory", "failed to allocate memory", "bad_alloc", "can't allocate memory"),
    *("cannot allocate memory", "failed to map segment"),
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that memory ran out: each engine says it in its own way."""
    words = str(error).lower()
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or any(text in words for text in OUT_OF_MEMORY)


def no_memory(error: BaseException) -> str:
    """What a failed allocation means for who sees it, in one line."""
    reason = " ".join(printable(str(error)).split())[:200]
    return f"not enough memory{f' ({reason})' if reason else ''}: free some, or give this process more"


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Import `module`, or raise an error naming the extra that installs it and what it is for."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise LLDiffusionError(
            f"{purpose} needs the package '{module.partition('.')[0]}', which cannot be imported ({error}): "
            f'install it with  pip install "lldiffusion[{extra}]"'
        ) from error


def choose(given: str, accepted: Iterable[str], what: str) -> str:
    """Return `given` if it is among `accepted`, else raise an error naming the nearest accepted value."""
    names = list(accepted)
    if given in names:
        return given
    nearest = get_close_matches(given, names, n=1)
    hint = f"; did you mean '{nearest[0]}'?" if nearest else ""
    raise LLDiffusionError(f"unknown {what} '{printable(given):.200}': accepted are {', '.join(names)}{hint}")


def printable(text: object) -> str:
    """One line that every terminal can show: control characters and bytes that are no UTF-8 are escaped.

    For names of files, which may hold anything but "/": a line break becomes "\\n", a Latin-1 e-acute "\\xe9".
    """
    return "".join(map(_shown, str(text)))


def _shown(character: str) -> str:
    if 0xDC80 <= ord(character) <= 0xDCFF:  # Python's stand-in for a byte, PEP 383
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
