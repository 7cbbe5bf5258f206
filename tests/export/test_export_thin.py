"""Graphs that read their weights from the checkpoint beside them, and the shipped model that has them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import pytest
import torch
from safetensors.torch import load_file, save_file

from lldiffusion.bundle import Bundle
from lldiffusion.bundle.find import find_model
from lldiffusion.engines import DEFAULT_MODEL, Enhancer
from lldiffusion.errors import LLDiffusionError
from lldiffusion.export.thin import COMPUTED, add_graphs
from lldiffusion.hashing import sha256_of
from lldiffusion.model import LLDiffusion, save_checkpoint
from support.exported import micro_graphs, micro_model


def half_graphs(model: LLDiffusion, folder: Path) -> dict[str, Path]:
    """The graphs that other tests have traced already, with weights as float16 has them."""
    made = {}
    for path in sorted(micro_graphs().glob("*.onnx")):
        graph = onnx.load(path)
        for tensor in graph.graph.initializer:
            if tensor.name.endswith((".weight", ".bias")):
                values = onnx.numpy_helper.to_array(tensor)
                tensor.raw_data = values.astype(np.float16).astype(np.float32).tobytes()
        made[path.stem] = folder / path.name
        onnx.save(graph, made[path.stem])
    return made


@pytest.fixture(scope="module")
def thin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint in float16 with thin graphs."""
    folder, model = tmp_path_factory.mktemp("thin") / "model", micro_model()
    save_checkpoint(folder, model.config, {name: value.half() for name, value in model.state_dict().items()})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lldiffusion.export.thin.write_graphs", half_graphs)
        add_graphs(folder)
    return folder


def test_graphs_answer_like_the_model_and_hold_no_weights(thin: Path) -> None:
    dark = np.random.default_rng(0).random((70, 90, 3), dtype=np.float32) * 0.1
    graphs, eager = (Enhancer.open(thin, backend=backend) for backend in ("onnxruntime", "torch"))
    assert (graphs.info()["backend"], eager.info()["backend"]) == ("onnxruntime", "torch")
    np.testing.assert_allclose(graphs(dark), eager(dark), atol=2e-5)
    for graph, path in Bundle.open(thin).graphs("fp32").items():
        inside = onnx.load(path, load_external_data=False).graph
        kept = [t for t in inside.initializer if t.data_location != t.EXTERNAL and len(t.raw_data) > 256]
        assert all(len(t.raw_data) <= COMPUTED and not t.name.endswith((".weight", ".bias")) for t in kept), graph
        assert graph == "level" or not kept  # the places of a thumbnail's pixels in the grid


def test_graphs_keep_no_path_of_the_machine_that_made_them(thin: Path) -> None:
    here = str(Path(torch.__file__).parent).encode()
    for path in thin.glob("*.onnx"):
        assert here not in path.read_bytes() and b"site-packages" not in path.read_bytes()


@pytest.fixture
def other(thin: Path, tmp_path: Path) -> Path:
    """The same folder with other weights, in float32."""
    folder = tmp_path / "other"
    shutil.copytree(thin, folder)
    weights = load_file(str(folder / "model.safetensors"))
    save_file({name: value.float() * 1.5 for name, value in weights.items()}, folder / "model.safetensors")
    return folder


def test_weights_of_another_model_are_refused(other: Path) -> None:
    with pytest.raises(LLDiffusionError, match=r"model\.safetensors"):
        Bundle.open(other)


@pytest.mark.slow
def test_graphs_made_again_fit_the_other_weights(other: Path, thin: Path) -> None:
    """These are traced here."""
    add_graphs(other)
    assert Bundle.open(other).manifest.weights_sha256 != Bundle.open(thin).manifest.weights_sha256


def test_the_shipped_model_is_a_bundle_of_its_own_weights() -> None:
    bundle = Bundle.open(find_model(DEFAULT_MODEL))  # checks every file
    assert bundle.manifest.weights_sha256 == sha256_of(bundle.folder / "model.safetensors")
    dark = np.random.default_rng(1).random((64, 96, 3), dtype=np.float32) * 0.1
    graphs, eager = (Enhancer.open(DEFAULT_MODEL, backend=each, precision="fp32") for each in ("auto", "torch"))
    assert graphs.info()["backend"] == "onnxruntime"
    np.testing.assert_allclose(graphs(dark), eager(dark), atol=1e-4)
