"""Float16 and bfloat16 written into a graph, with islands that stay float32.

TensorRT 11 takes every type from the ONNX file, so the file says what is computed in which: convolutions, matrix
products and the pictures between them in half precision, and in float32

    norm           means and variances over many values (GroupNorm, InstanceNorm, LayerNorm, global means)
    softmax        exponentials and their sum
    color map      a division by a sum that is near zero in the dark
    tone           the curve applied to the low image, steep in the dark, before its first convolution; its
                   brightening by the level: places in the whole picture, and powers of two
    time           the embedding of the timestep: sines of up to 1000 radians
    step           k_x x_t + k_p pred and what follows: differences of nearly equal numbers, repeated every step

Graph inputs and outputs stay float32, the degradation features excepted: they stay in the graph's precision.  Colour
map and level are float32 graphs in every precision.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lldiffusion.errors import LLDiffusionError

if TYPE_CHECKING:
    import onnx

FLOAT, FLOAT16, BFLOAT16 = 1, 10, 16  # onnx.TensorProto.DataType
HALF = {"fp16": FLOAT16, "bf16": BFLOAT16}
LARGEST = {"fp16": 65504.0, "bf16": 3.38e38}  # largest finite value

NORMS = {"LayerNormalization", "GroupNormalization", "InstanceNormalization", "ReduceMean", "ReduceSum"}
# Float32 inputs of the arithmetic before the first convolution; "size": numbers counted from a shape.
PICTURES = {"low", "x_t", "x0_previous", "color_map", "level", "window", "exposure", "size"}
STEP = {"k_x", "k_p", "a", "b", "c"}
POINTWISE = {"Add", "Sub", "Mul", "Div", "Clip", "Log", "Max", "Min", "Exp", "Pow", "Slice", "Constant"}
# How a picture is brightened by a grid: hat functions of places and of its own mean, and matrix products of them.
SLICING = {"Abs", "Neg", "Relu", "MatMul", "Range", "ReduceMean", "ReduceSum", "Transpose", "Unsqueeze", "Squeeze"}
SLICING |= {"Expand", "Gather", "Reshape"}
ANY_TYPE = {"Shape", "Size"}  # read no values
KEPT_INPUTS = {"Resize": (1, 2)}  # inputs that the operator wants in float32 whatever it computes in


@dataclass(frozen=True)
class Island:
    """A node that stays float32, and why."""

    node: str
    operator: str
    reason: str


REASONS = {
    "norm": "mean and variance over many values",
    "softmax": "exponentials and their sum",
    "color map": "division by a sum that is near zero in the dark",
    "tone": "arithmetic on the image before its first convolution",
    "time": "embedding of the timestep",
    "step": "arithmetic of the step",
}


def islands(model: onnx.ModelProto) -> dict[str, Island]:
    """The nodes of a float32 or typed graph that must compute in float32, by name of their first output."""
    color_map = any(value.name == "color_map" for value in model.graph.output)
    roots = _roots(model.graph)
    found = {}
    for node in model.graph.node:
        reason = "color map" if color_map else _reason(node, roots)
        if reason is not None and node.op_type != "Cast":
            found[node.output[0]] = Island(node.name or node.output[0], node.op_type, reason)
    return found


def _roots(graph: onnx.GraphProto) -> dict[str, frozenset[str]]:
    """Value -> the graph inputs it is computed from, and "network" once it passed anything but arithmetic."""
    roots = {value.name: frozenset([value.name]) for value in graph.input}
    for node in graph.node:
        if node.op_type in ANY_TYPE:
            continue  # a size is no value
        union = frozenset().union(*(roots.get(name, frozenset()) for name in node.input))
        if node.op_type == "Range":
            union = frozenset(["size"])
        elif node.op_type not in POINTWISE | SLICING | {"Cast"}:
            union |= {"network"}
        roots.update(dict.fromkeys(node.output, union))
    return roots


def _reason(node: onnx.NodeProto, roots: dict[str, frozenset[str]]) -> str | None:
    given = roots.get(node.output[0], frozenset())
    if given & STEP:
        return "step"
    if node.op_type in NORMS:
        return "norm"
    if node.op_type == "Softmax":
        return "softmax"
    if "t" in given and given <= {"t", "network"}:
        return "time"
    return "tone" if given and given <= PICTURES else None


def to_half(model: onnx.ModelProto, precision: str, emulate: bool = False) -> tuple[onnx.ModelProto, list[Island]]:
    """A typed copy of a float32 graph, and the islands it keeps.

    `emulate` gives a float32 graph that rounds every value the typed one would store in half precision: what a
    GPU's float16 or bfloat16 with float32 sums computes, on a machine whose ONNX Runtime cannot.
    Raises LLDiffusionError when a weight is too large for the precision.
    """
    import onnx

    typed = onnx.ModelProto()
    typed.CopyFrom(model)
    if precision == "bf16" and not emulate:
        _raise_opset(typed)
    kept = islands(model)
    writer = _Writer(typed, precision, emulate)
    for node in list(typed.graph.node):
        writer.add(node, FLOAT if node.output[0] in kept else HALF[precision])
    writer.finish()
    return typed, list(kept.values())


def _raise_opset(model: onnx.ModelProto) -> None:
    """Opset 22 is 21 with bfloat16 allowed in convolutions, norms and resizes."""
    for opset in model.opset_import:
        if opset.domain == "":
            opset.version = max(opset.version, 22)


class _Writer:
    """Rewrites the nodes of a graph in order, with casts where a value is needed in another type than it has."""

    def __init__(self, model: onnx.ModelProto, precision: str, emulate: bool) -> None:
        self._graph = model.graph
        self._precision = precision
        self._emulate = emulate
        self._half = HALF[precision]
        declared = [*model.graph.value_info, *model.graph.input, *model.graph.output]
        self._type = {value.name: value.type.tensor_type.elem_type for value in declared}
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self._type.update({name: tensor.data_type for name, tensor in self._weights.items()})
        self._casts: dict[tuple[str, int], str] = {}
        self._nodes: list[Any] = []
        for value in model.graph.input:
            if value.name.startswith("feature_") and not emulate:
                value.type.tensor_type.elem_type = self._type[value.name] = self._half

    def add(self, node: onnx.NodeProto, wanted: int) -> None:
        """Put `node` into the graph, computing in `wanted`."""
        if node.op_type not in ANY_TYPE:
            for i, name in enumerate(node.input):
                if i not in KEPT_INPUTS.get(node.op_type, ()) and self._type.get(name) in (FLOAT, self._half):
                    node.input[i] = self._as(name, wanted)
        self._nodes.append(node)
        for name in node.output:
            if self._type.get(name) == FLOAT and node.op_type != "Cast":
                self._type[name] = wanted
                if wanted == self._half and self._emulate:
                    self._round(node, name)

    def finish(self) -> None:
        """Cast the outputs back to float32, replace the nodes, and drop weights nobody reads any more."""
        for value in self._graph.output:
            self._output(value)
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)
        used = {name for node in self._nodes for name in node.input}
        weights = [self._weights[name] for name in self._weights if name in used]
        del self._graph.initializer[:]
        self._graph.initializer.extend(weights)
        del self._graph.value_info[:]  # types have changed: readers infer them

    def _output(self, value: onnx.ValueInfoProto) -> None:
        if self._emulate or self._type[value.name] != self._half:
            return
        if value.name.startswith("feature_"):
            value.type.tensor_type.elem_type = self._half
            return
        inner = f"{value.name}_{self._precision}"
        for node in self._nodes:
            _rename(node.output, value.name, inner)
            _rename(node.input, value.name, inner)
        self._cast(inner, value.name, FLOAT)

    def _as(self, name: str, wanted: int) -> str:
        """The name under which `name` is to be had in type `wanted`."""
        if name in self._weights:
            return self._weight(name, wanted)
        if self._emulate or self._type[name] == wanted:
            return name
        if (name, wanted) not in self._casts:
            suffix = "fp32" if wanted == FLOAT else self._precision
            self._casts[name, wanted] = f"{name}_as_{suffix}"
            self._cast(name, self._casts[name, wanted], wanted)
        return self._casts[name, wanted]

    def _weight(self, name: str, wanted: int) -> str:
        if wanted == FLOAT or self._type[name] != FLOAT:
            return name
        typed = f"{name}_{self._precision}"
        if typed not in self._weights:
            tensor = half_tensor(self._weights[name], typed, self._precision, back=self._emulate)
            self._weights[typed] = tensor
            self._type[typed] = tensor.data_type
        return typed

    def _round(self, node: onnx.NodeProto, name: str) -> None:
        exact, half = f"{name}_exact", f"{name}_{self._precision}"
        _rename(node.output, name, exact)
        self._cast(exact, half, self._half)
        self._cast(half, name, FLOAT)

    def _cast(self, source: str, target: str, wanted: int) -> None:
        from onnx import helper

        self._nodes.append(helper.make_node("Cast", [source], [target], name=f"cast_{target}", to=wanted))
        self._type[target] = wanted


def _rename(names: Any, old: str, new: str) -> None:
    for i, name in enumerate(names):
        if name == old:
            names[i] = new


def half_tensor(tensor: onnx.TensorProto, name: str, precision: str, back: bool = False) -> onnx.TensorProto:
    """A weight in half precision, rounded to nearest; `back`: in float32 again."""
    import ml_dtypes
    from onnx import numpy_helper

    values = numpy_helper.to_array(tensor)
    if np.abs(values, dtype=np.float32).max(initial=0) > LARGEST[precision]:
        raise LLDiffusionError(f"weight '{tensor.name}' does not fit in {precision}: export with --bf16 or --fp32")
    rounded = values.astype(np.float16 if precision == "fp16" else ml_dtypes.bfloat16)
    return numpy_helper.from_array(rounded.astype(np.float32) if back else rounded, name)


def check_islands(model: onnx.ModelProto, wanted: Iterable[Island]) -> list[str]:
    """Names of nodes that must compute in float32 and do not, in a typed graph ("node (operator): reason")."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model).graph
    types = {v.name: v.type.tensor_type.elem_type for v in [*inferred.value_info, *inferred.input, *inferred.output]}
    types.update({tensor.name: tensor.data_type for tensor in inferred.initializer})
    nodes = {node.name or node.output[0]: node for node in inferred.node}
    wrong = []
    for island in wanted:
        node = nodes.get(island.node)
        names = [*node.input, *node.output] if node is not None else []
        if node is None or any(types.get(name) in (FLOAT16, BFLOAT16) for name in names):
            wrong.append(f"{island.node} ({island.operator}): {REASONS[island.reason]}")
    return wrong
