"""Eight bits written into a graph: Q/DQ pairs around convolutions, which runtimes turn into integer convolutions.

    DQ(Q(x)) = s (clip(round(x / s) + z, 0, 255) - z)        activations: uint8, one scale s and zero point z a value
    DQ(w)    = s_k w_k, w_k in -127..127                     weights: int8, one scale for each output channel k

A convolution's input and its output (behind its ReLU, where that alone reads it) get a pair each; a value that several
convolutions read has one.  Between them values stay in whole numbers where that costs a runtime least: what only moves
values (Reshape, Transpose, nearest Resize) has the same scale on both sides, the parts of a Concat have one each, and
a residual sum reads rounded values.  Everything else stays float32: the tone curve, the step's arithmetic.
Quantisation as in Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", CVPR 2018, section 2; signed weights per channel as ONNX Runtime, OpenVINO and TensorRT read them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

Ranges = dict[str, tuple[float, float]]  # value -> smallest and largest seen
LEVELS = 255  # steps between the smallest and the largest activation
SMALLEST = 1e-8  # a scale is at least this: a channel may be all zeros
THIN = 16  # channels in and out below which whole numbers are no faster: the image's three, the refinement's twelve
INT8, INT32, UINT8 = np.int8, np.int32, np.uint8
MOVES = ("Reshape", "Transpose", "Resize")  # put values elsewhere (Resize: nearest, as every one here)
CARRIES = (*MOVES, "Add", "Concat", "Conv")  # read values rounded where these are rounded


@dataclass(frozen=True)
class Layer:
    """A convolution that can be quantised."""

    name: str  # of its node
    inputs: tuple[str, str, str]  # x, weight, bias ("": none)
    output: str  # the value to be rounded: its own, or that of the ReLU behind it
    operations: float  # multiplications for each place of its output
    channels: tuple[int, int]  # in, out

    @property
    def thin(self) -> bool:
        """Whether it has too few channels to gain; what a kernel beyond 3x3 sees counts as channels."""
        seen = self.operations / self.channels[1] / 9
        return self.channels[1] < THIN or max(seen, self.channels[0]) < THIN


def layers(graph: onnx.GraphProto) -> list[Layer]:
    """The convolutions of a graph whose weights are constants, in order; but for those that make an output of it."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    shown = {output.name for output in graph.output}
    readers = Counter(name for node in graph.node for name in node.input)
    readers.update(output.name for output in graph.output)
    relus = {node.input[0]: node.output[0] for node in graph.node if node.op_type == "Relu"}
    found = []
    for node in graph.node:
        if node.op_type != "Conv" or node.input[1] not in constants or node.output[0] in shown:
            continue
        own = node.output[0]
        alone = own in relus and readers[own] == 1
        x, weight, bias = [*node.input, ""][:3]
        dims = tuple(constants[weight].dims)
        output = relus[own] if alone else own
        found.append(Layer(node.name or own, (x, weight, bias), output, float(np.prod(dims)), (dims[1], dims[0])))
    return found


def values_to_watch(graph: onnx.GraphProto) -> list[str]:
    """The values whose ranges `quantise` needs."""
    constants = {tensor.name for tensor in graph.initializer}
    found = {name for layer in layers(graph) for name in (layer.inputs[0], layer.output)}
    for node in reversed(graph.node):
        if node.op_type == "Concat" and node.output[0] in found:
            found |= {name for name in node.input if name not in constants}
        if node.op_type in MOVES and node.output[0] in found:
            found.add(node.input[0])
    return sorted(found)


def quantise(model: onnx.ModelProto, ranges: Ranges, chosen: Collection[str]) -> onnx.ModelProto:
    """A copy of a float32 graph with Q/DQ around the convolutions named in `chosen`."""
    copy = type(model)()
    copy.CopyFrom(model)
    _Quantiser(copy.graph, ranges).run([layer for layer in layers(model.graph) if layer.name in chosen])
    return copy


