"""What was made of what: so that a picture that is finished is not made again, whoever asks and however work ended.

Beside an output NAME lies `.NAME.lldiff`: the hash of everything that decides the result (input, model, settings), and
the hash of the result.  The output comes first.  A kill between the two costs the picture's work once more and changes
nothing, since the same wish gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lldiffusion.errors import LLDiffusionError, printable

from .places import Place, failures_named
from .staging import commit


def once(
    target: Place, body: bytes, wish: dict[str, Any], make: Callable[[bytes], bytes], overwrite: bool = False
) -> bool:
    """Put what `make` makes of `body` at `target`, unless that was done; returns whether it was made now.

    Args:
        wish: everything beside the input that decides the result, as JSON knows it.
    Raises LLDiffusionError for an output that is something else, unless it may be replaced.
    """
    key = _hash(json.dumps(wish, sort_keys=True).encode() + b"\0" + _hash(body).encode())
    note = target.with_name(f".{target.name}.lldiff")
    there = read(target) if target.exists() else None
    if there is not None and note.exists() and read(note).decode("ascii", "replace") == f"{key} {_hash(there)}":
        return False
    result = make(body)
    if there is not None and there != result and not overwrite:
        raise LLDiffusionError(f"already there: {printable(target)}; replace with -y, or name another folder")
    if there != result:
        commit(result, target)
    commit(f"{key} {_hash(result)}".encode(), note)
    return True


def read(place: Place) -> bytes:
    """All bytes of a file.  Raises LLDiffusionError where it lies at an address, OSError where it lies here."""
    if isinstance(place, Path):
        return place.read_bytes()
    with failures_named(place, "read"):
        return bytes(place.system.cat_file(place.path))


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
