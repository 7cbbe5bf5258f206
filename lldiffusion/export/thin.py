"""Graphs without weights: what makes a checkpoint of the package run where there is no PyTorch.

A checkpoint folder becomes a bundle too: its graphs (`encoder.onnx` and so on) and a manifest beside its
`model.safetensors`, from which the graphs read their weights as ONNX external data (the tensors of a safetensors file
lie in it as they are), float16 cast to float32 when a graph is loaded.  So the weights are stored once.

    python -m lldiffusion.export.thin CHECKPOINT [--no-int8]

Eight-bit graphs (`encoder.int8.onnx`, `denoiser.int8.onnx`) hold their own whole numbers and read the rest there too.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lldiffusion.atomic import scratch
from lldiffusion.bundle import MANIFEST, Bundle, Draft, Manifest, finish, graphs_of
from lldiffusion.engines.backends.onnx_runtime import OnnxRuntimeEngine
from lldiffusion.errors import LLDiffusionError
from lldiffusion.hashing import sha256_of
from lldiffusion.model import fold_spectral_norm, load_model

from .exporter import tool_versions
from .graphs import annotate, ports, save, write_graphs
from .int8 import ROUNDED, to_int8
from .pack import PACKED
from .parity import Judge
from .unshuffle import SPREAD, gathered

if TYPE_CHECKING:
    import onnx

WEIGHTS = "model.safetensors"
SMALL = 256  # bytes: constants up to here stay in the graph
COMPUTED = 16 << 10  # bytes: and up to here those that are no weights (of the grid of a thumbnail)
FLOAT, FLOAT16 = 1, 10  # onnx.TensorProto.DataType


def add_graphs(checkpoint: Path, int8: bool = False) -> Manifest:
    """Write thin graphs and a manifest into a checkpoint folder, replacing those it has; `int8`: eight-bit ones too.

    Raises LLDiffusionError when a weight of a graph is not in the file as it is, or a graph answers otherwise than
    the model.
    """
    model = fold_spectral_norm(load_model(checkpoint))
    with scratch(checkpoint) as folder:
        paths = write_graphs(model, folder)
        if int8:
            made = to_int8(paths, model.config, model.config.parity.of("int8"))
            for graph, eight in made.models.items():
                paths[f"{graph}.int8"] = folder / f"{graph}.int8.onnx"
                save(annotate(eight, {}), paths[f"{graph}.int8"])
        for file, path in paths.items():
            thin = _thinned(path, checkpoint / WEIGHTS, model.config.model.denoiser.patch)
            (folder / f"{file}.thin").write_bytes(thin.SerializeToString())
        for old in checkpoint.glob("*.int8.onnx"):
            old.unlink()
        for file in paths:
            (folder / f"{file}.thin").replace(checkpoint / f"{file}.onnx")
    graphs = {"fp32": {graph: f"{graph}.onnx" for graph in graphs_of(model.config)}}
    if int8:
        graphs["int8"] = graphs["fp32"] | {graph: f"{graph}.int8.onnx" for graph in ROUNDED}
    described = {f"{file}.onnx": ports(checkpoint / f"{file}.onnx") for file in paths}
    manifest = Manifest(
        name=model.config.name,
        weights_sha256=sha256_of(checkpoint / WEIGHTS),
        config=model.config.to_dict(),
        size_multiple=model.config.model.size_multiple,
        default_precision="fp32",
        graphs=graphs,
        inputs={file: inputs for file, (inputs, _) in described.items()},
        outputs={file: outputs for file, (_, outputs) in described.items()},
        tools=tool_versions(),
    )
    (checkpoint / MANIFEST).unlink(missing_ok=True)
    finish(Draft(checkpoint, manifest))
    judge, bundle = Judge(model, [(64, 96), (192, 160)]), Bundle.open(checkpoint)
    for precision in graphs:
        rows = list(judge.rows(OnnxRuntimeEngine(bundle.graphs(precision), precision), precision))
        if failed := [row for row in rows if not row.passed]:
            raise LLDiffusionError(
                f"the {failed[0].graph} of '{checkpoint}' answers otherwise than the model: {failed[0]}"
            )
    return manifest


def _thinned(path: Path, weights: Path, patch: int) -> onnx.ModelProto:
    """A float32 graph whose weights are read from the safetensors file `weights`."""
    import onnx
    from onnx import numpy_helper

    model, stored = onnx.load(path), _stored(weights)
    made: list[Any] = []  # nodes that make a weight of what is stored
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.nbytes <= SMALL or values.dtype != np.float32 or tensor.name.endswith(PACKED):
            continue  # whole numbers, and kernels that were rewritten, are in no checkpoint
        name, shape, spread_by = tensor.name, list(values.shape), 0
        if values.tobytes() not in stored and values.ndim == 4 and values.shape[2] % patch == 0:
            values, spread_by = gathered(values, patch), patch
        if values.tobytes() not in stored:
            if values.nbytes <= COMPUTED and not _is_weight(name):
                continue
            raise LLDiffusionError(f"'{path.name}': '{name}' {tuple(shape)} is not in '{weights}' as it is")
        half, place = stored[values.tobytes()]
        tensor.Clear()
        tensor.name, tensor.data_type = f"{name}_stored", FLOAT16 if half else FLOAT
        tensor.dims.extend(values.shape)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in ({"location": weights.name} | place).items():
            tensor.external_data.add(key=key, value=value)
        made += _restored(name, half, list(values.shape), spread_by)
    nodes = [*made, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(_shapes(made))
    del model.graph.value_info[:]  # shapes and types are inferred again by whoever loads it
    return model


def _restored(name: str, half: bool, shape: list[int], patch: int) -> list[Any]:
    """Nodes that make `name` of `name`_stored: cast to float32, spread by `patch` as `unshuffle.spread` does."""
    from onnx import helper

    final = f"{name}_cast" if patch else name
    made = [helper.make_node("Cast", [f"{name}_stored"], [final], name=f"cast_{name}", to=FLOAT)]
    if not half:
        made = [helper.make_node("Identity", [f"{name}_stored"], [final], name=f"cast_{name}")]
    if patch:
        out, channels, height, width = shape
        apart = [out, channels // patch**2, patch, patch, height, width]
        whole = [out, channels // patch**2, patch * height, patch * width]
        names = [f"shape_{'_'.join(map(str, sides))}" for sides in (apart, whole)]
        made.append(helper.make_node("Reshape", [final, names[0]], [f"{name}_apart"], name=f"apart_{name}"))
        made.append(
            helper.make_node("Transpose", [f"{name}_apart"], [f"{name}_moved"], name=f"move_{name}", perm=SPREAD)
        )
        made.append(helper.make_node("Reshape", [f"{name}_moved", names[1]], [name], name=f"spread_{name}"))
    return made


def _shapes(nodes: list[Any]) -> list[Any]:
    """The constants that the Reshapes among `nodes` read; their names say them."""
    from onnx import numpy_helper

    names = {node.input[1] for node in nodes if node.op_type == "Reshape"}
    return [
        numpy_helper.from_array(np.array([int(side) for side in name.split("_")[1:]], np.int64), name)
        for name in sorted(names)
    ]


def _is_weight(name: str) -> bool:
    """Whether the tracer named an initializer after a parameter of the model."""
    return name.rpartition(".")[2] in ("weight", "bias")


def _stored(weights: Path) -> dict[bytes, tuple[bool, dict[str, str]]]:
    """float32 bytes of every tensor of a safetensors file -> (stored as float16, where it lies)."""
    with weights.open("rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(file.read(start - 8))
        data = file.read()
    found = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        first, last = entry["data_offsets"]
        half = entry["dtype"] == "F16"
        values = np.frombuffer(data[first:last], np.float16 if half else np.float32)
        place = {"offset": str(start + first), "length": str(last - first)}
        found[values.astype(np.float32).tobytes()] = half, place
    return found


if __name__ == "__main__":
    try:
        manifest = add_graphs(Path(sys.argv[1]), int8="--no-int8" not in sys.argv)
        print(f"{manifest.name}: graphs ({', '.join(manifest.graphs)}) and manifest written to {sys.argv[1]}")
    except (LLDiffusionError, IndexError) as error:
        sys.exit(f"error: {error}; usage: python -m lldiffusion.export.thin CHECKPOINT [--no-int8]")
