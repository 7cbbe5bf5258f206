"""A graph written for opset 18 or later, said in opset 17: what hosts of 2022 read.

Three things changed between them that our graphs hold: sums and means take their axes as an input, Split counts its
outputs itself, and Pad may name axes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lldiffusion.errors import LLDiffusionError

if TYPE_CHECKING:
    import onnx

OLDEST = 17
REDUCTIONS = ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2")  # not ReduceSum: since 13
NEWER = ("GroupNormalization", "Mish", "BitwiseAnd", "BitwiseOr", "CenterCropPad", "Col2Im")  # of opset 18 and later


def lower_to_17(model: onnx.ModelProto) -> None:
    """Change a graph of opset 18 in place.  Raises LLDiffusionError for an operator that opset 17 does not have."""
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in NEWER:
            raise LLDiffusionError(f"'{node.name}' ({node.op_type}) cannot be said in opset 17: export with --opset 18")
        if node.op_type in REDUCTIONS and len(node.input) == 2:
            axes = numpy_helper.to_array(constants[node.input.pop()])
            node.attribute.append(_ints("axes", axes.tolist()))
            _drop(node, "noop_with_empty_axes")
        if node.op_type == "Split":
            _drop(node, "num_outputs")
        if node.op_type == "Resize":
            _drop(node, "antialias", "keep_aspect_ratio_policy", "axes")
    read = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    for entry in model.opset_import:
        if entry.domain == "":
            entry.version = OLDEST


def _ints(name: str, values: list[int]) -> Any:
    from onnx import helper

    return helper.make_attribute(name, values)


def _drop(node: Any, *names: str) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name not in names]
    del node.attribute[:]
    node.attribute.extend(kept)
