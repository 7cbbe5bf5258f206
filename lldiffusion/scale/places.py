"""Where a picture lies: a path of this machine, or an address that fsspec knows (s3://, gs://, az://, https://, memory://).

`Remote` has the part of `pathlib.Path` that planning a batch needs.  Local paths stay `Path`s and never come here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from lldiffusion.errors import LLDiffusionError, printable, require

from .reach import SECONDS, check_web

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
READ = 60.0  # seconds without a byte after which a web server is given up
WILD = re.compile(r"[*?[]")


STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory")  # kinds of addresses that FFmpeg does not read


def is_store(text: str) -> bool:
    """Whether it is an address in an object store; FFmpeg reads and writes other addresses as they come."""
    return is_remote(text) and text.partition("://")[0].lower() in STORES


def is_remote(text: str) -> bool:
    """Whether it is an address, not a path."""
    return ADDRESS.match(text) is not None


@dataclass(frozen=True)
class Remote:
    """A file or a folder at an address, of which nothing is known yet."""

    system: Any = field(compare=False, repr=False)  # fsspec's file system
    path: str  # as that file system has it

    @classmethod
    def of(cls, address: str) -> Remote:
        """Raises LLDiffusionError for addresses that nothing here can open."""
        fsspec = require("fsspec", "cloud", f"'{printable(address)}'")
        with failures_named(address, "open"):
            system, path = fsspec.core.url_to_fs(address, **_patience(address))
            if endpoint := address if _is_web(system) else getattr(system, "endpoint_url", None):
                check_web(endpoint)
        return cls(system, path if _is_web(system) else path.rstrip("/"))

    def __str__(self) -> str:
        if self.system.protocol == "memory":  # its paths begin with a slash, its addresses as others do
            return f"memory:/{self.path}"
        return str(self.system.unstrip_protocol(self.path))

    @property
    def name(self) -> str:
        """The last part."""
        return PurePosixPath(urlsplit(self.path).path if self._web else self.path).name

    @property
    def suffix(self) -> str:
        """As `Path.suffix`."""
        return PurePosixPath(self.name).suffix

    @property
    def stem(self) -> str:
        """As `Path.stem`."""
        return PurePosixPath(self.name).stem

    @property
    def _web(self) -> bool:
        return _is_web(self.system)

    def with_name(self, name: str) -> Remote:
        """As `Path.with_name`."""
        return Remote(self.system, f"{self.path.rpartition('/')[0]}/{name}".rstrip("/"))

    def with_suffix(self, suffix: str) -> Remote:
        """As `Path.with_suffix`."""
        return self.with_name(self.stem + suffix)

    def __truediv__(self, name: PurePath | str) -> Remote:
        return Remote(self.system, f"{self.path}/{PurePath(name).as_posix()}")

    def exists(self) -> bool:
        """Whether something is there."""
        with failures_named(self, "look at"):
            return bool(self.system.exists(self.path))

    def is_dir(self) -> bool:
        """Whether it is a folder with something in it."""
        with failures_named(self, "look at"):
            return not self._web and bool(self.system.isdir(self.path))

    def is_file(self) -> bool:
        """Whether it is a file."""
        with failures_named(self, "look at"):
            return bool(self.system.isfile(self.path))

    def files(self) -> list[tuple[Remote, PurePosixPath]]:
        """All files of a folder to its bottom, in order, with their names below it; hidden ones are left out."""
        with failures_named(self, "list"):
            found = sorted(self.system.find(self.path))
        named = [(Remote(self.system, each), PurePosixPath(each[len(self.path) + 1 :])) for each in found]
        return [(each, name) for each, name in named if not any(part.startswith(".") for part in name.parts)]

    def matches(self) -> list[Remote]:
        """The files that its path matches, taken as a glob; only itself where it has no wild cards."""
        if self._web or not WILD.search(self.path):
            return [self] if self.exists() else []
        with failures_named(self, "list"):
            found = sorted(each for each, about in self.system.glob(self.path, detail=True).items() if _is_file(about))
        return [Remote(self.system, each) for each in found if not PurePosixPath(each).name.startswith(".")]


Place = Path | Remote


def place(text: str) -> Place:
    """What a path or an address names."""
    return Remote.of(text) if is_remote(text) else Path(text)


def same(one: Place, other: Place) -> bool:
    """Whether both are one file, which is there."""
    if isinstance(one, Remote) or isinstance(other, Remote):
        return one == other
    return one.exists() and one.samefile(other)


def existing(places: list[Place]) -> set[Place]:
    """Those that are there; what lies side by side at an address is asked for once."""
    there: set[Place] = {each for each in places if isinstance(each, Path) and each.exists()}
    folders: dict[str, list[Remote]] = {}
    for each in places:
        if isinstance(each, Remote):
            folders.setdefault(each.path.rpartition("/")[0], []).append(each)
    for folder, wanted in folders.items():
        if len(wanted) == 1:
            there |= {each for each in wanted if each.exists()}
            continue
        with failures_named(wanted[0], "look at"):
            listed = set(wanted[0].system.find(folder, maxdepth=1))
        there |= {each for each in wanted if each.path in listed}
    return there


@contextmanager
def failures_named(where: object, verb: str) -> Iterator[None]:
    """Whatever a file system raises, and there are dozens, becomes one line with the address."""
    try:
        yield
    except LLDiffusionError:
        raise
    except ImportError as error:  # fsspec says which package a kind of address needs
        line = f'{error};  pip install "lldiffusion[cloud]"  brings what s3:// and https:// need'
        raise LLDiffusionError(f"cannot {verb} '{printable(where)}': {line}") from error
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise LLDiffusionError(f"cannot {verb} '{printable(where)}': {reason}") from error


def _patience(address: str) -> dict[str, Any]:
    """Options of a file system: to connect may take seconds, to transfer any time.  The user's own settings stand."""
    from fsspec.config import conf

    kind = address.partition("://")[0].lower()
    given: dict[str, Any] = conf.get(kind, {})
    if kind in ("s3", "s3a"):
        return {"config_kwargs": {"connect_timeout": SECONDS, **given.get("config_kwargs", {})}}
    if kind in ("http", "https"):
        from aiohttp import ClientTimeout

        timeout = ClientTimeout(total=None, sock_connect=SECONDS, sock_read=READ)
        return {"client_kwargs": {"timeout": timeout, **given.get("client_kwargs", {})}}
    return {}


def _is_web(system: Any) -> bool:
    """The web has no folders, and its addresses no suffixes of their own."""
    return "https" in system.protocol


def _is_file(about: dict[str, Any]) -> bool:
    return about.get("type") == "file"
