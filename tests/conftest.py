"""What every test may ask for."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# A shell that runs us in the background has Ctrl-C ignored, and so would every process that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with DATA.md, `data/` and `golden/`: $LLDIFF_SHARED or ../shared; the test is skipped without it."""
    folder = Path(os.environ.get("LLDIFF_SHARED", ROOT.parent / "shared"))
    if not (folder / "DATA.md").is_file():
        pytest.skip(f"no shared data at {folder}: set LLDIFF_SHARED to the folder with DATA.md")
    return folder


@pytest.fixture(scope="session")
def root() -> Path:
    """The top of the repository."""
    return ROOT
