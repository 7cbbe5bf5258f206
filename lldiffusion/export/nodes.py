"""Nodes of ONNX graphs: their attributes of whole numbers; copies of them and of models."""

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


def copied(part: Any) -> Any:
    """A copy of its own: a node stays what it is when the graph's list of nodes is emptied."""
    copy = type(part)()
    copy.CopyFrom(part)
    return copy
