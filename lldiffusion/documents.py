"""JSON and TOML from files that anybody may have written: limited in size and depth, and every fault one line."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lldiffusion.errors import LLDiffusionError

LARGEST = 16 << 20  # bytes: a manifest or a configuration has a few thousand
DEEPEST = 32  # tables and lists inside each other: ours have at most 6


def read_json(path: Path, largest: int = LARGEST) -> dict[str, Any]:
    """The table in a JSON file.  Raises LLDiffusionError naming the file, and OSError when it cannot be read."""
    return parse_json(_bytes_of(path, largest), str(path), largest)


def read_toml(path: Path) -> dict[str, Any]:
    """The table in a TOML file; raises as `read_json` does."""
    return _parsed(lambda text: tomllib.loads(text.decode("utf-8")), _bytes_of(path, LARGEST), str(path), "TOML")


def parse_json(text: bytes, source: str, largest: int = LARGEST) -> dict[str, Any]:
    """The table in a JSON text; `source` names it in messages.

    Raises LLDiffusionError for a text that is no JSON or no UTF-8, holds no table, or is larger than `largest` bytes or
    deeper than any of ours: what comes back may be walked recursively, printed and encoded.
    """
    if len(text) > largest:
        raise LLDiffusionError(f"'{source}' has more than {largest >> 20} MiB: it is none of ours")
    return _parsed(json.loads, text, source, "JSON")


def _bytes_of(path: Path, largest: int) -> bytes:
    with path.open("rb") as file:
        text = file.read(largest + 1)
    if len(text) > largest:
        raise LLDiffusionError(f"'{path}' has more than {largest >> 20} MiB: it is none of ours")
    return text


def _parsed(parse: Callable[[bytes], Any], text: bytes, source: str, kind: str) -> dict[str, Any]:
    try:
        table = parse(text)
        check_plain(table)
    except RecursionError:
        raise LLDiffusionError(f"'{source}' is damaged: tables or lists are nested too deeply") from None
    except ValueError as error:  # JSON, TOML and UTF-8 errors alike
        reason = " ".join(str(error).split())[:200]
        raise LLDiffusionError(f"'{source}' is damaged: no {kind} ({reason})") from error
    if not isinstance(table, dict):
        raise LLDiffusionError(f"'{source}' is damaged: a table is expected, not {type(table).__name__}")
    return table


def check_plain(value: Any) -> None:
    """ValueError for what would fail later: too deep a nesting, too large a number, text that no UTF-8 can hold."""
    waiting = [(value, 0)]
    while waiting:
        entry, depth = waiting.pop()
        if depth > DEEPEST:
            raise ValueError("tables or lists are nested too deeply")
        if isinstance(entry, str):
            entry.encode("utf-8")
        elif isinstance(entry, int) and abs(entry) >> 63:
            raise ValueError("a number has more than 63 bits")
        elif isinstance(entry, dict):
            waiting += [(key, depth + 1) for key in entry]
            waiting += [(inner, depth + 1) for inner in entry.values()]
        elif isinstance(entry, list):
            waiting += [(inner, depth + 1) for inner in entry]
