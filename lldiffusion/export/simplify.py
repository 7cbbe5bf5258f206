"""What a traced graph computes and need not: the same answers, from fewer and faster operators.

Expand(t, n)    the timestep is one number whatever the batch; as one row it can be folded once it is known
unshuffle       pixels gathered into channels before a convolution: see `unshuffle`
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .unshuffle import fold_unshuffle

if TYPE_CHECKING:
    import onnx

TIMESTEP = "t"  # graph input, (1,)


def simplify(model: onnx.ModelProto, patch: int) -> None:
    """Change a traced graph in place; `patch`: by which it unshuffles pixels."""
    _keep_timestep_one_row(model.graph)
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
