"""The version of this program, and those of the packages that a number was computed with."""

from __future__ import annotations

from collections.abc import Iterable

__version__ = "0.2.0"


def installed_versions(packages: Iterable[str]) -> dict[str, str]:
    """This program, Python, and those of `packages` that are installed; none of them is imported."""
    import platform
    from importlib import metadata  # here, both: half of the time that `import lldiffusion` takes

    found = {"lldiffusion": __version__, "python": platform.python_version()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
