"""Biases that undo what rounding does to a layer's mean.

Rounding moves the mean of what a layer answers, in every picture the same way: small values below zero, behind a
LeakyReLU, become zeros.  Layer by layer, each behind those that are corrected already, the mean difference of every
channel is taken from its bias (Nagel et al., "Data-free quantization through weight equalization and bias correction",
ICCV 2019, section 4.2, from pictures).  It costs no time when the graph runs.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from lldiffusion.engines.backends.base import Floats

from .calibrate import Feeds
from .int8_layers import Layer
from .nodes import copied
from .quantise import Ranges, quantise
from .session import cpu_session

if TYPE_CHECKING:
    import onnx


def corrected(model: onnx.ModelProto, ranges: Ranges, chosen: Collection[Layer], feeds: list[Feeds]) -> onnx.ModelProto:
    """A copy of a float32 graph for `quantise` to round the layers of `chosen` in, with other biases.

    Layers without a bias, and those whose sum is not a value of the rounded graph, stay as they are.
    """
    copy = copied(model)
    sums = {_sum_of(layer, model.graph): layer.inputs[2] for layer in chosen if layer.inputs[2]}
    wanted = _means(model, list(sums), feeds)
    for value, bias in sums.items():
        rounded = quantise(copy, ranges, chosen)
        if value in {name for node in rounded.graph.node for name in node.output}:
            _move(copy, bias, np.subtract(wanted[value], _means(rounded, [value], feeds)[value]))
    return copy


def _sum_of(layer: Layer, graph: onnx.GraphProto) -> str:
    """The value that the bias of `layer` is a part of, before any activation."""
    value = next(node.output[0] for node in graph.node if layer.name in (node.name, node.output[0]))
    if not layer.shift:
        return str(value)
    return str(next(node.output[0] for node in graph.node if {value, layer.shift} <= set(node.input)))


def _means(model: onnx.ModelProto, values: list[str], feeds: list[Feeds]) -> dict[str, Floats]:
    """The mean of each channel of (N, C, H, W) values over all feeds: (C,)."""
    from onnx import TensorProto, helper

    copy = copied(model)
    for value in values:
        copy.graph.output.append(helper.make_tensor_value_info(value, TensorProto.FLOAT, None))
    session = cpu_session(copy.SerializeToString(), "calibrating")
    means = [[value.mean(axis=(0, 2, 3)) for value in session.run(values, given)] for given in feeds]
    return {value: np.mean([row[i] for row in means], axis=0) for i, value in enumerate(values)}


def _move(model: onnx.ModelProto, bias: str, by: Floats) -> None:
    from onnx import numpy_helper

    for tensor in model.graph.initializer:
        if tensor.name == bias:
            moved = numpy_helper.to_array(tensor) + by
            tensor.CopyFrom(numpy_helper.from_array(moved.astype(np.float32), bias))
