"""Eight bits written into a graph: Q/DQ pairs around convolutions, which runtimes turn into integer convolutions.

    DQ(Q(x)) = s (clip(round(x / s) + z, 0, 255) - z)        activations: uint8, one scale s and zero point z a value
    DQ(w)    = s_k w_k, w_k in -127..127                     weights: int8, one scale for each output channel k

A convolution's input and its output (behind its ReLU, where that alone reads it) get a pair each; a value that several
convolutions read has one.  What a layer adds to each of its channels, the timestep's share, joins its bias.  Between
them values stay in whole numbers where that costs a runtime least: what only moves values (Reshape, Transpose, nearest
Resize) has the same scale on both sides, the parts of a Concat have one each, a residual sum and a LeakyReLU read
rounded values.  Everything else stays float32: the tone curve, the step's arithmetic.
Quantisation as in Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", CVPR 2018, section 2; signed weights per channel as ONNX Runtime, OpenVINO and TensorRT read them.
"""

from __future__ import annotations

from collections.abc import Collection
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .int8_layers import MOVES, Layer
from .nodes import copied

if TYPE_CHECKING:
    import onnx

Floats = NDArray[np.float32]
Ranges = dict[str, tuple[float, float]]  # value -> smallest and largest seen
LEVELS = 255  # steps between the smallest and the largest activation
SMALLEST = 1e-8  # a scale is at least this: a channel may be all zeros
INT8, INT32, UINT8 = np.int8, np.int32, np.uint8
FULL = 16  # output channels that integer kernels make at once: fewer take a way three times as slow, so zeros are added
CARRIES = (*MOVES, "Add", "Concat", "Conv", "LeakyRelu")  # read values rounded where these are rounded


def quantise(
    model: onnx.ModelProto, ranges: Ranges, chosen: Collection[Layer], numbers: str = "int8"
) -> onnx.ModelProto:
    """A copy of a float32 graph with Q/DQ around the convolutions of `chosen`, all of `int8_layers.layers`.

    numbers: "int8", as above, for CPUs; "int8-gpu" or "fp8", as in `quantise_gpu`.
    """
    from .quantise_gpu import GpuQuantiser  # builds on this module

    copy = copied(model)
    quantiser = Quantiser(copy.graph, ranges) if numbers == "int8" else GpuQuantiser(copy.graph, ranges, numbers)
    quantiser.run(list(chosen))
    return copy


