"""What rounding does to the mean of a layer is taken from its bias; nothing else moves."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from lldiffusion.export.bias_correction import corrected
from lldiffusion.export.calibrate import ranges_of
from lldiffusion.export.int8_layers import layers
from lldiffusion.export.quantise import quantise

Floats = NDArray[np.float32]
# A LeakyReLU whose small values below zero are rounded to zero, a layer without a bias, a last convolution.
TEXT = """<ir_version: 9, opset_import: ["" : 20]>
net (float[n,16,h,w] x) => (float[n,16,h,w] y) {
  a = Conv <pads=[1,1,1,1]> (x, w1, b1)
  r = LeakyRelu <alpha=0.1> (a)
  b = Conv <pads=[1,1,1,1]> (r, w2)
  s = LeakyRelu <alpha=0.1> (b)
  c = Conv <pads=[1,1,1,1]> (s, w3, b3)
  y = Tanh(c)
}"""


@pytest.fixture(scope="module")
def net() -> onnx.ModelProto:
    model, rng = onnx.parser.parse_model(TEXT), np.random.default_rng(0)
    constants = {name: (0.1 * rng.standard_normal((16, 16, 3, 3))).astype(np.float32) for name in ("w1", "w2", "w3")}
    constants["w1"][0] *= 60  # one channel that is large: the others have few steps
    constants |= {name: rng.uniform(-0.3, 0, 16).astype(np.float32) for name in ("b1", "b3")}
    model.graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in constants.items())
    return model


def feeds(seed: int) -> list[dict[str, Floats]]:
    rng = np.random.default_rng(seed)
    return [{"x": rng.standard_normal((1, 16, 24, 32)).astype(np.float32)} for _ in range(4)]


def means(model: onnx.ModelProto, value: str, given: list[dict[str, Floats]]) -> Floats:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.append(onnx.helper.make_tensor_value_info(value, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(copy.SerializeToString(), providers=["CPUExecutionProvider"])
    rows: Floats = np.mean([session.run([value], one)[0].mean(axis=(0, 2, 3)) for one in given], axis=0)
    return rows


def test_means_stay_on_pictures_it_has_not_seen(net: onnx.ModelProto) -> None:
    found, ranges = layers(net.graph), ranges_of(net, feeds(1))
    plain = quantise(net, ranges, found)
    mended = quantise(corrected(net, ranges, found, feeds(1)), ranges, found)
    others = feeds(2)
    wanted = means(net, "c", others)
    before, after = (np.abs(means(model, "c", others) - wanted).mean() for model in (plain, mended))
    assert before > 1e-3 and after < before / 4


def test_nothing_but_biases_is_moved(net: onnx.ModelProto) -> None:
    found = layers(net.graph)
    made = corrected(net, ranges_of(net, feeds(1)), found, feeds(1))
    old, new = ({t.name: numpy_helper.to_array(t) for t in model.graph.initializer} for model in (net, made))
    assert [name for name in old if not np.array_equal(old[name], new[name])] == ["b1", "b3"]
    assert made.graph.node == net.graph.node


def test_a_layer_that_is_not_rounded_keeps_its_bias(net: onnx.ModelProto) -> None:
    first = layers(net.graph)[:1]
    made = corrected(net, ranges_of(net, feeds(1)), first, feeds(1))
    last = [numpy_helper.to_array(t) for model in (net, made) for t in model.graph.initializer if t.name == "b3"]
    assert np.array_equal(*last)
