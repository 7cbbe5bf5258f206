"""Pixels gathered into channels, and a convolution behind that: one convolution of a larger stride instead.

    conv_k(unshuffle_p(x)) = conv_(p k)(x), stride p, padding p pad
    w'[o, c, p u + i, p v + j] = w[o, c p^2 + i p + j, u, v]

The same sums.  A transposition of six axes is among the slowest things an integer graph does; the weights are as many.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .nodes import set_ints

if TYPE_CHECKING:
    import onnx

GATHERED = [0, 1, 3, 5, 2, 4]  # the axes of a pixel unshuffle between its two reshapes
SPREAD = [0, 1, 4, 2, 5, 3]  # (O, C, i, j, u, v) -> (O, C, u, i, v, j), of a kernel


def fold_unshuffle(model: onnx.ModelProto, patch: int) -> None:
    """Change in place each stride-1 convolution that alone reads a pixel unshuffle by `patch`; its name stays."""
    from onnx import numpy_helper

    makers = {name: node for node in model.graph.node for name in node.output}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "Conv" or node.input[1] not in constants:
            continue
        source = _unshuffled(makers, node.input[0])
        about = {attribute.name: attribute for attribute in node.attribute}
        if source is None or patch < 2 or any(value != 1 for value in about["strides"].ints):
            continue
        weight = numpy_helper.to_array(constants[node.input[1]])
        constants[node.input[1]].CopyFrom(numpy_helper.from_array(spread(weight, patch), node.input[1]))
        node.input[0] = source
        kernel = [patch * side for side in weight.shape[2:]]
        set_ints(node, kernel_shape=kernel, strides=[patch, patch], pads=[patch * pad for pad in about["pads"].ints])


def spread(weight: NDArray[np.float32], patch: int) -> NDArray[np.float32]:
    """(O, C p^2, k, k) -> (O, C, p k, p k)."""
    out, gathered, height, width = weight.shape
    apart = weight.reshape(out, gathered // patch**2, patch, patch, height, width)  # (O, C, i, j, u, v)
    kernel = apart.transpose(SPREAD)  # (O, C, u, i, v, j)
    return np.ascontiguousarray(kernel.reshape(out, -1, patch * height, patch * width))


def gathered(kernel: NDArray[np.float32], patch: int) -> NDArray[np.float32]:
    """What `spread` made `kernel` of."""
    out, channels, height, width = kernel.shape
    apart = kernel.reshape(out, channels, height // patch, patch, width // patch, patch)  # (O, C, u, i, v, j)
    weight = apart.transpose(0, 1, 3, 5, 2, 4)  # (O, C, i, j, u, v)
    return np.ascontiguousarray(weight.reshape(out, channels * patch**2, height // patch, width // patch))


def _unshuffled(makers: dict[str, Any], value: str) -> str | None:
    """What `value` is the pixel unshuffle of, or None: a transposition between reshapes."""
    passed = []
    while (node := makers.get(value)) is not None and node.op_type in ("Reshape", "Transpose"):
        passed.append(node)
        value = node.input[0]
    moves = [node for node in passed if node.op_type == "Transpose"]
    if len(moves) != 1 or passed[0] is moves[0] or passed[-1] is moves[0]:
        return None
    perm = next((list(a.ints) for a in moves[0].attribute if a.name == "perm"), [])
    return value if perm == GATHERED else None
