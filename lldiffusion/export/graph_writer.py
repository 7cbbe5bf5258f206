"""A graph put together: nodes and constants by hand, and whole graphs grafted into it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx


class GraphWriter:
    """Collects nodes in the order they run, and constants; every method returns the names of what it makes."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def node(self, operator: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Append a node with one output; `name` is the output's, a number where it is left out."""
        from onnx import helper

        name = name or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, values: NDArray[Any], name: str = "") -> str:
        """A constant; equal names are the same constant."""
        from onnx import numpy_helper

        name = name or f"constant_{len(self.constants)}"
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def whole(self, *values: int, name: str = "") -> str:
        """A constant of whole numbers, (len(values),) int64."""
        return self.constant(np.array(values, np.int64), name)

    def real(self, value: float, name: str = "") -> str:
        """A constant () float32."""
        return self.constant(np.array(value, np.float32), name)

    def graft(self, graph: onnx.GraphProto, given: dict[str, str], prefix: str, weights: str = "") -> dict[str, str]:
        """Append the nodes of `graph`, its inputs being the values `given`; returns output -> value.

        `prefix` is put before the names of its values, `weights` (default: the same) before those of its constants:
        grafting a graph twice with the same `weights` stores them once.
        """
        weights = weights or prefix
        names = dict(given)
        for tensor in graph.initializer:
            names[tensor.name] = f"{weights}{tensor.name}"
            if names[tensor.name] not in self.constants:
                copy = self.constants[names[tensor.name]] = type(tensor)()
                copy.CopyFrom(tensor)
                copy.name = names[tensor.name]
        for node in graph.node:
            names |= {name: f"{prefix}{name}" for name in node.output if name}
            copied = type(node)()
            copied.CopyFrom(node)
            copied.name = f"{prefix}{node.name or node.output[0]}"
            _replace(copied.input, (names[name] if name else "" for name in node.input))
            _replace(copied.output, (names[name] if name else "" for name in node.output))
            self.nodes.append(copied)
        return {output.name: names[output.name] for output in graph.output}

    def needed(self, outputs: Iterable[str]) -> tuple[list[Any], list[Any]]:
        """(nodes, constants) that `outputs` are computed from."""
        wanted, nodes = set(outputs), []
        for node in reversed(self.nodes):
            if wanted & set(node.output):
                nodes.append(node)
                wanted |= set(node.input)
        return nodes[::-1], [tensor for name, tensor in self.constants.items() if name in wanted]


def _replace(field: Any, values: Iterable[str]) -> None:
    values = list(values)
    del field[:]
    field.extend(values)
