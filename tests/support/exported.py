"""A very small model of the same parts, and its graphs, for the tests of the export."""

from __future__ import annotations

import hashlib
import tempfile
from contextlib import suppress
from functools import lru_cache
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from lldiffusion.atomic import new_path
from lldiffusion.bundle import graphs_of
from lldiffusion.config import Config, config_from_dict
from lldiffusion.engines.level import thumbnail_of
from lldiffusion.errors import LLDiffusionError
from lldiffusion.export.graphs import write_graph
from lldiffusion.export.precision import half_tensor
from lldiffusion.lock import exclusive
from lldiffusion.model import LLDiffusion, fold_spectral_norm

UNET = {"channels": 16, "multipliers": [1, 2], "blocks": 1, "attention_down": [], "attention_up": []}

WAIT = 600.0  # seconds for what another process is making, at most


def micro_config(norm: str = "pixel") -> Config:
    """Two levels, attention in the middle; "pixel": the parts of `tiny`; "group": those of the authors' network."""
    ours = norm == "pixel"
    denoiser = UNET | {"norm": norm, "groups": 8, "patch": 2 if ours else 1, "middle_time": ours}
    denoiser |= {"gain": True, "refine": 4} if ours else {}
    encoder = {
        "channels": [8, 16] if ours else [8],  # the feature then has the size of decoder level 1
        "residual_blocks": 1,
        "head_channels": 16,
        "ladder": [16],
        "ladder_scales": [2],
        "norm": "none" if ours else "instance",
        "spectral_norm": not ours,
    }
    return config_from_dict(
        {
            "name": f"micro-{norm}",
            "model": {
                "tone": "log" if ours else "none",
                "level": "grid" if ours else "none",
                "encoder": encoder,
                "denoiser": denoiser,
            },
            "diffusion": {"prediction": "x0" if ours else "eps", "zero_terminal_snr": ours},
            "sampling": {"steps": 3, "spacing": "trailing" if ours else "leading", "clip": ours},
        }
    )


@lru_cache
def micro_model(norm: str = "pixel") -> LLDiffusion:
    torch.manual_seed(0)
    model = LLDiffusion(micro_config(norm), with_degrader=False)
    if model.denoiser.refine is not None:  # it starts as the identity, which would hide it
        torch.nn.init.normal_(model.denoiser.refine.mend.weight, std=0.05)
    return fold_spectral_norm(model.eval().requires_grad_(False))


@lru_cache(1)
def source_key() -> str:
    """A hash of everything that decides what a traced graph looks like."""
    root = Path(__file__).resolve().parents[2]
    parts = ("graphs", "simplify", "unshuffle")
    files = [Path(__file__), *(root / "lldiffusion" / "export" / f"{part}.py" for part in parts)]
    files.append(root / "lldiffusion" / "config.py")
    digest = hashlib.sha256(f"{torch.__version__} {metadata.version('onnxscript')}".encode())
    for path in [*files, *sorted((root / "lldiffusion" / "model").glob("*.py"))]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def micro_graphs(norm: str = "pixel") -> Path:
    """Folder with the float32 graphs of `micro_model`, not to be changed.

    Tracing takes longer than all tests that use them, so they are kept until a source they depend on changes, and
    processes that run side by side trace one graph each.
    """
    folder = Path(tempfile.gettempdir()) / f"lldiffusion-graphs-{source_key()}-{norm}"
    graphs = [folder / f"{graph}.onnx" for graph in reversed(graphs_of(micro_config(norm)))]
    for path in graphs:  # those that nobody else is at
        with suppress(LLDiffusionError):
            trace_once(path, norm, wait=0)
    for path in graphs:
        trace_once(path, norm, wait=WAIT)
    return folder


def trace_once(path: Path, norm: str, wait: float) -> None:
    """Write a graph that is not there; LLDiffusionError where another process is at it for longer than `wait` s."""
    if path.exists():
        return
    with exclusive(path, wait=wait):
        if not path.exists():
            with new_path(path) as temporary:
                write_graph(micro_model(norm), path.stem, temporary, metadata={"weights_sha256": "0" * 64})


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options)


def inputs(norm: str, count: int, height: int, width: int, t: float) -> dict[str, np.ndarray]:
    """Random inputs of the denoiser; the conditions are those of a dark image."""
    rng = np.random.default_rng([count, height, width])
    model, shape = micro_model(norm), (count, 3, height, width)
    low = rng.uniform(-1, -0.9, shape).astype(np.float32)
    features = model.encoder(torch.from_numpy(low))
    named = {f"feature_{i}": f.numpy() for i, f in enumerate(features)}
    named |= {name: rng.standard_normal(shape, dtype=np.float32) for name in ("x_t", "x0_previous")}
    named |= {"low": low, "color_map": model.color_map(torch.from_numpy(low)).numpy()}
    numbers = dict(zip(("k_x", "k_p", "a", "b", "c"), rng.uniform(0.2, 1, 5), strict=True)) | {"t": t}
    if model.level is not None:
        named["level"] = model.level(torch.from_numpy(thumbnail_of(low))).numpy()
        named["window"] = np.array([[0.1, 0.2, 0.7, 0.9]], np.float32).repeat(count, axis=0)
        numbers |= {"exposure": 0.7}
    return named | {name: np.array([value], np.float32) for name, value in numbers.items()}


def force_half(model: onnx.ModelProto, norm: onnx.NodeProto) -> None:
    """Undo the island around one norm: its input and weights become float16, its casts vanish."""
    made_by = {node.output[0]: node for node in model.graph.node}
    norm.input[0] = made_by[norm.input[0]].input[0]
    for i in (1, 2):
        tensor = next(t for t in model.graph.initializer if t.name == norm.input[i])
        model.graph.initializer.append(half_tensor(tensor, f"{tensor.name}_forced", "fp16"))
        norm.input[i] = f"{tensor.name}_forced"
