"""Published results on the LOL test set, and where a run stands among them."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from lldiffusion.errors import LLDiffusionError, choose

ABSENT = "absent"  # written in the data file where no source for the number could be read
METRICS = ("psnr", "ssim", "lpips")


@dataclass(frozen=True)
class Row:
    """One method; None where the number is not known. `gt_mean`: yes, no or unknown; `source`: a key of the sources."""

    method: str
    psnr: float | None  # dB
    ssim: float | None
    lpips: float | None
    gt_mean: str = "unknown"
    source: str = ""
    ours: bool = False  # a run of this program rather than a published number

    def __post_init__(self) -> None:
        if self.gt_mean not in ("yes", "no", "unknown"):
            raise LLDiffusionError(f"{self.method}: gt_mean is '{self.gt_mean}'; accepted are yes, no, unknown")


@dataclass(frozen=True)
class PublishedTable:
    """The rows of `lol_table.toml`, where their numbers were read, and the note on what could not be verified."""

    title: str
    note: str
    sources: dict[str, str]
    rows: tuple[Row, ...]


def load_table() -> PublishedTable:
    """Read the packaged `lol_table.toml`; raises where a row cites a source that is not listed."""
    content = tomllib.loads((files("lldiffusion.evaluation") / "lol_table.toml").read_text(encoding="utf-8"))
    rows = tuple(map(_row, content["row"]))
    for row in rows:
        choose(row.source, content["sources"], f"source of {row.method}")
    return PublishedTable(content["title"], " ".join(content["note"].split()), content["sources"], rows)


def rank(rows: tuple[Row, ...], runs: list[Row]) -> list[Row]:
    """Published rows and this run's, best PSNR first; rows without one come last."""
    return sorted([*rows, *runs], key=lambda row: float("-inf") if row.psnr is None else row.psnr, reverse=True)


def _row(entry: dict[str, Any]) -> Row:
    psnr, ssim, lpips = (_number(entry[name]) for name in METRICS)
    return Row(entry["method"], psnr, ssim, lpips, entry["gt_mean"], entry["source"])


def _number(value: str | float) -> float | None:
    return None if value == ABSENT else float(value)
