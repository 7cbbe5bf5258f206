"""A pixel unshuffle folded into the convolution behind it: the same answers, without the transposition."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F

from lldiffusion.export.unshuffle import fold_unshuffle, spread
from support.exported import inputs, micro_graphs, session


@pytest.mark.parametrize("patch", [2, 4])
def test_the_weights_are_spread_as_pytorch_gathers(patch: int) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(2, 3, 8 * patch, 6 * patch), torch.randn(5, 3 * patch**2, 3, 3)
    wanted = F.conv2d(F.pixel_unshuffle(x, patch), weight, padding=1)
    given = F.conv2d(x, torch.from_numpy(spread(weight.numpy(), patch)), stride=patch, padding=patch)
    torch.testing.assert_close(given, wanted, rtol=1e-4, atol=1e-4)


def test_a_traced_graph_answers_the_same_without_it() -> None:
    model = onnx.load(micro_graphs() / "denoiser.onnx")
    names = {node.name for node in model.graph.node if node.op_type == "Conv"}
    fold_unshuffle(model, 2)
    onnx.checker.check_model(model)
    kernels = {
        node.name: tuple(a.ints) for node in model.graph.node for a in node.attribute if a.name == "kernel_shape"
    }
    assert set(kernels) == names and (6, 6) in kernels.values()
    folded = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    given = inputs("pixel", 1, 64, 96, 500.0)
    wanted = session(micro_graphs() / "denoiser.onnx").run(None, given)
    for ours, theirs in zip(folded.run(None, given), wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
