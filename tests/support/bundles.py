"""Small bundles for the tests: three one-node graphs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from lldiffusion.bundle import GRAPHS, MANIFEST, Bundle, Manifest
from lldiffusion.config import load_config
from lldiffusion.errors import LLDiffusionError
from lldiffusion.hashing import sha256_of

INPUTS: list[dict[str, Any]] = [{"name": "x", "shape": [4], "dtype": "float32", "range": [-1, 1]}]
OUTPUTS: list[dict[str, Any]] = [{"name": "y", "shape": [4], "dtype": "float32", "range": None}]


def manifest() -> Manifest:
    files = {graph: f"{graph}.onnx" for graph in GRAPHS}
    inputs, outputs = (dict.fromkeys(files.values(), ports) for ports in (INPUTS, OUTPUTS))
    return Manifest(
        name="tiny",
        weights_sha256="0" * 64,
        config=load_config("tiny", ["model.level=none"]).to_dict(),
        size_multiple=32,
        default_precision="fp32",
        graphs={"fp32": files},
        inputs=inputs,
        outputs=outputs,
    )


def graph_bytes(location: str | None = None) -> bytes:
    """A one-node ONNX file; its weight lies in `location` when that is given."""
    weight = numpy_helper.from_array(np.ones(4, np.float32), "weight")
    if location is not None:
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="location", value=location)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy")
    node = helper.make_node("Add", ["x", "weight"], ["y"])
    return bytes(helper.make_model(helper.make_graph([node], "g", [x], [y], [weight])).SerializeToString())


def write_bundle(path: Path, location: str | None = None, **extra: bytes) -> Path:
    with Bundle.write(path) as draft:
        for graph in GRAPHS:
            (draft.folder / f"{graph}.onnx").write_bytes(graph_bytes(location))
        for name, data in extra.items():
            (draft.folder / name).write_bytes(data)
        draft.manifest = manifest()
    return path


def refused(path: Path, *words: str) -> None:
    """Opening `path` raises one line that holds all `words`."""
    with pytest.raises(LLDiffusionError) as caught:
        Bundle.open(path)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def rehash(bundle: Path) -> None:
    """Make a damaged bundle consistent with itself."""
    table = json.loads((bundle / MANIFEST).read_text())
    for name in table["files"]:
        table["files"][name] = {"sha256": sha256_of(bundle / name), "bytes": (bundle / name).stat().st_size}
    (bundle / MANIFEST).write_text(json.dumps(table))
