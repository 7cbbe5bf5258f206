"""What a file or folder of ours is: bundle, engine, ONNX graph or checkpoint, as plain tables (no PyTorch)."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lldiffusion.bundle import Bundle
from lldiffusion.bundle.checkpoint_record import read_record
from lldiffusion.bundle.engine_cache import EngineFile, list_engines, sidecar
from lldiffusion.bundle.find import refuse_run
from lldiffusion.bundle.manifest import read_manifest
from lldiffusion.documents import read_json
from lldiffusion.errors import LLDiffusionError, require
from lldiffusion.hashing import sha256_of
from lldiffusion.tables import build

Table = dict[str, Any]
TOP_OPERATORS = 8  # shown for a graph, most frequent first


@dataclass(frozen=True)
class ParityRow:
    """What every row of `parity.json` must have to be shown."""

    precision: str
    how: str
    graph: str
    size: str
    psnr: float
    max_error: float


@dataclass(frozen=True)
class Parity:
    """What `parity.json` must have to be shown."""

    rows: list[ParityRow]
    thresholds: dict[str, Any]
    notes: list[str]
    islands: dict[str, list[dict[str, str]]]
    passed: bool


def describe(path: Path) -> Table:
    """Describe `path`; the key "kind" says what it is.

    Raises LLDiffusionError when it is missing, damaged or none of ours.
    """
    refuse_run(path)
    if (path.is_dir() and (path / "manifest.json").is_file()) or path.suffix == ".lldiff":
        return describe_bundle(Bundle.open(path))
    if path.is_dir() and (path / "config.json").is_file():
        return describe_checkpoint(path)
    if path.is_file() and path.suffix == ".onnx":
        return describe_onnx(path)
    if path.is_file() and path.suffix == ".engine":
        return describe_engine(path)
    kind = "does not exist" if not path.exists() else "is nothing lldiff knows"
    raise LLDiffusionError(
        f"'{path}' {kind}: give a bundle (folder or .lldiff), a checkpoint folder, an .onnx or an .engine"
    )


def describe_bundle(bundle: Bundle) -> Table:
    """A bundle, every hash checked."""
    manifest, config = bundle.manifest, bundle.config
    parity = bundle.folder / "parity.json"
    return {
        "kind": "bundle",
        "model": manifest.name,
        "written by": f"lldiffusion {manifest.lldiffusion}",
        "weights": manifest.weights_sha256,
        "size multiple": manifest.size_multiple,
        "prediction": config.diffusion.prediction,
        "sampler": f"{config.sampling.sampler}, {config.sampling.steps} steps",
        "precisions": list(bundle.precisions),
        "default precision": manifest.default_precision,
        "graphs": manifest.graphs,
        "inputs": manifest.inputs,
        "outputs": manifest.outputs,
        "engines": [_engine(engine) for engine in bundle.engines()],
        "tools": manifest.tools,
        "files": {name: asdict(file) for name, file in manifest.files.items()},
        "parity": _parity(parity) if parity.is_file() else None,
    }


def _parity(path: Path) -> Table:
    """What an export measured, as it stands in the file."""
    table = read_json(path)
    try:
        build(Parity, table, "", "its", ignore_unknown=True)
    except LLDiffusionError as error:
        raise LLDiffusionError(f"'{path}' is damaged: {error}; export the bundle again") from error
    return table


def describe_checkpoint(folder: Path) -> Table:
    """A checkpoint from its configuration and the headers of its weights."""
    record = read_record(folder / "config.json")
    about = {"kind": "checkpoint", "model": record.config.get("name"), "format": record.format}
    weights = {path.name: _weights(path) for path in sorted(folder.glob("*.safetensors"))}
    return about | {"weights": weights, "notes": record.notes, "sampling": record.config.get("sampling")}


def _weights(path: Path) -> Table:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            slices = [file.get_slice(name) for name in file.keys()]  # noqa: SIM118 (it is no dictionary)
    except SafetensorError as error:
        raise LLDiffusionError(f"'{path}' is damaged: {error}") from error
    sizes: Counter[str] = Counter()
    for tensor in slices:
        count = 1
        for side in tensor.get_shape():
            count *= side
        sizes[tensor.get_dtype()] += count
    return {"tensors": len(slices), "parameters": sum(sizes.values()), "types": dict(sizes)}


def describe_onnx(path: Path) -> Table:
    """An ONNX graph: ports, operators, types of its weights."""
    onnx = require("onnx", "export", "inspecting ONNX files")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's DecodeError, which has moved between versions
        raise LLDiffusionError(f"'{path}' is no readable ONNX file: {error}") from error
    operators = Counter(node.op_type for node in model.graph.node)
    sizes: Counter[str] = Counter()
    for tensor in model.graph.initializer:
        count = 1
        for side in tensor.dims:
            count *= side
        sizes[onnx.TensorProto.DataType.Name(tensor.data_type).lower()] += count
    return {
        "kind": "onnx",
        "graph": model.graph.name,
        "producer": f"{model.producer_name} {model.producer_version}".strip(),
        "opset": {entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        "inputs": [_port(onnx, port) for port in model.graph.input],
        "outputs": [_port(onnx, port) for port in model.graph.output],
        "nodes": len(model.graph.node),
        "operators": dict(operators.most_common(TOP_OPERATORS)),
        "weights": dict(sizes),
        "metadata": {entry.key: entry.value for entry in model.metadata_props},
        "sha256": sha256_of(path),
    }


def _port(onnx: Any, port: Any) -> Table:
    kind = port.type.tensor_type
    shape = [side.dim_param or side.dim_value for side in kind.shape.dim]
    return {"name": port.name, "shape": shape, "dtype": onnx.TensorProto.DataType.Name(kind.elem_type).lower()}


def describe_engine(path: Path) -> Table:
    """A TensorRT engine from its sidecar: TensorRT is not asked, since engines run code."""
    if not sidecar(path).is_file():
        raise LLDiffusionError(
            f"'{path}' has no '{sidecar(path).name}' beside it: rebuild it with  lldiff build BUNDLE"
        )
    bundle = path.resolve().parent.parent
    engines = list_engines(bundle, read_manifest(bundle))
    found = next((engine for engine in engines if engine.path.name == path.name), None)
    if found is None:
        raise LLDiffusionError(f"'{sidecar(path)}' is damaged: rebuild the engine with  lldiff build {bundle}")
    return {"kind": "engine"} | _engine(found)


def _engine(engine: EngineFile) -> Table:
    about: Table = {}
    if sidecar(engine.path).is_file():
        about = read_json(sidecar(engine.path)).get("about", {})
    size = engine.path.stat().st_size
    return {"file": engine.path.name, "trusted": engine.trusted, "bytes": size, **engine.key.to_dict(), "about": about}
