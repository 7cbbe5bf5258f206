"""A pixel unshuffle folded into the convolution behind it: the same answers, without the transposition."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import onnxruntime
import pytest
import torch
import torch.nn.functional as F

from lldiffusion.export.unshuffle import fold_unshuffle, gathered, spread
from support.exported import micro_graphs


@pytest.mark.parametrize("patch", [2, 4])
def test_the_weights_are_spread_as_pytorch_gathers(patch: int) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(2, 3, 8 * patch, 6 * patch), torch.randn(5, 3 * patch**2, 3, 3)
    wanted = F.conv2d(F.pixel_unshuffle(x, patch), weight, padding=1)
    given = F.conv2d(x, torch.from_numpy(spread(weight.numpy(), patch)), stride=patch, padding=patch)
    torch.testing.assert_close(given, wanted, rtol=1e-4, atol=1e-4)


TEXT = """<ir_version: 9, opset_import: ["" : 20]>
net (float[n,3,h,w] x) => (float[n,5,h2,w2] y)
<int64[6] apart = {0,3,4,2,3,2}, int64[4] packed = {0,12,4,3}> {
  a = Reshape (x, apart)
  b = Transpose <perm=[0,1,3,5,2,4]> (a)
  c = Reshape (b, packed)
  y = Conv <kernel_shape=[3,3], strides=[1,1], pads=[1,1,1,1]> (c, weight)
}"""


def test_a_graph_answers_the_same_without_it() -> None:
    rng = np.random.default_rng(0)
    model = onnx.parser.parse_model(TEXT)
    weight = rng.standard_normal((5, 12, 3, 3)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "weight"))
    x = rng.standard_normal((2, 3, 8, 6)).astype(np.float32)
    wanted = F.conv2d(F.pixel_unshuffle(torch.from_numpy(x), 2), torch.from_numpy(weight), padding=1)
    fold_unshuffle(model, 2)
    onnx.checker.check_model(model)
    folded = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(folded.run(None, {"x": x})[0], wanted.numpy(), atol=1e-4)
    assert np.array_equal(gathered(spread(weight, 2), 2), weight)


def test_traced_graphs_hold_what_runtimes_do_fast() -> None:
    """No transposition of pixels, no power, and a timestep of one row whatever the batch."""
    graph = onnx.load(micro_graphs() / "denoiser.onnx").graph
    longest = [len(a.ints) for node in graph.node if node.op_type == "Transpose" for a in node.attribute]
    assert max(longest) < 6
    assert not any(
        node.op_type == "Pow" and node.input[0] in {t.name for t in graph.initializer} for node in graph.node
    )
    assert not any(node.op_type == "Expand" and "t" in node.input for node in graph.node)
