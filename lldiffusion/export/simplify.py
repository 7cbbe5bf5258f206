"""What a traced graph computes and need not: the same answers, from fewer and faster operators.

Expand(t, n)    the timestep is one number whatever the batch; as one row it can be folded once it is known
Pow(2, x)       Exp(x ln 2): runtimes have a vectorised exponential, and a slow general power
unshuffle       pixels gathered into channels before a convolution: see `unshuffle`
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .unshuffle import fold_unshuffle

if TYPE_CHECKING:
    import onnx

TIMESTEP = "t"  # graph input, (1,)
LN_2 = "ln_2"


def simplify(model: onnx.ModelProto, patch: int) -> None:
    """Change a traced graph in place; `patch`: by which it unshuffles pixels."""
    _keep_timestep_one_row(model.graph)
    _powers_of_two(model.graph)
    fold_unshuffle(model, patch)
    _forget_unread(model.graph)


def _keep_timestep_one_row(graph: onnx.GraphProto) -> None:
    for node in [node for node in graph.node if node.op_type == "Expand" and node.input[0] == TIMESTEP]:
        for other in graph.node:
            for i, name in enumerate(other.input):
                if name == node.output[0]:
                    other.input[i] = TIMESTEP
        graph.node.remove(node)
    rows, constants = {TIMESTEP}, {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if rows & set(node.input) and set(node.input) <= rows | constants:
            rows |= set(node.output)
    for info in graph.value_info:
        if info.name in rows and info.type.tensor_type.shape.dim:
            info.type.tensor_type.shape.dim[0].dim_value = 1


def _powers_of_two(graph: onnx.GraphProto) -> None:
    from onnx import helper, numpy_helper

    constants = {tensor.name: tensor for tensor in graph.initializer}
    described = {info.name: info for info in graph.value_info}
    nodes: list[Any] = []
    for node in graph.node:
        base = constants.get(node.input[0]) if node.op_type == "Pow" else None
        if base is not None and np.all(numpy_helper.to_array(base) == 2):
            scaled = f"{node.output[0]}_exponent"
            nodes.append(helper.make_node("Mul", [node.input[1], LN_2], [scaled], name=scaled))
            nodes.append(helper.make_node("Exp", [scaled], list(node.output), name=node.name))
            if node.output[0] in described:
                graph.value_info.add().CopyFrom(described[node.output[0]])
                graph.value_info[-1].name = scaled
        else:
            nodes.append(type(node)())
            nodes[-1].CopyFrom(node)
    if len(nodes) > len(graph.node):
        del graph.node[:]
        graph.node.extend(nodes)
        graph.initializer.append(numpy_helper.from_array(np.array(math.log(2), np.float32), LN_2))


def _forget_unread(graph: onnx.GraphProto) -> None:
    """What nothing reads any more."""
    read = {output.name for output in graph.output}
    for node in list(graph.node)[::-1]:
        if read & set(node.output):
            read |= set(node.input)
        else:
            graph.node.remove(node)
    made = {name for node in graph.node for name in node.output}
    for field, kept in ((graph.initializer, read), (graph.value_info, read & made)):
        for entry in [entry for entry in field if entry.name not in kept]:
            field.remove(entry)
