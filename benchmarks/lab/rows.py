"""Rows of the laboratory: what each changes, and against which other row it is judged."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lldiffusion.config import config_from_dict, load_config
from lldiffusion.errors import LLDiffusionError, choose
from lldiffusion.tables import merge

FOLDER = Path(__file__).parent / "rows"
BASE = "base"  # judged against nothing
# The order in which they are trained: what matters most first, for there may be no time for all.
ORDER = (
    *(BASE, "no-level", "tinted", "tones", "no-gain", "v", "eps", "positive-snr", "instance-norm", "no-dgnet"),
    *("simulated", "target-as-is", "no-jitter", "all-times", "no-refine", "patch-4", "naf"),
    *("no-aligned", "no-ssim", "no-recolor", "jpeg", "crop-192", "ema-0.99"),
)


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    about: str  # one sentence
    against: str  # the row that it changes; "" for the base
    changes: dict[str, Any]  # settings laid over that row's, nested as in TOML
    table: dict[str, Any]  # the whole configuration
    long: bool = False  # says nothing within a short run: only trained when named


def choose_rows(given: Iterable[str]) -> list[Row]:
    """The rows that were named (files or shipped names), after those they are judged against; none: the short ones.

    Raises LLDiffusionError for an unknown row, a damaged file, a setting that does not exist.
    """
    named = list(given)
    rows: dict[str, Row] = {}
    for name in named or ORDER:
        if named or not _read(name).get("long"):
            _add(name, rows)
    return list(rows.values())


def _add(given: str, rows: dict[str, Row]) -> Row:
    """Put a row into `rows` behind the row it changes; returns it."""
    name = Path(given).stem if given.endswith(".toml") else given
    if name in rows:
        return rows[name]
    table = _read(given)
    about, against, long = (
        table.pop(key, default) for key, default in (("about", ""), ("against", BASE), ("long", False))
    )
    if name == BASE:
        against, over = "", load_config(table.pop("preset", "tiny")).to_dict()
    else:
        over = _add(str(against), rows).table
    try:
        config = config_from_dict(merge(over, table | {"name": name}))
    except LLDiffusionError as error:
        raise LLDiffusionError(f"row '{given}': {error}") from error
    rows[name] = Row(name, str(about) or name, str(against), table, config.to_dict(), bool(long))
    return rows[name]


def _read(given: str) -> dict[str, Any]:
    """A row's TOML."""
    if given.endswith(".toml"):
        path = Path(given)
        if not path.is_file():
            raise LLDiffusionError(f"no row '{given}': give a TOML file or a row's name ({', '.join(ORDER)})")
    else:
        path = FOLDER / f"{choose(given, ORDER, 'row')}.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise LLDiffusionError(f"row '{given}' is no TOML: {error}") from error
