"""Hashes of files, and the check of a folder against its manifest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from lldiffusion.errors import LLDiffusionError
from lldiffusion.hashing import sha256_of

from .manifest import MANIFEST, FileRecord, Manifest

ENGINES = "engines"  # folder of the engine cache: what is not in the manifest there is trusted by signature only


def record(path: Path) -> FileRecord:
    """Size and SHA-256 of a file."""
    return FileRecord(sha256_of(path), path.stat().st_size)


def walk(folder: Path) -> Iterator[str]:
    """Names of everything below `folder` that is not a real folder, as the manifest writes them, sorted."""
    for root, folders, files in os.walk(folder):
        links = [name for name in folders if (Path(root) / name).is_symlink()]
        for name in sorted(files + links):
            yield (Path(root) / name).relative_to(folder).as_posix()
        folders.sort()


def check_folder(folder: Path, manifest: Manifest) -> None:
    """Compare every file with the manifest.

    Raises LLDiffusionError naming the first file that is missing, a link, of another size or content, or not listed.
    Hidden files (`.DS_Store` and the like) are never read, so they may lie there.
    """
    for name in walk(folder):
        hidden = any(part.startswith(".") for part in name.split("/"))
        if name not in manifest.files and name != MANIFEST and not hidden and not name.startswith(f"{ENGINES}/"):
            raise LLDiffusionError(f"'{folder}' holds '{name}', which its manifest does not list: remove that file")
    for name, wanted in manifest.files.items():
        check_file(folder, name, wanted)


def check_file(folder: Path, name: str, wanted: FileRecord) -> None:
    """Compare one file with its record."""
    path = folder / name
    if not path.is_file():
        raise LLDiffusionError(f"'{folder}' lacks '{name}': copy or export the bundle again")
    if path.resolve() != folder.resolve() / name:
        raise LLDiffusionError(f"'{folder}': '{name}' is a link, which a bundle may not hold")
    size = path.stat().st_size
    if size != wanted.bytes:
        what = "truncated" if size < wanted.bytes else "changed"
        raise LLDiffusionError(
            f"'{folder}': '{name}' is {what} ({size} bytes instead of {wanted.bytes}): copy or export the bundle again"
        )
    if sha256_of(path) != wanted.sha256:
        raise LLDiffusionError(
            f"'{folder}': '{name}' was changed since the bundle was written (its SHA-256 differs): "
            "copy or export the bundle again"
        )
