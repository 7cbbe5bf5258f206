"""`Bundle`: opened, checked, ready to run; and `Draft`: one being written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from lldiffusion.atomic import new_path, remove
from lldiffusion.config import Config, config_from_dict
from lldiffusion.documents import read_json
from lldiffusion.errors import LLDiffusionError, choose
from lldiffusion.lock import exclusive
from lldiffusion.tables import build

from .archive import SUFFIX, pack, unpack
from .engine_cache import EngineFile, list_engines, write_engine
from .engine_key import EngineKey
from .files import ENGINES, check_folder, record, walk
from .manifest import MANIFEST, Manifest, ShippedEngine, parse_manifest, read_manifest
from .onnx_check import check_graph
from .onnx_external import external_files


@dataclass
class Draft:
    """A bundle that is being written: put files into `folder`, then describe them."""

    folder: Path
    manifest: Manifest | None = None  # `files` and `engines` are filled in when the block of `Bundle.write` ends


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk whose every file is what its manifest says."""

    source: Path  # as it was given: a folder or a .lldiff file
    folder: Path  # where its files are
    manifest: Manifest

    @classmethod
    def open(cls, source: str | Path) -> Bundle:
        """Open a bundle folder or `.lldiff` file and check all of it; nothing in it is executed.

        Raises LLDiffusionError, naming the file, when it is missing, damaged, tampered with or newer than this version.
        """
        path = Path(source)
        if path.is_dir():
            folder, manifest = path, read_manifest(path)
            check_folder(folder, manifest)
        elif path.is_file():
            folder, manifest = unpack(path)
        else:
            raise LLDiffusionError(f"bundle '{path}' does not exist: give a bundle folder or a {SUFFIX} file")
        bundle = cls(path, folder, manifest)
        bundle._check_graphs()
        return bundle

    @classmethod
    @contextmanager
    def write(cls, target: str | Path, overwrite: bool = False) -> Iterator[Draft]:
        """Write a bundle: `with Bundle.write(path) as draft: ...; draft.manifest = Manifest(...)`.

        A target ending in `.lldiff` becomes a zip, anything else a folder.  It appears, whole and hashed, when the
        block ends well; otherwise nothing is left behind and what stood there is untouched.
        Raises LLDiffusionError when the target exists (and `overwrite` is False), is no bundle, or is being written.
        """
        path = Path(target)
        check_target(path, overwrite)
        with exclusive(path), new_path(path) as temporary:
            zipped = path.suffix == SUFFIX
            folder = temporary.with_name(temporary.name + ".d") if zipped else temporary
            try:
                folder.mkdir()
                draft = Draft(folder)
                yield draft
                finish(draft)
                if zipped:
                    pack(folder, temporary)
            finally:
                if zipped:
                    remove(folder)

    def verify(self) -> None:
        """Compare every file with the manifest again."""
        check_folder(self.folder, self.manifest)

    @property
    def config(self) -> Config:
        """The model's configuration."""
        return config_from_dict(self.manifest.config)

    @property
    def precisions(self) -> tuple[str, ...]:
        """Precisions it has graphs for."""
        return tuple(self.manifest.graphs)

    def graphs(self, precision: str) -> dict[str, Path]:
        """Graph name -> ONNX file."""
        choose(precision, self.manifest.graphs, f"precision of '{self.source}'")
        return {graph: self.folder / file for graph, file in self.manifest.graphs[precision].items()}

    def onnx_sha256(self, precision: str, graph: str) -> str:
        """Hash of a graph's file, the first part of an engine's key."""
        return self.manifest.files[self.manifest.graphs[precision][graph]].sha256

    def engines(self) -> list[EngineFile]:
        """Engines in the manifest and in the local cache."""
        return list(list_engines(self.folder, self.manifest))

    def add_engine(self, key: EngineKey, blob: bytes | memoryview, about: dict[str, Any] | None = None) -> Path:
        """Keep an engine that was built on this machine beside the graphs (not in the zip); returns its file."""
        with exclusive(self.folder / ENGINES, wait=60):
            return write_engine(self.folder, key, blob, about or {})

    def _check_graphs(self) -> None:
        """External data may lie only in files that the manifest lists, and every graph is what it says."""
        for graphs in self.manifest.graphs.values():
            for name in graphs.values():
                for location in external_files(self.folder / name):
                    file = str(PurePosixPath(name).parent / location)
                    if file not in self.manifest.files:
                        raise LLDiffusionError(
                            f"'{self.source}': '{name}' keeps weights in '{location}', "
                            "which is not a file of the bundle: refused"
                        )
                inputs, outputs = (ports.get(name, []) for ports in (self.manifest.inputs, self.manifest.outputs))
                check_graph(self.folder, name, inputs, outputs)


def check_target(path: Path, overwrite: bool) -> None:
    """Raise LLDiffusionError when something stands at `path` that may not be replaced: only a bundle ever is."""
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not overwrite:
        raise LLDiffusionError(f"'{path}' exists already: remove it, name another output, or allow overwriting (-y)")
    ours = (path / MANIFEST).is_file() if path.is_dir() else path.suffix == SUFFIX
    if not ours:
        raise LLDiffusionError(f"'{path}' exists and is not a bundle: it is not overwritten")


def finish(draft: Draft) -> None:
    """Hash the files of a draft and write its manifest."""
    assert draft.manifest is not None, "a draft needs its manifest"
    names = [name for name in walk(draft.folder) if name != MANIFEST]
    files = {name: record(draft.folder / name) for name in names}
    manifest = replace(draft.manifest, files=files, engines=_shipped_engines(draft.folder, names))
    parse_manifest(manifest.to_json().encode(), str(draft.folder))  # what cannot be opened is not written
    (draft.folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")


def _shipped_engines(folder: Path, names: list[str]) -> list[ShippedEngine]:
    """Engines put into a draft with `write_engine` travel with the bundle."""
    sidecars = {name: read_json(folder / f"{name}.json") for name in names if name.endswith(".engine")}
    return [ShippedEngine(name, build(EngineKey, body.get("key"), "key")) for name, body in sidecars.items()]