class Quantiser:
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
        ours = {layer.name: layer for layer in chosen}
        for layer in chosen:
            for value in (layer.inputs[0], layer.output):
                self._round(value)
        for node in self._graph.node:
            if node.op_type == "Conv" and (node.name or node.output[0]) in ours:
                layer = ours[node.name or node.output[0]]
                node.input[0] = self._rounded[node.input[0]]
                self._weights(node, layer)
                if layer.channels[1] < FULL:
                    self._cut(layer)
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
            if node.op_type == "LeakyRelu":
                self._round(node.input[0])
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
            node_of("QuantizeLinear", [value, *names], f"{value}_uint8"),
            node_of("DequantizeLinear", [f"{value}_uint8", *names], self._rounded[value]),
        ]

    def _weights(self, node: Any, layer: Layer) -> None:
        """Integer weights, and a bias in units of scale of input times scale of weight; FULL channels at least."""
        weight = _at_least(self._array(node.input[1]), FULL)
        scales = channel_scales(weight)
        shape = (-1, *[1] * (weight.ndim - 1))
        whole = np.clip(np.round(weight / scales.reshape(shape)), -127, 127).astype(INT8)
        node.input[1] = self._stored(node.input[1], whole, scales)
        given = len(node.input) > 2 and bool(node.input[2])
        bias = self._array(node.input[2]) if given else np.zeros(layer.channels[1], np.float32)
        source = node.input[0].removesuffix("_rounded")
        units = scales.astype(np.float64) * scale_of(*self._used[source])[0]
        if layer.shift:
            made = self._moving_bias(layer, bias, units.astype(np.float32))
        elif given:
            limit = 2.0**31 - 1
            whole = np.clip(np.round(_at_least(bias, FULL).astype(np.float64) / units), -limit, limit).astype(INT32)
            made = self._stored(node.input[2], whole, units.astype(np.float32))
        else:
            return
        inputs = [*node.input[:2], made]
        del node.input[:]
        node.input.extend(inputs)

    def _moving_bias(self, layer: Layer, bias: Floats, units: Floats) -> str:
        """The bias with the layer's shift in it, in whole numbers made by the graph; the sum behind the layer goes."""
        total = next(node for node in self._graph.node if node.op_type == "Add" and layer.shift in node.input)
        conv = next(name for name in total.input if name != layer.shift)
        self._graph.node.remove(total)
        for node in self._graph.node:
            for i, name in enumerate(node.output):
                if name == conv:
                    node.output[i] = total.output[0]
        start = f"{total.output[0]}_bias"
        places = [self._add(f"{name}_{start}", np.array(v)) for name, v in (("first", 0), ("row", [-1]))]
        row = self._then(
            "Gather", [layer.shift, places[0]], f"{start}_first", layer.shift
        )  # every picture's is the same
        flat = self._then("Reshape", [row, places[1]], f"{start}_row", layer.shift)
        moved = self._then("Add", [flat, self._add(f"{start}_still", bias)], f"{start}_sum", layer.shift)
        if len(units) > len(bias):
            ends = self._add(f"{start}_ends", np.array([0, len(units) - len(bias)]))
            moved = self._then("Pad", [moved, ends], f"{start}_full", layer.shift)
        scaled = self._then("Div", [moved, self._add(f"{start}_scales", units)], f"{start}_units", layer.shift)
        whole = self._then("Round", [scaled], f"{start}_round", layer.shift)
        typed = self._then("Cast", [whole], f"{start}_int32", layer.shift, to=6)
        names = [typed, f"{start}_scales", self._add(f"{start}_zeros", np.zeros(len(units), INT32))]
        return self._then("DequantizeLinear", names, f"{start}_dequantised", layer.shift, axis=0)

    def _cut(self, layer: Layer) -> None:
        """The layer's own channels of those that were added to make FULL."""
        wide, value = f"{layer.output}_wide", layer.output
        for node in self._graph.node:
            for i, name in enumerate(node.output):
                if name == value:
                    node.output[i] = wide
        pair = self._after.pop(value)
        pair[0].input[0] = wide
        pair[1].name = pair[1].output[0] = f"{wide}_rounded"
        ends = [
            self._add(f"{wide}_{name}", np.array([v]))
            for name, v in (("from", 0), ("to", layer.channels[1]), ("axis", 1))
        ]
        self._after[wide] = [*pair, node_of("Slice", [f"{wide}_rounded", *ends], self._rounded[value])]

    def _then(self, operator: str, inputs: list[str], output: str, after: str, **attributes: Any) -> str:
        """A node behind the one that makes `after`."""
        self._after.setdefault(after, []).append(node_of(operator, inputs, output, **attributes))
        return output

    def _array(self, name: str) -> Floats:
        from onnx import numpy_helper

        return np.asarray(numpy_helper.to_array(self._constants[name]), np.float32)

    def _stored(self, name: str, whole: NDArray[Any], scales: NDArray[np.float32]) -> str:
        """A constant in whole numbers with a DQ behind it."""
        made = f"{name}_dequantised"
        names = [
            self._add(f"{name}_{whole.dtype.name}", whole),
            self._add(f"{name}_scales", scales),
            self._add(f"{name}_zeros", np.zeros(len(scales), whole.dtype)),
        ]
        self._before.append(node_of("DequantizeLinear", names, made, axis=0))
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
        nodes, read = _live(_ordered(nodes), {output.name for output in self._graph.output})
        kept = [tensor for tensor in self._constants.values() if tensor.name in read]
        copies = [copied(node) for node in nodes]
        del self._graph.node[:]
        self._graph.node.extend(copies)
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)
        del self._graph.value_info[:]  # readers infer them

    def _add(self, name: str, values: Any) -> str:
        from onnx import numpy_helper

        self._constants[name] = numpy_helper.from_array(np.asarray(values), name)
        return name


def _ordered(nodes: list[Any]) -> list[Any]:
    """The same nodes, each behind those that make what it reads."""
    makers = {name: i for i, node in enumerate(nodes) for name in node.output}
    sorter = TopologicalSorter(
        {i: {makers[name] for name in node.input if name in makers} for i, node in enumerate(nodes)}
    )
    return [nodes[i] for i in sorter.static_order()]


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


def _at_least(values: Floats, count: int) -> Floats:
    """(K, ...) with zeros behind, where K is less than `count`."""
    return np.pad(values, [(0, max(0, count - len(values))), *[(0, 0)] * (values.ndim - 1)])


def channel_scales(weight: NDArray[np.float32], most: float = 127.0) -> NDArray[np.float32]:
    """(K,): what one number of each output channel is worth; `most` is the largest of them."""
    largest = np.abs(weight).reshape(len(weight), -1).max(axis=1)
    return np.maximum(largest / most, SMALLEST).astype(np.float32)


def node_of(operator: str, inputs: list[str], output: str, **attributes: Any) -> Any:
    from onnx import helper

    return helper.make_node(operator, inputs, [output], name=output, **attributes)
