"""`config.json` of a checkpoint, read without PyTorch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lldiffusion.documents import read_json
from lldiffusion.errors import LLDiffusionError
from lldiffusion.tables import build

FORMAT = 1  # raised when an older reader would misread a newer file


@dataclass(frozen=True)
class CheckpointRecord:
    """What the file holds; `config` is for `config_from_dict`."""

    format: int
    config: dict[str, Any]
    degrader: bool = False  # whether the weights hold a DGNET
    notes: dict[str, Any] = field(default_factory=dict)  # stage, step, metrics, source: whatever the writer recorded


def read_record(path: Path) -> CheckpointRecord:
    """Raises LLDiffusionError for a damaged file and FileNotFoundError for a missing one."""
    table = read_json(path)
    try:
        return build(CheckpointRecord, table, "", "its", ignore_unknown=True)
    except LLDiffusionError as error:
        raise LLDiffusionError(f"'{path}' is damaged: {error}") from error
