"""Versions of what a number was computed with, for the files that must say so."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from importlib import metadata

from lldiffusion import __version__


def installed_versions(packages: Iterable[str]) -> dict[str, str]:
    """This program, Python, and those of `packages` that are installed; none of them is imported."""
    found = {"lldiffusion": __version__, "python": platform.python_version()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
