"""Result files: JSON that says where and when it was made, written again after every run that is finished."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lldiffusion.atomic import write_text
from lldiffusion.bench.machine import commit, describe_machine, versions
from lldiffusion.errors import LLDiffusionError

SCHEMA = 1  # of all of them: what `write_result` puts before a program's own entries


def write_result(path: Path, body: dict[str, Any], page: str = "") -> Path:
    """Write `body` after the schema, the time (UTC), this machine, the packages and the code.

    Args:
        page: in Markdown, for the file of the same name that ends in .md; "" for none.
    Returns what a person would read: the page where there is one, else `path`.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    head = {"schema": SCHEMA, "date": now, "machine": asdict(describe_machine())}
    document = head | {"versions": versions(), "commit": commit()} | body
    write_text(path, json.dumps(document, indent=1, allow_nan=False) + "\n")
    if not page:
        return path
    readable = path.with_suffix(".md")
    write_text(readable, page)
    return readable


def read_result(path: Path, wanted: tuple[str, ...]) -> dict[str, Any] | None:
    """What an earlier call wrote; None where there is no such file.

    Raises LLDiffusionError where the file is something else: it must hold the entries `wanted`.
    """
    if not path.exists():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["schema"] != SCHEMA:
            raise ValueError(f"schema {document['schema']}, this version writes {SCHEMA}")
        return {name: document[name] for name in wanted}
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise LLDiffusionError(f"'{path}' holds no results of this program ({error}): move it away") from error
