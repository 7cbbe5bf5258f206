"""TensorRT engines beside the ONNX files they were built from: what each was built for, and whether to trust it.

An engine file is code for the GPU and is not checked by TensorRT.  It is used only when the bundle's manifest lists
its hash, or when its sidecar (`NAME.json`) carries a signature made with this machine's own key: it was built here.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lldiffusion.atomic import beside, new_path, sweep, write_text
from lldiffusion.documents import read_json
from lldiffusion.errors import LLDiffusionError
from lldiffusion.hashing import sha256_of
from lldiffusion.tables import build

from .archive import cache_folder
from .engine_key import EngineKey, canonical
from .files import ENGINES
from .manifest import Manifest


@dataclass(frozen=True)
class EngineFile:
    """An engine on disk."""

    path: Path
    key: EngineKey
    trusted: bool  # its hash is in the manifest, or it was built on this machine


def write_engine(folder: Path, key: EngineKey, blob: bytes | memoryview, about: dict[str, Any]) -> Path:
    """Put an engine that was built here into the cache of a bundle, signed; `about` is shown by `lldiff inspect`."""
    path = folder / key.file()
    with new_path(path) as temporary:
        temporary.write_bytes(blob)
    body = {"key": key.to_dict(), "sha256": sha256_of(path), "about": about}
    write_text(sidecar(path), json.dumps(body | {"signature": _sign(body)}, indent=1) + "\n")
    return path


def sidecar(path: Path) -> Path:
    """The description beside an engine."""
    return path.with_name(path.name + ".json")


def list_engines(folder: Path, manifest: Manifest) -> Iterator[EngineFile]:
    """Engines of a bundle: those of its manifest, then those of its cache."""
    listed = {engine.file: engine.key for engine in manifest.engines}
    for name, key in listed.items():
        yield EngineFile(folder / name, key, trusted=True)  # hashed when the bundle was opened
    for path in sorted((folder / ENGINES).glob("*.engine")):
        if f"{ENGINES}/{path.name}" not in listed:
            yield from _from_cache(path)


def _from_cache(path: Path) -> Iterator[EngineFile]:
    try:
        body = read_json(sidecar(path))
        signature = str(body.pop("signature", ""))
        key = build(EngineKey, body.get("key"), "key", ignore_unknown=True)
    except (OSError, LLDiffusionError):
        return  # no sidecar, or a damaged one: an engine nobody can vouch for
    built_here = hmac.compare_digest(signature.encode(), _sign(body).encode()) and not path.is_symlink()
    yield EngineFile(path, key, trusted=built_here and sha256_of(path) == body.get("sha256"))


def _sign(body: dict[str, Any]) -> str:
    return hmac.new(_local_key(), canonical(body), "sha256").hexdigest()


def _local_key() -> bytes:
    """32 random bytes, made on first use, readable by this user only."""
    path = cache_folder() / "engine.key"
    try:
        return path.read_bytes()
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    temporary = beside(path, "tmp")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(secrets.token_bytes(32))
    try:
        os.link(temporary, path)  # fails when another process was first: its key counts
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        os.replace(temporary, path)
    temporary.unlink(missing_ok=True)
    return path.read_bytes()
