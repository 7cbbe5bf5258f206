"""Which convolutions of a graph can work in eight bits, what is rounded for them, and whose ranges must be known."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx

THIN = 16  # channels in and out below which whole numbers are no faster: the image's three
MOVES = ("Reshape", "Transpose", "Resize")  # put values elsewhere (Resize: nearest, as every one here)


@dataclass(frozen=True)
class Layer:
    """A convolution that can be quantised."""

    name: str  # of its node
    inputs: tuple[str, str, str]  # x, weight, bias ("": none)
    output: str  # the value to be rounded: its own, that of the sum with `shift`, or that of the ReLU behind it
    operations: float  # multiplications for each place of its output
    channels: tuple[int, int]  # in, out
    shift: str = ""  # a value (1, out, 1, 1) that is added behind it

    @property
    def thin(self) -> bool:
        """Whether it has too few channels to gain; what a kernel beyond 3x3 sees counts as channels."""
        seen = self.operations / self.channels[1] / 9
        return 2 * self.channels[1] < THIN or max(seen, self.channels[0]) < THIN


def layers(graph: onnx.GraphProto, shifts: bool = True) -> list[Layer]:
    """The convolutions of a graph whose weights are constants, in order; but for those that make an output of it.

    shifts: whether what is added to their channels joins their bias.  It pays where runtimes know the timestep: integer
    kernels with a bias that is no constant are three times as slow.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    shown = {output.name for output in graph.output}
    readers = Counter(name for node in graph.node for name in node.input)
    readers.update(output.name for output in graph.output)
    behind = {
        name: node for node in graph.node for name in node.input if readers[name] == 1
    }  # value -> its only reader
    makers = {name: node for node in graph.node for name in node.output}
    found = []
    for node in graph.node:
        if node.op_type != "Conv" or node.input[1] not in constants or node.output[0] in shown:
            continue
        output = node.output[0]
        shift = _shift(behind.get(output), output, makers) if shifts else ""
        if shift:
            output = behind[output].output[0]
        if output in behind and behind[output].op_type == "Relu":
            output = behind[output].output[0]
        x, weight, bias = [*node.input, ""][:3]
        dims = tuple(constants[weight].dims)
        name = node.name or node.output[0]
        found.append(Layer(name, (x, weight, bias), output, float(np.prod(dims)), (dims[1], dims[0]), shift))
    return found


def _shift(reader: Any, value: str, makers: dict[str, Any]) -> str:
    """What `reader` adds to each channel of `value`, a row of numbers made (1, C, 1, 1); "" where it does not."""
    if reader is None or reader.op_type != "Add":
        return ""
    other = next((name for name in reader.input if name != value), value)
    made = makers.get(other)
    row = makers.get(made.input[0]) if made is not None and made.op_type == "Unsqueeze" else None
    return other if row is not None and row.op_type == "Gemm" else ""


def values_to_watch(graph: onnx.GraphProto) -> list[str]:
    """The values whose ranges `quantise` needs."""
    constants = {tensor.name for tensor in graph.initializer}
    either = layers(graph) + layers(graph, shifts=False)
    found = {name for layer in either for name in (layer.inputs[0], layer.output)}
    for node in reversed(graph.node):
        if node.op_type == "Concat" and node.output[0] in found:
            found |= {name for name in node.input if name not in constants}
        if node.op_type in (*MOVES, "LeakyRelu") and node.output[0] in found:
            found.add(node.input[0])
    return sorted(found)
