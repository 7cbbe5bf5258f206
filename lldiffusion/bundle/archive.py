"""The `.lldiff` file: a zip of a bundle, unpacked only after every entry has been checked against the manifest."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from lldiffusion.atomic import new_path
from lldiffusion.documents import LARGEST
from lldiffusion.errors import LLDiffusionError, printable
from lldiffusion.lock import exclusive

from .files import check_folder, walk
from .manifest import MANIFEST, FileRecord, Manifest, parse_manifest

SUFFIX = ".lldiff"
PIECE = 1 << 20  # bytes read at a time
EPOCH = (1980, 1, 1, 0, 0, 0)  # the same bundle gives the same zip, byte for byte


def cache_folder() -> Path:
    """The folder of unpacked bundles and of the local engine key: $LLDIFF_CACHE, or the user's cache folder."""
    given = os.environ.get("LLDIFF_CACHE")
    base = os.environ.get("LOCALAPPDATA") if os.name == "nt" else os.environ.get("XDG_CACHE_HOME")
    return Path(given) if given else Path(base or Path.home() / ".cache") / "lldiffusion"


def pack(folder: Path, target: Path) -> None:
    """Write the files of `folder` to a zip, uncompressed (weights do not shrink), manifest first."""
    names = [MANIFEST, *(name for name in walk(folder) if name != MANIFEST)]
    with zipfile.ZipFile(target, "w") as archive:
        for name in names:
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            with (folder / name).open("rb") as source, archive.open(entry, "w", force_zip64=True) as sink:
                shutil.copyfileobj(source, sink, PIECE)


def unpack(path: Path) -> tuple[Path, Manifest]:
    """Unpack a `.lldiff` into the cache, once; returns the folder and the manifest, checked.

    Raises LLDiffusionError for a damaged zip and for one that holds anything but the files of its manifest.
    """
    with _damage_named(path):
        archive = zipfile.ZipFile(path)
    with archive:
        text = _read_manifest(archive, path)
        manifest = parse_manifest(text, str(path))
        _check_entries(archive, manifest, path)
        folder = cache_folder() / "bundles" / hashlib.sha256(text).hexdigest()[:32]
        with exclusive(folder, wait=600):
            if not _already(folder, manifest):
                _extract(archive, manifest, folder, path)
    return folder, manifest


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Around what only reads the zip: whatever its readers raise, and they raise a dozen kinds, is damage."""
    try:
        yield
    except (LLDiffusionError, MemoryError):
        raise
    except Exception as error:
        reason = printable(str(error) or type(error).__name__)[:200]
        raise LLDiffusionError(f"'{path}' is damaged or truncated ({reason}): copy or export it again") from error


def _read_manifest(archive: zipfile.ZipFile, path: Path) -> bytes:
    if MANIFEST not in archive.namelist():
        raise LLDiffusionError(f"'{path}' is a zip without {MANIFEST}: it is not a bundle")
    _check_plain(archive.getinfo(MANIFEST), path)
    with _damage_named(path), archive.open(MANIFEST) as file:
        text = file.read(LARGEST + 1)
    if len(text) > LARGEST:
        raise LLDiffusionError(f"'{path}': {MANIFEST} is far too large for a manifest")
    return text


def _check_plain(entry: zipfile.ZipInfo, path: Path) -> None:
    """Stored or deflated, as zips of bundles are: other ways to pack need modules that not every Python has."""
    name = printable(entry.filename)
    if entry.flag_bits & 1:
        raise LLDiffusionError(f"'{path}': '{name}' is encrypted, which a bundle never is: refused")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise LLDiffusionError(f"'{path}': '{name}' is packed by method {entry.compress_type}: pack it by deflate")


def _check_entries(archive: zipfile.ZipFile, manifest: Manifest, path: Path) -> None:
    """Exactly the files of the manifest, once each, plain, with the sizes it gives: nothing else is ever unpacked."""
    entries = [entry for entry in archive.infolist() if entry.filename != MANIFEST]
    for entry in entries:
        _check_plain(entry, path)
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise LLDiffusionError(f"'{path}' holds '{printable(entry.filename)}', which is a link or no file: refused")
        if entry.filename not in manifest.files:
            outside = entry.filename.startswith(("/", "\\")) or ".." in entry.filename or ":" in entry.filename
            why = "leads outside the bundle" if outside else "is not in its manifest"
            raise LLDiffusionError(f"'{path}' holds '{printable(entry.filename)}', which {why}: refused")
        wanted = manifest.files[entry.filename].bytes
        if entry.file_size != wanted:
            raise LLDiffusionError(
                f"'{path}': '{entry.filename}' unpacks to {entry.file_size} bytes, its manifest says {wanted}: refused"
            )
    names = [entry.filename for entry in entries]
    if len(names) != len(set(names)) or len(archive.infolist()) != len(entries) + 1:
        raise LLDiffusionError(f"'{path}' holds the same name twice: refused")
    missing = set(manifest.files) - set(names)
    if missing:
        raise LLDiffusionError(f"'{path}' lacks '{min(missing)}': copy or export it again")


def _already(folder: Path, manifest: Manifest) -> bool:
    """Whether an earlier opening unpacked it and nothing has changed since."""
    try:
        check_folder(folder, manifest)
    except LLDiffusionError:
        return False
    return (folder / MANIFEST).is_file()


def _extract(archive: zipfile.ZipFile, manifest: Manifest, folder: Path, path: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    needed, free = sum(file.bytes for file in manifest.files.values()), shutil.disk_usage(folder.parent).free
    if needed > free:
        raise LLDiffusionError(
            f"'{path}' unpacks to {needed >> 20} MiB, '{folder.parent}' has {free >> 20} MiB free: "
            "make room, or name another folder in LLDIFF_CACHE"
        )
    with new_path(folder) as temporary:
        temporary.mkdir()
        (temporary / MANIFEST).write_bytes(_read_manifest(archive, path))
        for name, wanted in manifest.files.items():
            target = temporary / name
            target.parent.mkdir(parents=True, exist_ok=True)
            _copy(archive, name, wanted, target, path)


def _copy(archive: zipfile.ZipFile, name: str, wanted: FileRecord, target: Path, path: Path) -> None:
    """Unpack one file, stopping as soon as it is longer than the manifest says, whatever the zip's headers claim."""
    digest, size = hashlib.sha256(), 0
    with _damage_named(path):
        source = archive.open(name)
    with source, target.open("wb") as sink:
        while piece := _piece(source, path):
            size += len(piece)
            if size > wanted.bytes:
                raise LLDiffusionError(
                    f"'{path}': '{name}' unpacks to more than the {wanted.bytes} bytes of its manifest: refused"
                )
            digest.update(piece)
            sink.write(piece)
    if digest.hexdigest() != wanted.sha256:
        raise LLDiffusionError(f"'{path}': '{name}' is not what its manifest says (SHA-256 differs): copy it again")


def _piece(source: IO[bytes], path: Path) -> bytes:
    with _damage_named(path):
        return source.read(PIECE)
