"""Nested tables, as TOML and JSON give them: merged, overridden, and turned into dataclasses."""

from __future__ import annotations

import tomllib
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from lldiffusion.errors import LLDiffusionError, choose


def merge(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    """`base` with the values of `top` laid over it, section by section."""
    merged = dict(base)
    for key, value in top.items():
        nested = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = merge(base[key], value) if nested else value
    return merged


def override(table: dict[str, Any], text: str) -> None:
    """Set one value in place: "train.lr=2e-4"; the value is TOML, or a bare word."""
    key, equals, value = text.partition("=")
    if not equals:
        raise LLDiffusionError(f"'{text}' is not an override: write key=value, e.g. train.lr=2e-4")
    *parents, leaf = key.strip().split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise LLDiffusionError(f"'{key}': '{parent}' is a value, not a section")
    try:
        table[leaf] = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        table[leaf] = value  # a bare word is a string


def build(cls: type, table: Any, where: str) -> Any:
    """A dataclass (of dataclasses) from a table; `where` is the section's name in messages."""
    if not isinstance(table, dict):
        raise LLDiffusionError(f"configuration '{where}' must be a section, not {table!r}")
    hints, known = get_type_hints(cls), [f.name for f in fields(cls)]
    arguments = {}
    for key, value in table.items():
        choose(key, known, f"configuration key in [{where or 'top level'}]")
        path = f"{where}.{key}".lstrip(".")
        arguments[key] = build(hints[key], value, path) if is_dataclass(hints[key]) else _cast(hints[key], value, path)
    return cls(**arguments)


def _cast(hint: Any, value: Any, where: str) -> Any:
    """Accept an int where a float is meant and a list where a tuple is; refuse everything else."""
    text = str(hint).removeprefix("<class '").removesuffix("'>")
    if text.startswith("tuple"):
        inner = {"int": int, "float": float, "str": str}[text[6:].partition(",")[0]]
        if isinstance(value, (list, tuple)):
            return tuple(_cast(inner, item, where) for item in value)
    elif hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    elif isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise LLDiffusionError(f"configuration '{where}' is {value!r}: expected {text}")
