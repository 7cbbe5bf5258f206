"""docs/cli.md says what the commands say."""

from __future__ import annotations

from pathlib import Path

from lldiffusion.cli import VERBS
from lldiffusion.cli.reference import reference


def test_the_page_is_current(root: Path) -> None:
    page = (root / "docs" / "cli.md").read_text(encoding="utf-8")
    assert page == reference(), "make it again:  python -m lldiffusion.cli.reference > docs/cli.md"


def test_the_page_names_every_verb_and_its_options() -> None:
    page = reference()
    assert all(f"\n## lldiff {verb}\n" in page for verb in VERBS)
    enhance = page[page.index("## lldiff enhance") : page.index("## lldiff video")]
    assert all(f"`--{name}`" in enhance for name in ("model", "steps", "sampler", "device", "overwrite"))
    assert "| `--exposure` | number -5 to 5 |" in enhance and "[tiny]" in enhance
    assert "### lldiff bench compare" in page and "`--scaling`, `--no-scaling`" in page
