"""The models a benchmark runs: a checkpoint, a bundle, or a preset with random weights (time does not depend on them).

What is missing of the pair (checkpoint for eager, bundle for engines) is made once and kept in the user's cache.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lldiffusion
from lldiffusion.atomic import scratch
from lldiffusion.bundle import MANIFEST, Bundle
from lldiffusion.bundle.archive import SUFFIX, cache_folder
from lldiffusion.bundle.find import SHIPPED, find_model
from lldiffusion.config import PRESETS, Config, config_from_dict, load_config
from lldiffusion.errors import LLDiffusionError
from lldiffusion.hashing import sha256_of

SEED = 0  # of random weights


@dataclass(frozen=True)
class BenchModel:
    """One model in both forms."""

    name: str
    config: Config
    checkpoint: str  # folder or shipped name; "" when the weights are random
    preset: str  # name of the preset, or the configuration as JSON; "" when there is a checkpoint
    bundle: str  # "" when no peer needs one

    @property
    def trained(self) -> bool:
        """Whether its pictures mean anything."""
        return bool(self.checkpoint)


def find_bench_model(given: str) -> BenchModel:
    """The model called `given`; its bundle is still to be made when that is empty.

    Raises LLDiffusionError for what is no checkpoint, bundle, shipped model or preset.
    """
    path = Path(given)
    if path.is_dir() or given in SHIPPED:
        from lldiffusion.model.checkpoint import read_info

        folder = find_model(given)
        graphs = str(folder) if (folder / MANIFEST).is_file() else ""
        if not (folder / "config.json").is_file() and graphs:
            return _of_bundle(given)
        return BenchModel(folder.name, read_info(given).config, given, "", graphs)
    if path.suffix == SUFFIX:
        return _of_bundle(given)
    if given in PRESETS:
        return BenchModel(given, load_config(given), "", given, "")
    raise LLDiffusionError(
        f"model '{given}' does not exist: give a checkpoint folder, a bundle (folder or .lldiff), "
        f"a shipped model ({', '.join(SHIPPED)}) or a preset, measured with random weights ({', '.join(PRESETS)})"
    )


def _of_bundle(given: str) -> BenchModel:
    """A bundle; the eager peers get its weights only when they are those of a shipped model."""
    bundle = Bundle.open(given)
    for name in SHIPPED:
        if _weights(name) == bundle.manifest.weights_sha256:
            return BenchModel(bundle.manifest.name, bundle.config, name, "", given)
    return BenchModel(bundle.manifest.name, bundle.config, "", json.dumps(bundle.manifest.config), given)


def load(checkpoint: str, preset: str, device: str) -> Any:
    """The PyTorch model, with random weights when there is no checkpoint."""
    import torch

    from lldiffusion.model import LLDiffusion, load_model

    if checkpoint:
        return load_model(checkpoint, device)
    torch.manual_seed(SEED)
    config = config_from_dict(json.loads(preset)) if preset.startswith("{") else load_config(preset)
    return LLDiffusion(config, with_degrader=False).eval().requires_grad_(False).to(device)


def with_bundle(source: BenchModel, precision: str, progress: Callable[[str], None]) -> BenchModel:
    """The source with a bundle that holds `precision`, exported into the cache where there is none yet."""
    if source.bundle and (not source.checkpoint or precision in Bundle.open(source.bundle).precisions):
        return source
    target = cache_folder() / "bench" / f"{source.name}-{precision}-{_key(source)}"
    if not (target / "manifest.json").is_file():
        progress(f"exporting {source.name}, once")
        _export(source, precision, target)
    return BenchModel(source.name, source.config, source.checkpoint, source.preset, str(target))


def _export(source: BenchModel, precision: str, target: Path) -> None:
    from lldiffusion.export.exporter import Settings, export_bundle
    from lldiffusion.model.checkpoint import save_checkpoint

    settings = Settings(precision=precision, verify=source.trained)
    if source.checkpoint:
        export_bundle(source.checkpoint, target, settings=settings)
        return
    with scratch() as folder:
        model = load("", source.preset, "cpu")
        save_checkpoint(folder / "random", source.config, model.state_dict())
        export_bundle(folder / "random", target, settings=settings)


def _key(source: BenchModel) -> str:
    """Changes with the weights, the configuration and the code that makes graphs of them."""
    digest = hashlib.sha256(f"{lldiffusion.__version__} {json.dumps(source.config.to_dict())}".encode())
    digest.update((_weights(source.checkpoint) if source.checkpoint else str(SEED)).encode())
    package = Path(lldiffusion.__file__).parent
    makers = [package / "export" / name for name in ("graphs.py", "precision.py")]
    for path in [*makers, *sorted(package.glob("model/*.py"))]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _weights(checkpoint: str) -> str:
    return sha256_of(find_model(checkpoint) / "model.safetensors")
