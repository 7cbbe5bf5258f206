"""Nested tables, as TOML and JSON give them: merged, overridden, and turned into dataclasses."""

from __future__ import annotations

import tomllib
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

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


def build(cls: type, table: Any, where: str, document: str = "configuration", ignore_unknown: bool = False) -> Any:
    """A dataclass (of dataclasses, tuples and dictionaries) from a table.

    Args:
        where: the section's name in messages, "" for the whole of `document`.
        ignore_unknown: skip keys that the dataclass does not have, which a later version may have written.
    Raises LLDiffusionError for an unknown key, a missing one without a default, and a value of another type.
    """
    if not isinstance(table, dict):
        raise LLDiffusionError(f"{document} '{where}' must be a section, not {table!r:.80}")
    hints, known = get_type_hints(cls), [f.name for f in fields(cls)]
    arguments = {}
    for key, value in table.items():
        if ignore_unknown and key not in known:
            continue
        choose(key, known, f"{document} key in [{where or 'top level'}]")
        arguments[key] = _cast(hints[key], value, f"{where}.{key}".lstrip("."), document, ignore_unknown)
    for entry in fields(cls):
        if entry.name not in arguments and entry.default is MISSING and entry.default_factory is MISSING:
            raise LLDiffusionError(f"{document} '{f'{where}.{entry.name}'.lstrip('.')}' is missing")
    return cls(**arguments)


def _cast(hint: Any, value: Any, where: str, document: str, ignore_unknown: bool) -> Any:
    """Accept an int where a float is meant and a list where a tuple is; refuse everything else."""
    origin, inner = get_origin(hint), get_args(hint)

    def cast(one: Any, part: Any, at: str = where) -> Any:
        return _cast(one, part, at, document, ignore_unknown)

    if is_dataclass(hint):
        return build(hint, value, where, document, ignore_unknown)  # type: ignore[arg-type]
    if origin is UnionType:  # X | None
        return None if value is None else cast(next(one for one in inner if one is not NoneType), value)
    if origin is tuple and isinstance(value, (list, tuple)):
        kinds = inner[:1] * len(value) if Ellipsis in inner else inner
        if len(kinds) == len(value):
            return tuple(map(cast, kinds, value))
    elif origin is dict and isinstance(value, dict):
        return {str(key): cast(inner[1], entry, f"{where}.{key}") for key, entry in value.items()}
    elif hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    elif origin is None and isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    expected = str(hint).removeprefix("<class '").removesuffix("'>")
    raise LLDiffusionError(f"{document} '{where}' is {value!r:.80}: expected {expected}")
