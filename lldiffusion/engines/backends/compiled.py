"""What OpenVINO compiled, kept for the next process: compiling a model takes it a second, reading the result a fifth.

A file is never trusted by its name.  The name is the hash of everything that went in: the graph, the weights beside it,
OpenVINO's version, its settings, the processor.  The file begins with the hash of what follows; one that is damaged
or cut short is compiled anew and written over.  They lie in the user's cache folder, the oldest go first.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from lldiffusion.atomic import new_path
from lldiffusion.bundle.archive import cache_folder
from lldiffusion.errors import LLDiffusionError
from lldiffusion.hashing import sha256_of

from ..processor import processor

ROOM = 512 << 20  # bytes that all files may take together
FORM = 1  # goes up when `openvino_cpu` rewrites graphs in another way before it compiles them
DIGEST = hashlib.sha256().digest_size


def compiled(core: Any, graph: Path, settings: dict[str, Any], fixed: str, compile_it: Callable[[], Any]) -> Any:
    """`graph` on OpenVINO's CPU: read from the cache, or made by `compile_it` and put there.

    `fixed` says what was written into the graph after it was read.  A cache that cannot be read or written costs
    time, nothing else.
    """
    path = None
    with suppress(OSError, RuntimeError):  # none there, or one that this OpenVINO does not take
        path = _place(core, graph, settings, fixed)
        if (kept := _read(path)) is not None:
            return core.import_model(kept, "CPU", settings)
    model = compile_it()
    if path is not None:
        with suppress(OSError, RuntimeError, LLDiffusionError):
            _write(path, model.export_model().getvalue())
    return model


def _place(core: Any, graph: Path, settings: dict[str, Any], fixed: str) -> Path:
    version = core.get_versions("CPU")["CPU"].build_number
    said = [FORM, _hashes(graph), settings, fixed, version, str(processor()), os.cpu_count()]
    key = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
    return cache_folder() / "openvino" / f"{key}.blob"


def _hashes(graph: Path) -> list[str]:
    """Of the graph, and of the files beside it that it names: its weights."""
    text = graph.read_bytes()
    beside = sorted(each for each in graph.parent.iterdir() if each.name.encode() in text and each.is_file())
    return [hashlib.sha256(text).hexdigest(), *(sha256_of(each) for each in beside)]


def _read(path: Path) -> bytes | None:
    """What was compiled, None if it is not as it was written."""
    content = path.read_bytes()
    digest, model = content[:DIGEST], content[DIGEST:]
    if hashlib.sha256(model).digest() != digest:
        return None
    os.utime(path)  # used just now
    return model


def _write(path: Path, model: bytes) -> None:
    if len(model) > ROOM:
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with new_path(path) as temporary:
        temporary.write_bytes(hashlib.sha256(model).digest() + model)
    files = sorted(((each.stat(), each) for each in path.parent.glob("*.blob")), key=lambda each: -each[0].st_mtime)
    total = 0
    for stat, each in files:
        total += stat.st_size
        if total > ROOM:
            each.unlink(missing_ok=True)
