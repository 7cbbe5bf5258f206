"""Formats that need an optional package: their tests skip where it is not installed, and say which extra brings it."""

from __future__ import annotations

from typing import Any

import pytest

from lldiffusion.images.formats import FORMATS, PACKAGES


def need_extra(name: str) -> Any:
    """Skip the test where the package of an extra ("heic"), or of a suffix (".hif"), is missing; else the package."""
    extra = FORMATS.get(name, name)
    if extra not in PACKAGES:
        return None
    return pytest.importorskip(PACKAGES[extra][0], reason=f"needs the extra `{extra}`")
