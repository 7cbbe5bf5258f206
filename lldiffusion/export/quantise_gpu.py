"""Eight bits as TensorRT reads them: no zero points, biases in float; whole numbers, or 8-bit floating point.

    int8-gpu   DQ(Q(x)) = s clip(round(x / s), -128, 127)     s = largest / 127
    fp8        DQ(Q(x)) = s e4m3(x / s)                       s = largest / 448 (Micikevicius et al., "FP8 Formats for
                                                              Deep Learning", arXiv 2209.05433)

Weights have a scale for each output channel, activations one a value.  What a layer adds to its channels stays a sum of
its own: TensorRT fuses it.  Nothing here has run on a GPU; TensorRT for RTX builds both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .int8_layers import Layer
from .quantise import SMALLEST, Quantiser, channel_scales, node_of

if TYPE_CHECKING:
    import onnx

    from .quantise import Ranges

LARGEST = {"int8-gpu": 127.0, "fp8": 448.0}  # number of each format


class GpuQuantiser(Quantiser):
    """Rewrites one graph into `numbers`, a key of LARGEST."""

    def __init__(self, graph: onnx.GraphProto, ranges: Ranges, numbers: str) -> None:
        super().__init__(graph, ranges)
        self._numbers = numbers

    def _round(self, value: str, ends: tuple[float, float] | None = None) -> None:
        if value in self._rounded:
            return
        low, high = self._used[value] = ends or self._ranges[value]
        scale = np.float32(max(-low, high, SMALLEST) / LARGEST[self._numbers])
        names = [self._add(f"{value}_scale", scale), self._whole(f"{value}_zero", np.zeros((), np.float32))]
        self._rounded[value] = f"{value}_rounded"
        self._after[value] = [
            node_of("QuantizeLinear", [value, *names], f"{value}_eight"),
            node_of("DequantizeLinear", [f"{value}_eight", *names], self._rounded[value]),
        ]

    def _weights(self, node: Any, layer: Layer) -> None:
        name = node.input[1]
        weight = self._array(name)
        scales = channel_scales(weight, LARGEST[self._numbers])
        numbers = self._whole(f"{name}_eight", weight / scales.reshape(-1, *[1] * (weight.ndim - 1)))
        zeros = self._whole(f"{name}_zeros", np.zeros(len(scales), np.float32))
        node.input[1] = f"{name}_dequantised"
        inputs = [numbers, self._add(f"{name}_scales", scales), zeros]
        self._before.append(node_of("DequantizeLinear", inputs, node.input[1], axis=0))

    def _cut(self, layer: Layer) -> None:
        """No channels were added."""

    def _whole(self, name: str, values: Any) -> str:
        """A constant of the format."""
        if self._numbers == "int8-gpu":
            return self._add(name, np.clip(np.round(values), -127, 127).astype(np.int8))
        import ml_dtypes  # onnx brings it
        from onnx import TensorProto, helper

        small = np.asarray(values).astype(ml_dtypes.float8_e4m3fn)
        self._constants[name] = helper.make_tensor(
            name, TensorProto.FLOAT8E4M3FN, small.shape, small.tobytes(), raw=True
        )
        return name
