"""docs/formats.md says what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest

from lldiffusion.images.formats import DEEP, FORMATS, LOSSY, NO_ALPHA, PACKAGES, RAW_SUFFIXES, READ_ONLY
from lldiffusion.images.metadata import KEPT


def wanted_rows() -> list[list[str]]:
    """The table of formats as the code has it."""
    rows = []
    for format_, kept in KEPT.items():
        suffixes = " ".join(suffix for suffix, name in FORMATS.items() if name == format_)
        bits = ("8, 16" if format_ in ("png", "tiff") else "8, 10") if format_ in DEEP else "8"
        alpha = "laid over white" if format_ in NO_ALPHA else "yes"
        extra = f"`{format_}`" if format_ in PACKAGES else ""
        quality = "yes" if format_ in LOSSY else ""
        rows.append([format_, suffixes, "yes", "yes", bits, alpha, ", ".join(kept), quality, extra])
    rows.append(["gif", ".gif", "yes", f"as {READ_ONLY['.gif']}", "", "", "", "", ""])
    rows.append(["raw", " ".join(RAW_SUFFIXES), "yes", f"as {READ_ONLY['.dng']}", "", "", "", "", "`raw`"])
    return rows


def test_the_table_of_formats_is_the_codes(root: Path) -> None:
    page = (root / "docs" / "formats.md").read_text(encoding="utf-8")
    lines = page.split("| format |")[1].split("\n\n")[0].splitlines()[2:]
    assert [[cell.strip() for cell in line[1:-1].split("|")] for line in lines] == wanted_rows()
    assert set(FORMATS.values()) == set(KEPT) and not set(FORMATS) & set(READ_ONLY)


@pytest.mark.parametrize("page", ["README.md", "docs/enhance.md"])
def test_the_page_is_linked(root: Path, page: str) -> None:
    assert "formats.md" in (root / page).read_text(encoding="utf-8")
