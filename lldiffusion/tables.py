"""Nested tables, as TOML and JSON give them: merged, overridden, and turned into dataclasses."""

from __future__ import annotations

import tomllib
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from lldiffusion.documents import check_plain
from lldiffusion.errors import LLDiffusionError, choose, printable

T = TypeVar("T")


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
        given = tomllib.loads(f"value = {value}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        given = value  # a bare word is a string
    try:
        check_plain(given)
    except ValueError as error:
        raise LLDiffusionError(f"'{printable(key)}' cannot be set to that: {error}") from error
    table[leaf] = given


def build(cls: type[T], table: Any, where: str, document: str = "configuration", ignore_unknown: bool = False) -> T:
    """A dataclass of plain values, dataclasses, tuples, lists and dictionaries, from a table as TOML or JSON give it.

    Args:
        where: the section's name in messages, "" for the whole of `document`.
        ignore_unknown: skip keys that the dataclass does not have, which a later version may have written.
    Raises LLDiffusionError for an unknown key, a missing one without a default, and a value of another type than the
    field's: an int does for a float and a list for a tuple.
    """
    if not isinstance(table, dict):
        raise LLDiffusionError(f"{document} '{where}' must be a section, not {table!r:.80}")
    hints, known = _fields(cls)  # type: ignore[arg-type]  # mypy: a type[T] is not hashable
    arguments = {}
    for key, value in table.items():
        if ignore_unknown and key not in known:
            continue
        choose(key, known, f"{document} key in [{where or 'top level'}]")
        arguments[key] = _value(hints[key], value, f"{where}.{key}".lstrip("."), document, ignore_unknown)
    for name, entry in known.items():
        if name not in arguments and entry.default is MISSING and entry.default_factory is MISSING:
            raise LLDiffusionError(f"{document} '{f'{where}.{name}'.lstrip('.')}' is missing")
    return cls(**arguments)


@cache  # reading the hints takes longer than all the rest
def _fields(cls: type) -> tuple[dict[str, Any], dict[str, Field[Any]]]:
    """Types and descriptions of a dataclass's fields, by name."""
    return get_type_hints(cls), {entry.name: entry for entry in fields(cls)}


def _value(hint: Any, value: Any, where: str, document: str, ignore_unknown: bool) -> Any:
    """`value` as the type hint wants it."""
    if is_dataclass(hint):
        assert isinstance(hint, type)
        return build(hint, value, where, document, ignore_unknown)
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (UnionType, Union):
        return _of_union(inner, value, where, document, ignore_unknown)
    if origin in (tuple, list) and isinstance(value, (list, tuple)):
        hints = inner[:1] * len(value) if origin is list or inner[-1] is Ellipsis else inner
        if len(hints) == len(value):
            parts = enumerate(zip(hints, value))
            return origin(_value(each, part, f"{where}[{i}]", document, ignore_unknown) for i, (each, part) in parts)
    elif origin is dict and isinstance(value, dict):
        return {
            k: _value(inner[1], entry, f"{where}.{printable(k)}", document, ignore_unknown)
            for k, entry in value.items()
        }
    elif hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    elif hint is Any or (isinstance(hint, type) and type(value) is hint):
        return value
    raise LLDiffusionError(f"{document} '{where}' is {value!r:.80}: expected {_name(hint)}")


def _of_union(hints: tuple[Any, ...], value: Any, where: str, document: str, ignore_unknown: bool) -> Any:
    """The value as the first of several types that takes it: `int | None`, `str | int`."""
    if value is None and NoneType in hints:
        return None
    for hint in hints:
        try:
            return _value(hint, value, where, document, ignore_unknown)
        except LLDiffusionError:
            continue
    raise LLDiffusionError(f"{document} '{where}' is {value!r:.80}: expected {' or '.join(map(_name, hints))}")


def _name(hint: Any) -> str:
    """A type hint as people write it."""
    return "None" if hint is NoneType else hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)
