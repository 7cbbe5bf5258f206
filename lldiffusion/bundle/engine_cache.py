"""TensorRT engines beside the ONNX files they were built from: what each was built for, and whether to trust it.

An engine file is code for the GPU and is not checked by TensorRT.  It is used only when the bundle's manifest lists
its hash, or when its sidecar (`NAME.json`) carries a signature made with this machine's own key: it was built here.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from lldiffusion.atomic import new_path, write_text
from lldiffusion.hashing import sha256_of

from .archive import cache_folder
from .files import ENGINES
from .manifest import Manifest, safe_name


@dataclass(frozen=True)
class EngineKey:
    """Everything that decides whether an engine fits: two engines with equal keys are interchangeable."""

    graph: str  # "encoder", "color_map", "denoiser" or "level"
    onnx_sha256: str  # of the graph it was built from
    gpu: str  # compute capability, e.g. "8.9"; "any" for engines that are finished on the GPU (TensorRT for RTX)
    flavour: str  # "tensorrt" or "tensorrt-rtx"
    version: str  # of the flavour that built it
    precision: str  # of the graph: "fp32", "fp16" or "bf16"
    profiles: tuple[str, ...]  # e.g. "64x64:608x416:1920x1088", smallest:usual:largest as width x height
    options: tuple[str, ...] = ()  # build options that change the engine, "name=value", sorted

    def file(self) -> str:
        """Name below the bundle; keys that differ have different names."""
        tail = hashlib.sha256(_canonical(self.to_dict())).hexdigest()[:10]
        gpu = "any" if self.gpu == "any" else f"sm{self.gpu.replace('.', '')}"
        return f"{ENGINES}/{gpu}-{self.flavour}{self.version}-{self.precision}-{self.graph}-{tail}.engine"

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionary, JSON-ready."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def differences(self, here: EngineKey) -> list[str]:
        """What this engine was built for and what is wanted here, one phrase for each part that differs."""
        mine, wanted = self.to_dict(), here.to_dict()
        return [f"{LABELS[name]} {mine[name]}, here {wanted[name]}" for name in mine if mine[name] != wanted[name]]


LABELS = {
    "graph": "graph",
    "onnx_sha256": "ONNX graph",
    "gpu": "GPU of compute capability",
    "flavour": "flavour",
    "version": "version",
    "precision": "precision",
    "profiles": "profiles",
    "options": "build options",
}


@dataclass(frozen=True)
class EngineFile:
    """An engine on disk."""

    path: Path
    key: EngineKey
    trusted: bool  # its hash is in the manifest, or it was built on this machine


def key_from_dict(table: dict[str, Any]) -> EngineKey:
    """The inverse of `EngineKey.to_dict`; ValueError when a part is missing or of the wrong kind."""
    try:
        values = {f.name: table[f.name] for f in fields(EngineKey)}
    except (KeyError, TypeError) as error:
        raise ValueError(f"an engine's key lacks {error}") from error
    for name in ("profiles", "options"):
        values[name] = tuple(str(item) for item in values[name])
    return EngineKey(**values)


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
    listed = {str(entry["file"]): key_from_dict(entry["key"]) for entry in manifest.engines}
    for name, key in listed.items():
        yield EngineFile(folder / safe_name(name), key, trusted=True)  # hashed when the bundle was opened
    for path in sorted((folder / ENGINES).glob("*.engine")):
        if f"{ENGINES}/{path.name}" not in listed:
            yield from _from_cache(path)


def _from_cache(path: Path) -> Iterator[EngineFile]:
    try:
        body = json.loads(sidecar(path).read_text(encoding="utf-8"))
        signature = str(body.pop("signature"))
        key = key_from_dict(body["key"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return  # no sidecar, or a damaged one: an engine nobody can vouch for
    built_here = hmac.compare_digest(signature, _sign(body)) and not path.is_symlink()
    yield EngineFile(path, key, trusted=built_here and sha256_of(path) == body.get("sha256"))


def _sign(body: dict[str, Any]) -> str:
    return hmac.new(_local_key(), _canonical(body), "sha256").hexdigest()


def _canonical(body: dict[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def _local_key() -> bytes:
    """32 random bytes, made on first use, readable by this user only."""
    path = cache_folder() / "engine.key"
    try:
        return path.read_bytes()
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
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
