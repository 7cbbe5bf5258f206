"""One graph for every timestep, coefficient, size and batch, equal to the eager model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from lldiffusion.errors import LLDiffusionError
from lldiffusion.export.graphs import ports, save, write_graphs
from support.exported import inputs, micro_graphs, micro_model, session

NORMS = ["pixel", pytest.param("group", marks=pytest.mark.slow)]
SIZES = ((1, 64, 96), (2, 96, 64), (1, 160, 128))


def eager_step(norm: str, given: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    model, v = micro_model(norm), {name: torch.from_numpy(value) for name, value in given.items()}
    features = tuple(v[name] for name in sorted(v) if name.startswith("feature_"))
    lit = (v.get("level"), v.get("window"), v.get("exposure", 0.0))
    prediction = model.denoiser(v["x_t"], v["low"], v["color_map"], v["t"], features, *lit)
    x0 = v["k_x"] * v["x_t"] + v["k_p"] * prediction
    x0 = x0.clamp(-1, 1) if model.config.sampling.clip else x0
    return (v["a"] * v["x_t"] + v["b"] * x0 + v["c"] * v["x0_previous"]).numpy(), x0.numpy()


def close(given: np.ndarray, wanted: np.ndarray) -> None:
    assert given.shape == wanted.shape
    assert np.abs(given - wanted).max() <= 1e-5 * max(1, np.abs(wanted).max())


@pytest.mark.parametrize("norm", NORMS)
def test_denoiser_is_one_graph_for_every_timestep_size_and_batch(norm: str) -> None:
    run = session(micro_graphs(norm) / "denoiser.onnx")
    for t, size in zip((999, 500, 40, 0), (*SIZES, SIZES[0]), strict=True):
        given = inputs(norm, *size, float(t))
        for answer, wanted in zip(run.run(["x_next", "x0"], given), eager_step(norm, given), strict=True):
            close(answer, wanted)


@pytest.mark.parametrize("norm", NORMS)
def test_encoder_and_color_map_equal_the_eager_ones(norm: str) -> None:
    encoder, color_map = (session(micro_graphs(norm) / f"{graph}.onnx") for graph in ("encoder", "color_map"))
    for size in SIZES:
        low = inputs(norm, *size, 0.0)["low"]
        for answer, wanted in zip(encoder.run(None, {"low": low}), micro_model(norm).encoder(torch.from_numpy(low))):
            close(answer, wanted.numpy())
        close(color_map.run(None, {"low": low})[0], micro_model(norm).color_map(torch.from_numpy(low)).numpy())


@pytest.mark.parametrize("count", [1, 3])
def test_the_level_equals_the_eager_one(count: int) -> None:
    thumbnail = np.random.default_rng(0).uniform(-1, -0.8, (count, 3, 64, 96)).astype(np.float32)
    head = micro_model().level
    assert head is not None
    level = session(micro_graphs() / "level.onnx").run(["level"], {"thumbnail": thumbnail})[0]
    assert level.shape == (count, 6, 8, 12)
    close(level, head(torch.from_numpy(thumbnail)).numpy())


def test_every_input_matters() -> None:
    run = session(micro_graphs() / "denoiser.onnx")
    given = inputs("pixel", 1, 64, 64, 700.0)
    before = run.run(None, given)[0]
    for name in given:
        after = run.run(None, given | {name: given[name] * np.float32(0.5)})[0]
        assert np.abs(after - before).max() > 1e-6, name


def test_names_sizes_and_metadata_are_the_contract() -> None:
    takes, gives = ports(micro_graphs() / "denoiser.onnx")
    names = [port["name"] for port in takes]
    numbers, lit = ["t", "k_x", "k_p", "a", "b", "c"], ["level", "window", "exposure"]
    assert names == ["x_t", "low", "color_map", "feature_0", *numbers, "x0_previous", *lit]
    assert [port["name"] for port in gives] == ["x_next", "x0"]
    assert takes[0]["shape"] == ["n", 3, "32*h", "32*w"] == gives[1]["shape"]
    assert takes[3]["shape"] == ["n", 16, "16*h", "16*w"] == ports(micro_graphs() / "encoder.onnx")[1][0]["shape"]
    assert [port["shape"] for port in takes[-3:]] == [["n", 6, 8, 12], ["n", 4], [1]]
    thumbnail, level = (side[0] for side in ports(micro_graphs() / "level.onnx"))
    assert (thumbnail["name"], thumbnail["shape"], thumbnail["range"]) == ("thumbnail", ["n", 3, 64, 96], [-1, 1])
    assert (level["name"], level["shape"]) == ("level", ["n", 6, 8, 12])
    assert takes[4] == {"name": "t", "shape": [1], "dtype": "float32", "range": [0, 999]}
    model = onnx.load(micro_graphs() / "denoiser.onnx")
    about = {entry.key: entry.value for entry in model.metadata_props}
    assert about["graph"] == "denoiser" and about["model"] == "micro-pixel" and about["weights_sha256"] == "0" * 64
    assert {opset.domain: opset.version for opset in model.opset_import}[""] == 21


def test_the_graph_is_clean() -> None:
    """Norms are one node each, nothing is left to fold, and no weight is kept twice."""
    graph = onnx.load(micro_graphs() / "denoiser.onnx").graph
    operators = [node.op_type for node in graph.node]
    norms = sum(isinstance(m, torch.nn.Module) and type(m).__name__ == "PixelNorm" for m in micro_model().modules())
    assert operators.count("LayerNormalization") == norms
    assert not {"Identity", "Dropout", "If", "Loop"} & set(operators)
    constant = {tensor.name for tensor in graph.initializer}
    foldable = [node.name for node in graph.node if node.input and set(node.input) <= constant]
    assert not foldable


def test_weights_too_large_for_one_file_lie_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lldiffusion.export.graphs.LARGEST_FILE", 1000)
    source = micro_graphs() / "color_map.onnx"
    save(onnx.load(micro_graphs() / "encoder.onnx"), tmp_path / "encoder.onnx")
    assert (tmp_path / "encoder.onnx.data").is_file()
    low = np.zeros((1, 3, 64, 64), np.float32)
    alone = session(micro_graphs() / "encoder.onnx").run(None, {"low": low})[0]
    np.testing.assert_array_equal(session(tmp_path / "encoder.onnx").run(None, {"low": low})[0], alone)
    save(onnx.load(source), tmp_path / "color_map.onnx")
    assert not (tmp_path / "color_map.onnx.data").exists()


def test_unknown_opset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LLDiffusionError, match="opset 23: 18 to 22"):
        write_graphs(micro_model(), tmp_path, opset=23)
