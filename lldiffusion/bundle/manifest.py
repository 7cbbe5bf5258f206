"""`manifest.json`: what a bundle holds, and the checks it must pass before a file of the bundle is touched."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from lldiffusion.config import FOR_TENSORRT, Config, config_from_dict
from lldiffusion.documents import LARGEST, parse_json
from lldiffusion.errors import LLDiffusionError, choose, printable
from lldiffusion.tables import build
from lldiffusion.versions import __version__

from .engine_key import EngineKey

SCHEMA = 3  # raised when an older reader would misread a newer bundle; 3: the level is a graph of its own
MANIFEST = "manifest.json"
GRAPHS = ("encoder", "color_map", "denoiser")  # of every model
LEVEL = "level"  # one more graph, of models with a level
EIGHT = ("int8", *FOR_TENSORRT)  # of convolutions in eight bits: for CPUs, and two for GPUs
PRECISIONS = ("fp32", "fp16", "bf16", *EIGHT)
WRITTEN = ("files", "tools")  # have defaults for the writer only


def graphs_of(config: Config) -> tuple[str, ...]:
    """The names of a model's graphs."""
    return GRAPHS if config.model.level == "none" else (*GRAPHS, LEVEL)


@dataclass(frozen=True)
class FileRecord:
    """What a file must be."""

    sha256: str
    bytes: int

    def __post_init__(self) -> None:
        if not re.fullmatch("[0-9a-f]{64}", self.sha256) or self.bytes < 0:
            raise LLDiffusionError(f"sha256 '{self.sha256:.80}' and bytes {self.bytes} describe no file")


@dataclass(frozen=True)
class ShippedEngine:
    """A TensorRT engine that travels with the bundle."""

    file: str
    key: EngineKey


@dataclass(frozen=True)
class Manifest:
    """The description of a bundle; `files` and `engines` are filled in by the writer."""

    name: str  # of the model
    weights_sha256: str  # of the checkpoint it was exported from
    config: dict[str, Any]  # Config.to_dict()
    size_multiple: int  # height and width must be multiples of this many pixels
    default_precision: str
    graphs: dict[str, dict[str, str]]  # precision -> graph -> file
    inputs: dict[str, list[dict[str, Any]]]  # graph file -> [{name, shape, dtype, range}]; a symbol is a dynamic size
    outputs: dict[str, list[dict[str, Any]]]
    tools: dict[str, str] = field(default_factory=dict)  # package -> version
    engines: list[ShippedEngine] = field(default_factory=list)
    files: dict[str, FileRecord] = field(default_factory=dict)  # path below the bundle -> what it must be
    lldiffusion: str = __version__  # the version that wrote it
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        choose(self.default_precision, self.graphs, "default precision of a bundle")
        if self.size_multiple < 1:
            raise LLDiffusionError(f"size_multiple is {self.size_multiple}: at least 1 is needed")
        needed = graphs_of(config_from_dict(self.config))
        for precision, graphs in self.graphs.items():
            choose(precision, PRECISIONS, "precision of a bundle")
            missing = [graph for graph in needed if graph not in graphs]
            if missing:
                raise LLDiffusionError(f"the {precision} graphs of a bundle lack {', '.join(missing)}")

    def to_json(self) -> str:
        """The text of `manifest.json`."""
        return json.dumps(asdict(self), indent=1) + "\n"


def parse_manifest(text: bytes, source: str) -> Manifest:
    """Read and check a manifest; `source` names the bundle in messages.

    Raises LLDiffusionError when it is damaged, incomplete, newer than this version, or names a path outside the bundle.
    """
    try:
        table = parse_json(text, MANIFEST)
        schema = table.get("schema")
        if type(schema) is not int:
            raise LLDiffusionError(f"'schema' is {schema!r:.80}: expected int")
        if schema <= SCHEMA:
            return _build(table)
    except (ValueError, LLDiffusionError) as error:
        reason = str(error).removeprefix(f"'{MANIFEST}' is damaged: ")[:300]
        raise LLDiffusionError(f"'{source}': manifest.json is damaged: {reason}; export it again") from error
    writer = table.get("lldiffusion", "a newer version")
    raise LLDiffusionError(
        f"'{source}' has bundle schema {schema} (written by lldiffusion {writer!s:.40}), "
        f"this version reads up to {SCHEMA}: upgrade lldiffusion"
    )


def _build(table: dict[str, Any]) -> Manifest:
    missing = [name for name in WRITTEN if name not in table]
    if missing:
        raise ValueError(f"'{missing[0]}' is missing")
    manifest = build(Manifest, table, "", "its", ignore_unknown=True)
    config_from_dict(manifest.config)
    for name in manifest.files:
        safe_name(name)
    graphs = (file for graphs in manifest.graphs.values() for file in graphs.values())
    for file in (*graphs, *(engine.file for engine in manifest.engines)):
        if file not in manifest.files:
            raise ValueError(f"'{file}' is used but not among its files")
    if len({name.casefold() for name in manifest.files}) != len(manifest.files):
        raise ValueError("two of its files differ only in upper and lower case")
    return manifest


def safe_name(name: str) -> str:
    """`name` if it is a plain path below the bundle on every system; ValueError when it could lead elsewhere."""
    path = PurePosixPath(name)
    bad = not name or path.is_absolute() or any(part in ("..", ".") for part in name.split("/"))
    if bad or not name.isprintable() or any(c in name for c in '\\:<>"|?*') or str(path) != name or name == MANIFEST:
        raise ValueError(f"'{printable(name)}' is not a path inside the bundle")
    return name


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a bundle folder."""
    path = folder / MANIFEST
    if not path.is_file():
        raise LLDiffusionError(f"'{folder}' is not a bundle: it has no {MANIFEST} (write one with  lldiff export)")
    if path.is_symlink() or path.stat().st_size > LARGEST:
        raise LLDiffusionError(f"'{folder}': {MANIFEST} is a link, or far too large for a manifest")
    return parse_manifest(path.read_bytes(), str(folder))
