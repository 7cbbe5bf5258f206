"""Narrow convolutions at a fine grid written as wide ones at a coarse grid: the same sums, in fewer steps.

    packed(x)[c p^2 + i p + j, y, x'] = x[c, p y + i, p x' + j]                 p x p pixels gathered into channels
    w'[o p^2 + a p + b, c p^2 + i p + j, u, v] = w[o, c, p u + i - a, p v + j - b], 0 outside the kernel

Integer kernels work on 16 output channels at a time, so a convolution of 3 or 12 takes as long as one of 16 or more.
Two places of the models gain: what follows the last pixel shuffle, and the encoder's 7x7 convolution of 16 channels.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .nodes import copied, ints_of, set_ints

if TYPE_CHECKING:
    import onnx

PACKED = "packed"  # ends the names of what is made here
WIDE = 5  # side of a kernel from which on one of few channels gains
FEW = 16  # channels up to which it does
ACTIVATIONS = ("Relu", "LeakyRelu")
POINTWISE = (*ACTIVATIONS, "Sigmoid", "Mul", "Add", "Sub")
Weights = NDArray[np.float32]


def pack(model: onnx.ModelProto) -> None:
    """Change a float32 graph in place; what does not gain stays as it is."""
    graph = _Graph(model.graph)
    for node in list(model.graph.node):
        if node.op_type == "DepthToSpace" and ints_of(node).get("blocksize") and _mode(node) == b"CRD":
            _pack_behind(graph, node)
        elif node.op_type == "Conv":
            _pack_wide(graph, node)
    graph.write()


# -- weights


def packed_weights(weight: Weights, patch: int, stride: int) -> tuple[Weights, int]:
    """(w', its padding at the start) of an odd kernel w (O, C, k, k) with padding k // 2.

    stride 1: both sides packed, (O p^2, C p^2, m, m).  stride p: of unpacked pixels, (O p^2, C, k + p - 1, k + p - 1).
    """
    out, channels, side, _ = weight.shape
    if stride == patch:
        wide = np.zeros((out, patch, patch, channels, side + patch - 1, side + patch - 1), np.float32)
        for a in range(patch):
            for b in range(patch):
                wide[:, a, b, :, a : a + side, b : b + side] = weight
        return wide.reshape(out * patch**2, *wide.shape[3:]), side // 2
    return _between(weight, patch, (patch, patch), side // 2)


def _between(weight: Weights, patch: int, made: tuple[int, int], pad: int) -> tuple[Weights, int]:
    """From packed pixels to `made` outputs of each place, whose first sees pixel -pad."""
    out, channels, side, _ = weight.shape
    before = -(-pad // patch)  # packed places left of the first
    reach = (made[0] - 1 - pad + side - 1) // patch + before + 1
    wide = np.zeros((out, *made, channels, patch, patch, reach, reach), np.float32)
    for a in range(made[0]):
        for b in range(made[1]):
            for u in range(side):
                for v in range(side):
                    row, column = a + u - pad, b + v - pad
                    at = (row % patch, column % patch, row // patch + before, column // patch + before)
                    wide[:, a, b, :, at[0], at[1], at[2], at[3]] = weight[:, :, u, v]
    return wide.reshape(out * made[0] * made[1], channels * patch**2, reach, reach), before


# -- the encoder's wide kernel


def _pack_wide(graph: _Graph, first: Any) -> None:
    """conv of few channels and a wide kernel - activation - conv of stride 2: the two share a packed value."""
    middle = graph.only_reader(first.output[0])
    second = graph.only_reader(middle.output[0]) if middle is not None and middle.op_type in ACTIVATIONS else None
    if second is None or second.op_type != "Conv" or not (graph.constant(first, 1) and graph.constant(second, 1)):
        return
    one, two = ints_of(first), ints_of(second)
    weight, after = graph.array(first.input[1]), graph.array(second.input[1])
    plain = one["strides"] == [1, 1] and two["strides"] == [2, 2] and two["pads"] == [1] * 4 and not any(one["pads"])
    if not (plain and weight.shape[0] <= FEW and weight.shape[2] >= WIDE and after.shape[2] == 3):
        return
    wide, _ = packed_weights(weight, 2, 2)
    graph.set_conv(first, wide, 4, strides=[2, 2], pads=[0] * 4)
    narrow, before = _between(after, 2, (1, 1), 1)
    graph.set_conv(second, narrow, 1, strides=[1, 1], pads=[before, before, 0, 0])


# -- what follows a pixel shuffle


def _pack_behind(graph: _Graph, shuffle: Any) -> None:
    """Move a pixel shuffle behind the convolutions that work on its result."""
    patch = int(ints_of(shuffle)["blocksize"][0])
    region = _region(graph, shuffle)
    if not any(node.op_type == "Conv" for node in region):
        return
    packed = {shuffle.output[0]: shuffle.input[0]}
    for node in region:
        for name in node.input:
            if name not in packed and name not in graph.constants:
                packed[name] = graph.gather(name, patch, node)
        if node.op_type == "Conv":
            wide, before = packed_weights(graph.array(node.input[1]), patch, 1)
            graph.set_conv(node, wide, patch**2, pads=[before] * 4)
        if node.op_type == "Split":
            graph.scale_split(node, patch**2)
        for i, name in enumerate(node.input):
            node.input[i] = packed.get(name, name)
        for i, name in enumerate(node.output):
            packed[name] = node.output[i] = f"{name}_{PACKED}"
    graph.remove(shuffle)
    ours = {id(node) for node in region}
    for full, small in packed.items():
        readers = [node for node in graph.nodes if full in node.input and id(node) not in ours]
        if readers and small in {name for node in region for name in node.output}:
            graph.insert_before(readers[0], "DepthToSpace", [small], full, blocksize=patch, mode="CRD")


def _region(graph: _Graph, shuffle: Any) -> list[Any]:
    """The nodes from a pixel shuffle to the last convolution, and the sum behind that; in order."""
    inside, found = {shuffle.output[0]}, []
    for node in graph.nodes:
        if node is shuffle or not inside & set(node.input) or not _packable(graph, node, inside):
            continue
        found.append(node)
        inside |= set(node.output)
    last = max((i for i, node in enumerate(found) if node.op_type == "Conv"), default=-1)
    tail = found[last + 1 : last + 2]
    whole = {name for node in found[: last + 1] for name in node.output}
    ends = tail and tail[0].op_type == "Add" and set(tail[0].input) <= whole
    kept = found[: last + 1] + (tail if ends else [])
    outside = {name for node in graph.nodes if node not in kept for name in node.input} | graph.shown
    made = [name for node in kept for name in node.output if name in outside]
    return kept if len(made) == 1 else []  # one result to unpack, or it does not pay


def _packable(graph: _Graph, node: Any, inside: set[str]) -> bool:
    if node.op_type == "Conv":
        about = ints_of(node)
        if not graph.constant(node, 1) or about["strides"] != [1, 1] or about.get("group", [1]) != [1]:
            return False
        side = graph.array(node.input[1]).shape[2]
        return side % 2 == 1 and about["pads"] == [side // 2] * 4
    if node.op_type in ("Split", "Concat"):
        return ints_of(node).get("axis") == [1]
    constants = [graph.array(name) for name in node.input if name in graph.constants]
    return node.op_type in POINTWISE and all(value.size == 1 for value in constants)


@dataclass
class _Graph:
    """The nodes of a graph in order, and its constants."""

    graph: Any

    def __post_init__(self) -> None:
        self.nodes = list(self.graph.node)
        self.constants = {tensor.name: tensor for tensor in self.graph.initializer}
        self.shown = {port.name for port in self.graph.output}

    def constant(self, node: Any, place: int) -> bool:
        return len(node.input) > place and node.input[place] in self.constants

    def array(self, name: str) -> Any:
        from onnx import numpy_helper

        return numpy_helper.to_array(self.constants[name])

    def only_reader(self, value: str) -> Any:
        """The one node that reads a value, None where there is none, or more."""
        readers = [node for node in self.nodes if value in node.input]
        return readers[0] if len(readers) == 1 and value not in self.shown else None

    def add(self, name: str, values: NDArray[Any]) -> str:
        from onnx import numpy_helper

        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def set_conv(self, node: Any, weight: Weights, copies: int, **ints: list[int]) -> None:
        """New weights and attributes; the bias of an output channel goes to all its `copies`."""
        node.input[1] = self.add(f"{node.input[1]}_{PACKED}", weight)
        if len(node.input) > 2 and node.input[2] and copies > 1:
            node.input[2] = self.add(f"{node.input[2]}_{PACKED}", np.repeat(self.array(node.input[2]), copies))
        set_ints(node, kernel_shape=list(weight.shape[2:]), **ints)

    def scale_split(self, node: Any, factor: int) -> None:
        """Sizes of the parts, where they are given, of packed channels."""
        if self.constant(node, 1):
            node.input[1] = self.add(f"{node.input[1]}_{PACKED}_{factor}", self.array(node.input[1]) * factor)

    def gather(self, value: str, patch: int, reader: Any) -> str:
        """The packed copy of a value, made before `reader`."""
        blocks = self.insert_before(reader, "SpaceToDepth", [value], f"{value}_blocks", blocksize=patch)
        count = _channels(self.graph, value)
        order = np.arange(patch**2 * count).reshape(patch**2, count).T.ravel()  # block-major to channel-major
        names = [blocks, self.add(f"order_{patch}_{count}", order.astype(np.int64))]
        return self.insert_before(reader, "Gather", names, f"{value}_{PACKED}", axis=1)

    def insert_before(self, reader: Any, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        at = next(i for i, node in enumerate(self.nodes) if node is reader)
        self.nodes.insert(at, helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def remove(self, node: Any) -> None:
        self.nodes = [other for other in self.nodes if other is not node]

    def write(self) -> None:
        """Put nodes and constants back; what is known of values inside is forgotten, readers infer it."""
        read = Counter(name for node in self.nodes for name in node.input) + Counter(self.shown)
        nodes, constants = [copied(node) for node in self.nodes], [t for t in self.constants.values() if read[t.name]]
        for field, values in ((self.graph.node, nodes), (self.graph.initializer, constants)):
            del field[:]
            field.extend(values)
        del self.graph.value_info[:]


def _channels(graph: Any, value: str) -> int:
    """Of a value (N, C, H, W) that the tracer described."""
    for info in (*graph.value_info, *graph.input):
        if info.name == value:
            return int(info.type.tensor_type.shape.dim[1].dim_value)
    raise ValueError(f"nothing is known of '{value}'")


def _mode(node: Any) -> bytes:
    return next((bytes(a.s) for a in node.attribute if a.name == "mode"), b"DCR")
