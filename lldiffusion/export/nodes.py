"""Nodes of ONNX graphs: their attributes of whole numbers, and copies of them."""

from __future__ import annotations

from typing import Any


def ints_of(node: Any) -> dict[str, list[int]]:
    """Attributes by name, as lists; of other kinds they are worthless."""
    return {a.name: list(a.ints) or [a.i] for a in node.attribute}


def set_ints(node: Any, **ints: list[int]) -> None:
    """Replace attributes of whole numbers."""
    from onnx import helper

    kept = [attribute for attribute in node.attribute if attribute.name not in ints]
    del node.attribute[:]
    node.attribute.extend([*kept, *(helper.make_attribute(name, values) for name, values in ints.items())])


def copied(node: Any) -> Any:
    """A node that stays what it is when the graph's own list of nodes is emptied."""
    copy = type(node)()
    copy.CopyFrom(node)
    return copy