class _Quantiser:
    """Rewrites one graph."""

    def __init__(self, graph: onnx.GraphProto, ranges: Ranges) -> None:
        self._graph = graph
        self._ranges = ranges
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._rounded: dict[str, str] = {}  # value -> its DQ(Q()) copy
        self._used: Ranges = {}  # value -> the range it was rounded with
        self._before: list[Any] = []  # nodes that read constants only
        self._after: dict[str, list[Any]] = {}  # value -> nodes to put behind the one that makes it

    def run(self, chosen: list[Layer]) -> None:
        ours = {layer.name for layer in chosen}
        for layer in chosen:
            for value in (layer.inputs[0], layer.output):
                self._round(value)
        for node in self._graph.node:
            if node.op_type == "Conv" and (node.name or node.output[0]) in ours:
                node.input[0] = self._rounded[node.input[0]]
                self._weights(node)
        self._carry()
        self._redirect({layer.output for layer in chosen})
        self._write()

    def _carry(self) -> None:
        """Round what lies between rounded values."""
        for node in self._graph.node:
            if node.op_type in MOVES and node.input[0] in self._rounded:
                self._round(node.output[0], self._used[node.input[0]])
        for node in reversed(self._graph.node):
            if node.output[0] not in self._rounded:
                continue
            if node.op_type in MOVES and node.input[0] in self._ranges:
                self._round(node.input[0], self._used[node.output[0]])
            if node.op_type == "Concat" and any(name in self._rounded for name in node.input):
                for name in node.input:
                    self._round(name)

    def _round(self, value: str, ends: tuple[float, float] | None = None) -> None:
        """Put a pair behind `value`, once."""
        if value in self._rounded:
            return
        self._used[value] = ends or self._ranges[value]
        scale, zero = scale_of(*self._used[value])
        names = [self._add(f"{value}_scale", np.float32(scale)), self._add(f"{value}_zero", UINT8(zero))]
        self._rounded[value] = f"{value}_rounded"
        self._after[value] = [
            _node("QuantizeLinear", [value, *names], f"{value}_uint8"),
            _node("DequantizeLinear", [f"{value}_uint8", *names], self._rounded[value]),
        ]

    def _weights(self, node: Any) -> None:
        """Integer weights, and a bias in units of scale of input times scale of weight."""
        from onnx import numpy_helper

        weight = numpy_helper.to_array(self._constants[node.input[1]])
        scales = channel_scales(weight)
        shape = (-1, *[1] * (weight.ndim - 1))
        whole = np.clip(np.round(weight / scales.reshape(shape)), -127, 127).astype(INT8)
        node.input[1] = self._stored(node.input[1], whole, scales)
        if len(node.input) > 2 and node.input[2]:
            bias = numpy_helper.to_array(self._constants[node.input[2]]).astype(np.float64)
            source = node.input[0].removesuffix("_rounded")
            units = scales.astype(np.float64) * scale_of(*self._used[source])[0]
            limit = 2.0**31 - 1
            whole = np.clip(np.round(bias / units), -limit, limit).astype(INT32)
            node.input[2] = self._stored(node.input[2], whole, units.astype(np.float32))

    def _stored(self, name: str, whole: NDArray[Any], scales: NDArray[np.float32]) -> str:
        """A constant in whole numbers with a DQ behind it."""
        made = f"{name}_dequantised"
        names = [
            self._add(f"{name}_{whole.dtype.name}", whole),
            self._add(f"{name}_scales", scales),
            self._add(f"{name}_zeros", np.zeros(len(scales), whole.dtype)),
        ]
        self._before.append(_node("DequantizeLinear", names, made, axis=0))
        return made

    def _redirect(self, outputs: set[str]) -> None:
        """Who reads the output of a quantised convolution reads it rounded: else no runtime fuses it.

        Other values are read rounded by what carries whole numbers, and as they are by the rest.
        """
        trunk = {name for name in self._rounded if name not in {port.name for port in self._graph.input}}
        for node in self._graph.node:
            for i, name in enumerate(node.input):
                carried = node.op_type in CARRIES and (name in trunk or node.op_type == "Concat")
                if name in self._rounded and (name in outputs or carried):
                    node.input[i] = self._rounded[name]

    def _write(self) -> None:
        nodes = list(self._before)
        for value in self._graph.input:
            nodes += self._after.get(value.name, [])
        for node in self._graph.node:
            nodes.append(node)
            for name in node.output:
                nodes += self._after.get(name, [])
        nodes, read = _live(nodes, {output.name for output in self._graph.output})
        kept = [tensor for tensor in self._constants.values() if tensor.name in read]
        copies = [_copy(node) for node in nodes]
        del self._graph.node[:]
        self._graph.node.extend(copies)
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)
        del self._graph.value_info[:]  # readers infer them

    def _add(self, name: str, values: Any) -> str:
        from onnx import numpy_helper

        self._constants[name] = numpy_helper.from_array(np.asarray(values), name)
        return name


def _live(nodes: list[Any], outputs: set[str]) -> tuple[list[Any], set[str]]:
    """The nodes that `outputs` are computed from, and all that they read."""
    read, kept = set(outputs), []
    for node in reversed(nodes):
        if read & set(node.output):
            kept.append(node)
            read |= set(node.input)
    return kept[::-1], read


def scale_of(low: float, high: float) -> tuple[float, int]:
    """(s, z) of values in [low, high], in which zero is a whole number."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = float(np.float32(max((high - low) / LEVELS, SMALLEST)))
    return scale, int(np.clip(round(-low / scale), 0, LEVELS))


def channel_scales(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """(K,): what one whole number of each output channel is worth."""
    largest = np.abs(weight).reshape(len(weight), -1).max(axis=1)
    return np.maximum(largest / 127, SMALLEST).astype(np.float32)


def _node(operator: str, inputs: list[str], output: str, **attributes: Any) -> Any:
    from onnx import helper

    return helper.make_node(operator, inputs, [output], name=output, **attributes)


def _copy(node: Any) -> Any:
    copy = type(node)()
    copy.CopyFrom(node)
    return copy
