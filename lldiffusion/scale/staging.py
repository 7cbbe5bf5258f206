"""Pictures at addresses as files of this machine: fetched before the work, put in their place when it ends well."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from lldiffusion.atomic import new_path, remove, scratch
from lldiffusion.errors import LLDiffusionError, printable

from .places import Place, Remote, failures_named

LONGEST = 200  # bytes of a name that a local copy keeps


class Staging:
    """A folder for the copies, made when there is one; context manager."""

    def __enter__(self) -> Staging:
        self._made = ExitStack()
        self._kept: Path | None = None
        return self

    def __exit__(self, *_: object) -> None:
        self._made.close()

    @contextmanager
    def local(self, source: Place, target: Place) -> Iterator[tuple[Path, Path]]:
        """(a file with the source's bytes, a path to write to).

        When the block ends well, what stands at that path, and beside it under names that begin alike, is put at
        `target` and beside it: each under a temporary name that is renamed at last, the target's own last of all.
        Raises LLDiffusionError with the addresses, never with names of copies.
        """
        if isinstance(source, Path) and isinstance(target, Path):
            yield source, target  # nothing to copy
            return
        folder = self._folder()
        here = source if isinstance(source, Path) else folder / "in" / _short(source)
        there = target if isinstance(target, Path) else folder / "out" / f"result{target.suffix}"
        try:
            for part in ("in", "out"):
                (folder / part).mkdir()
            if isinstance(source, Remote):
                with failures_named(source, "read"):
                    source.system.get_file(source.path, str(here))
            yield here, there
            if isinstance(target, Remote):
                _publish(there, target)
        except LLDiffusionError as error:
            line = str(error).replace(printable(here), printable(source))
            raise LLDiffusionError(line.replace(printable(there), printable(target))) from error
        finally:
            for part in ("in", "out"):
                remove(folder / part)

    def _folder(self) -> Path:
        if self._kept is None:
            self._kept = self._made.enter_context(scratch())
        return self._kept


def _publish(there: Path, target: Remote) -> None:
    for extra in sorted(there.parent.iterdir()):
        if extra != there:
            put(extra, target.with_name(target.stem + extra.name.removeprefix(there.stem)))
    put(there, target)


def commit(data: bytes, target: Place) -> None:
    """Bytes as a file, here or at an address: a reader sees the old or the new.  Raises LLDiffusionError."""
    if isinstance(target, Path):
        with new_path(target) as temporary:
            temporary.write_bytes(data)
        return
    with tempfile.NamedTemporaryFile(prefix="lldiff-") as file:
        file.write(data)
        file.flush()
        put(Path(file.name), target)


def put(file: Path, target: Remote) -> None:
    """Copy a file to an address so that a reader sees the old or the new, never a half.

    Raises LLDiffusionError; what was copied by then is taken away again.
    """
    temporary = target.with_name(f".{target.name[:LONGEST]}.{secrets.token_hex(4)}.tmp")
    with failures_named(target, "write"):
        try:
            target.system.makedirs(target.path.rpartition("/")[0], exist_ok=True)
            target.system.put_file(str(file), temporary.path)
            target.system.mv(temporary.path, target.path)
        except BaseException:
            with suppress(Exception):
                target.system.rm_file(temporary.path)
            raise


def _short(source: Remote) -> str:
    name = source.name.replace("/", "") or "picture"
    return name if len(os.fsencode(name)) <= LONGEST and name.isprintable() else f"picture{source.suffix[:16]}"
