"""Finding a model: by path, or by the name of one that comes with the package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from lldiffusion.errors import LLDiffusionError

from .manifest import MANIFEST

SHIPPED = ("tiny", "tiny-lol", "live")  # models that come with the package, by name
SINGLE = ".onnx"  # suffix of a whole model in one graph (lldiff export --single)


def find_model(source: str | Path) -> Path:
    """A folder, `.lldiff` or `.onnx` file given by path, or the folder of a shipped model given by name.

    Raises LLDiffusionError when there is no such thing.
    """
    path = Path(source)
    if path.is_file() and path.suffix not in (".lldiff", SINGLE):
        raise LLDiffusionError(
            f"model '{source}' is a file that is no bundle: give a checkpoint folder, a bundle folder, a .lldiff or a "
            "single .onnx file (the authors' .pth files: lldiff convert)"
        )
    if path.exists():
        refuse_run(path)
        return path
    if str(source) in SHIPPED:
        return Path(str(resources.files("lldiffusion") / "weights" / str(source)))
    raise LLDiffusionError(
        f"model '{source}' does not exist: give a checkpoint folder, a bundle (folder or .lldiff file), a single .onnx "
        f"file or a shipped model ({', '.join(SHIPPED)})"
    )


def refuse_run(path: Path) -> None:
    """A training run looks like a checkpoint (it has a configuration too): name the model that it made.

    One that is not finished has checkpoints of its stages only: name the newest.
    """
    if (path / "model.safetensors").exists() or (path / MANIFEST).exists() or not path.is_dir():
        return
    model, steps = path / "model", [*path.glob("step-*"), *path.glob("*/step-*")]
    steps = [step for step in steps if is_checkpoint(step)]
    if is_checkpoint(model):
        raise LLDiffusionError(f"'{path}' is a training run: did you mean its model, '{model}'?")
    if steps:
        newest = max(steps, key=lambda step: (step.stat().st_mtime_ns, step.name))
        raise LLDiffusionError(f"'{path}' is a training run without a finished model: did you mean '{newest}'?")


def is_bundle(path: Path) -> bool:
    """Whether a path that exists is a bundle: a `.lldiff` file, or a folder with a manifest."""
    return (path.is_file() and not is_single(path)) or (path / MANIFEST).is_file()


def is_single(path: Path) -> bool:
    """Whether a path that exists is a single graph."""
    return path.is_file() and path.suffix == SINGLE


def is_checkpoint(path: Path) -> bool:
    """Whether a folder holds a configuration and weights.

    Models in the package are both: PyTorch trains on, exports and (on a GPU) runs what the graphs read.
    """
    return (path / "config.json").is_file()
