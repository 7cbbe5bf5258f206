"""`manifest.json`: what a bundle holds, and the checks it must pass before a file of the bundle is touched."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import Any

from lldiffusion.config import Config, config_from_dict
from lldiffusion.errors import LLDiffusionError, choose
from lldiffusion.versions import __version__

SCHEMA = 3  # raised when an older reader would misread a newer bundle; 3: the level is a graph of its own
MANIFEST = "manifest.json"
LARGEST = 16 << 20  # bytes of a manifest: a real one has a few thousand
GRAPHS = ("encoder", "color_map", "denoiser")  # of every model
LEVEL = "level"  # one more graph, of models with a level
PRECISIONS = ("fp32", "fp16", "bf16")


def graphs_of(config: Config) -> tuple[str, ...]:
    """The names of a model's graphs."""
    return GRAPHS if config.model.level == "none" else (*GRAPHS, LEVEL)


@dataclass(frozen=True)
class FileRecord:
    """What a file must be."""

    sha256: str
    bytes: int


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
    engines: list[dict[str, Any]] = field(default_factory=list)  # [{file, key}]
    files: dict[str, FileRecord] = field(default_factory=dict)  # path below the bundle -> what it must be
    lldiffusion: str = __version__  # the version that wrote it
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        choose(self.default_precision, self.graphs, "default precision of a bundle")
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
        table = json.loads(text)
        schema = table["schema"]
        if not isinstance(schema, int):
            raise TypeError(f"schema is {schema!r}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise LLDiffusionError(f"'{source}': manifest.json is damaged: {_short(error)}; export it again") from error
    if schema > SCHEMA:
        writer = table.get("lldiffusion", "a newer version")
        raise LLDiffusionError(
            f"'{source}' has bundle schema {schema} (written by lldiffusion {writer}), "
            f"this version reads up to {SCHEMA}: upgrade lldiffusion"
        )
    try:
        return _build(table)
    except (KeyError, TypeError, ValueError, AttributeError, LLDiffusionError) as error:
        raise LLDiffusionError(f"'{source}': manifest.json is damaged: {_short(error)}; export it again") from error


def _build(table: dict[str, Any]) -> Manifest:
    known = {f.name: table[f.name] for f in fields(Manifest) if f.name in table}
    for name in ("config", "graphs", "inputs", "outputs", "files", "tools"):
        if not isinstance(table[name], dict):
            raise TypeError(f"'{name}' is no table")
    known["files"] = {safe_name(name): _record(entry) for name, entry in table["files"].items()}
    manifest = Manifest(**known)
    for file in (*(f for graphs in manifest.graphs.values() for f in graphs.values()), *_engine_files(manifest)):
        if file not in manifest.files:
            raise ValueError(f"'{file}' is used but not among its files")
    if len({name.casefold() for name in manifest.files}) != len(manifest.files):
        raise ValueError("two of its files differ only in upper and lower case")
    return manifest


def _engine_files(manifest: Manifest) -> list[str]:
    return [str(engine["file"]) for engine in manifest.engines]


def _record(entry: dict[str, Any]) -> FileRecord:
    sha256, size = entry["sha256"], entry["bytes"]
    if not isinstance(sha256, str) or len(sha256) != 64 or not isinstance(size, int) or size < 0:
        raise ValueError(f"{entry!r} is no file record")
    return FileRecord(sha256, size)


def safe_name(name: str) -> str:
    """`name` if it is a plain path below the bundle on every system; ValueError when it could lead elsewhere."""
    path = PurePosixPath(name)
    bad = not name or path.is_absolute() or any(part in ("..", ".") for part in name.split("/"))
    if bad or any(c in name for c in '\\:\0<>"|?*') or str(path) != name or name == MANIFEST:
        raise ValueError(f"'{name!s}' is not a path inside the bundle")
    return name


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a bundle folder."""
    path = folder / MANIFEST
    if not path.is_file():
        raise LLDiffusionError(f"'{folder}' is not a bundle: it has no {MANIFEST} (write one with  lldiff export)")
    if path.is_symlink() or path.stat().st_size > LARGEST:
        raise LLDiffusionError(f"'{folder}': {MANIFEST} is a link, or far too large for a manifest")
    return parse_manifest(path.read_bytes(), str(folder))


def _short(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"{error} is missing"
    return str(error).replace("\n", " ")[:200]
