"""Prints and saves what was measured of a clip."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lldiffusion.atomic import write_text
from lldiffusion.versions import installed_versions

from .report import PACKAGES
from .video import VideoScore

SCHEMA = 1  # of the JSON file
# name in ClipScore: (head of its row, digits, factor, what is better)
ROWS = {
    "psnr": ("PSNR, dB", 2, 1.0, "more"),
    "ssim": ("SSIM", 4, 1.0, "more"),
    "brightness": ("brightness, 1/255", 2, 1.0, ""),
    "change": ("change between neighbouring frames, 1/255", 3, 1.0, ""),
    "flicker": ("flicker (change less the reference's), 1/255", 3, 1.0, "less"),
    "ab_var": ("AB(Var), (1/255)²", 3, 1.0, ""),
    "ab_var_difference": ("AB(Var), difference from the reference's", 3, 1.0, "less"),
    "warping_error": ("warping error, 1e-3", 3, 1e3, "less"),
    "static_std": ("static std, 1/255", 3, 1.0, "less"),
}


@dataclass(frozen=True)
class VideoReport:
    """A measurement, with what is needed to repeat it."""

    files: dict[str, str]  # clip -> its file
    score: VideoScore
    versions: dict[str, str] = field(default_factory=lambda: installed_versions(PACKAGES))

    def to_dict(self) -> dict[str, Any]:
        """The JSON document."""
        clips = {name: _plain_all(asdict(score)) for name, score in self.score.clips.items()}
        return {
            "schema": SCHEMA,
            "kind": "video",
            "files": self.files,
            "frames": len(self.score.frames),
            "static_share": _plain(self.score.static_share),
            "clips": clips,
            "versions": self.versions,
        }

    def save(self, path: Path) -> tuple[Path, Path]:
        """Write `path` (JSON) and the same name with .csv (one line a frame); each is replaced at once."""
        table = io.StringIO()
        names = list(self.score.clips)
        writer = csv.writer(table)
        writer.writerow(["frame", *(f"brightness_{name}" for name in names), "psnr", "ssim"])
        for number, frame in enumerate(self.score.frames):
            own = [_plain(frame.brightness[name]) for name in names]
            writer.writerow([number, *own, _plain(frame.psnr), _plain(frame.ssim)])
        other = path.with_suffix(".csv")
        write_text(path, json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n")
        write_text(other, table.getvalue())
        return path, other


def show_video(report: VideoReport, console: Console) -> None:
    """Print a table, one column for each clip, and what must be known to read it."""
    clips = report.score.clips
    table = Table(f"{len(report.score.frames)} frames", "better")
    for name in clips:
        table.add_column(name, justify="right")
    for row, (head, digits, factor, better) in ROWS.items():
        values = [getattr(clip, row) for clip in clips.values()]
        if any(value is not None for value in values):
            table.add_row(head, better, *(_cell(value, digits, factor) for value in values))
    console.print(table)
    for line in _notes(report):
        console.print(line, highlight=False, soft_wrap=True)


def _notes(report: VideoReport) -> list[str]:
    if "reference" in report.score.clips:
        return [
            f"static std is of the {report.score.static_share:.0%} of the pixels that stand still in the reference",
            "warping error: motion is the reference's",
        ]
    return [
        "static std is of all pixels: without a reference it measures noise only where nothing moves",
        "PSNR, SSIM, flicker: not measured (no --reference); warping error: motion is the result's own",
    ]


def _cell(value: float | None, digits: int, factor: float) -> str:
    return "-" if value is None else f"{value * factor:.{digits}f}"


def _plain_all(score: dict[str, float | None]) -> dict[str, float | str | None]:
    return {name: _plain(value) for name, value in score.items()}


def _plain(value: float | None) -> float | str | None:
    """JSON has no infinity (equal frames)."""
    if value is None or math.isnan(value):
        return None
    return round(value, 9) if math.isfinite(value) else "inf"
