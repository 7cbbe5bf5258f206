"""Where LPIPS's weights come from: AlexNet's five convolutions and the five heads of LPIPS v0.1; none are shipped.

Looked for in this order: the file that is named (--lpips-weights), the file in $LLDIFF_LPIPS_WEIGHTS, and torchvision's
published AlexNet in PyTorch's hub cache, fetched on first use (244 MB).  A file may be .npz, .safetensors or a PyTorch
state dict (.pth, .pt: needs PyTorch, and nothing but tensors is unpickled), named and laid out as PyTorch does:
`conv1` .. `conv5` .weight (O, C, k, k) and .bias (O,), or torchvision's `features.0`, .3, .6, .8, .10; and the heads
`lin1` .. `lin5` .weight (1, O, 1, 1), or `lin0.model.1` .. `lin4.model.1`.  A file without heads, such as
torchvision's, gets those that torchmetrics brings, which are the published ones.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lldiffusion.errors import LLDiffusionError, choose, require

Arrays = dict[str, NDArray[np.float32]]

VARIABLE = "LLDIFF_LPIPS_WEIGHTS"
URL = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"  # torchvision's weights for ImageNet, 244 MB
DIGEST = "7be5be79"  # how its SHA-256 begins
PATIENCE = 10.0  # seconds without an answer until fetching gives up
CHANNELS = (64, 192, 384, 256, 256)  # of the five convolutions
SIZES = (11, 5, 3, 3, 3)  # pixels on the side of their windows
LAYERS = tuple(zip(range(1, 6), CHANNELS, (3, *CHANNELS), SIZES))
SHAPES: dict[str, tuple[int, ...]] = {
    **{f"conv{i}.weight": (out, into, size, size) for i, out, into, size in LAYERS},
    **{f"conv{i}.bias": (out,) for i, out, _, _ in LAYERS},
    **{f"lin{i}.weight": (1, out, 1, 1) for i, out, _, _ in LAYERS},
}
# torchvision's names of the convolutions, and those of the heads in the authors' and torchmetrics' files.
OURS = {f"features.{theirs}": f"conv{i}" for i, theirs in enumerate((0, 3, 6, 8, 10), 1)}
OURS |= {f"lin{i}.model.1": f"lin{i + 1}" for i in range(5)}
HOW = f"give --lpips-weights FILE or set {VARIABLE}"


@dataclass(frozen=True, eq=False)
class Weights:
    """AlexNet's convolutions and LPIPS's heads, float32; `sha256` tells which file the convolutions came from."""

    kernels: tuple[NDArray[np.float32], ...]  # five of (k, k, C, O)
    biases: tuple[NDArray[np.float32], ...]  # five of (O,)
    heads: tuple[NDArray[np.float32], ...]  # five of (O,)
    sha256: str


def is_named(path: Path | None) -> bool:
    """Whether the user says where the weights are, by `path` or by the variable."""
    return path is not None or bool(os.environ.get(VARIABLE))


def is_at_hand() -> bool:
    """Whether weights are named by the variable, or torchvision's are in the hub cache: nothing need be fetched."""
    return is_named(None) or (importlib.util.find_spec("torch") is not None and _cached_file().is_file())


def find_weights(path: Path | None) -> Path:
    """`path`, else the file in $LLDIFF_LPIPS_WEIGHTS, else torchvision's; raises LLDiffusionError if there is none."""
    if path is None and not os.environ.get(VARIABLE):
        return _torchvision_file()
    found = path or Path(os.environ[VARIABLE])
    if not found.is_file():
        raise LLDiffusionError(f"no LPIPS weights at '{found}': {_accepted()}")
    return found


def read_weights(path: Path) -> Weights:
    """The weights in `path`; raises LLDiffusionError where it is damaged or holds something else."""
    arrays = _read(path)
    if not any(name.startswith("lin") for name in arrays):
        arrays |= _read(_heads_file(f"'{path}' has no heads (lin1 .. lin5)"))
    _check(arrays, path)
    kernels = [np.ascontiguousarray(arrays[f"conv{i}.weight"].transpose(2, 3, 1, 0)) for i in range(1, 6)]
    biases, heads = ([arrays[name.format(i)].ravel() for i in range(1, 6)] for name in ("conv{}.bias", "lin{}.weight"))
    return Weights(tuple(kernels), tuple(biases), tuple(heads), _sha256(path))


def _check(arrays: Arrays, path: Path) -> None:
    missing = [name for name in SHAPES if name not in arrays]
    if missing:
        raise LLDiffusionError(f"'{path}' has no {', '.join(missing)}: {_accepted()}")
    for name, shape in SHAPES.items():
        if arrays[name].shape != shape:
            raise LLDiffusionError(f"'{path}': {name} is {arrays[name].shape}, AlexNet's is {shape}; {_accepted()}")
        if not np.isfinite(arrays[name]).all():
            raise LLDiffusionError(f"'{path}': {name} has values that are not finite: fetch the file again")


def _accepted() -> str:
    arrays = "conv1 .. conv5 (or torchvision's features.0 .. features.10) and lin1 .. lin5"
    return f"accepted is AlexNet as {', '.join(READERS)}, with {arrays}"


def _read(path: Path) -> Arrays:
    """Every array of ours in a file under our names, float32."""
    reader = READERS[choose(path.suffix.lower(), READERS, f"kind of LPIPS weights '{path}'")]
    if reader is _read_torch:
        require("torch", "train", f"reading '{path}'")
    try:
        found = {_our_name(name): array for name, array in reader(path).items()}
        return {name: np.asarray(array, np.float32) for name, array in found.items() if name in SHAPES}
    except Exception as error:  # the readers raise whatever a damaged file makes them trip over
        reason = " ".join(str(error).split())[:200]
        if reader is _read_torch:  # torch's own words advise to load the file without its safeguards
            reason = "damaged, or it asks for Python objects, which no file is given"
        raise LLDiffusionError(f"'{path}' cannot be read ({reason}): {_accepted()}") from error


def _our_name(name: str) -> str:
    layer, _, kind = name.rpartition(".")
    return f"{OURS.get(layer, layer)}.{kind}"


def _read_npz(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors.numpy import load_file

    return load_file(path)


def _read_torch(path: Path) -> dict[str, Any]:
    import torch

    state = torch.load(path, map_location="cpu", weights_only=True)
    return {name: value.float().numpy() for name, value in state.items() if _our_name(name) in SHAPES}


READERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    ".npz": _read_npz,
    ".safetensors": _read_safetensors,
    ".pth": _read_torch,
    ".pt": _read_torch,
}


def _heads_file(why: str) -> Path:
    """The file of heads that torchmetrics installs; importing torchmetrics would take seconds and give no more."""
    package = importlib.util.find_spec("torchmetrics")
    places = package.submodule_search_locations if package else None
    file = Path(places[0]) / "functional/image/lpips_models/alex.pth" if places else None
    if file is None or not file.is_file():
        install = 'install torchmetrics, which brings them, with  pip install "lldiffusion[train]"'
        raise LLDiffusionError(f"{why}: {install}, or {HOW} with a file that has them")
    return file


def _torchvision_file() -> Path:
    """torchvision's file in the hub cache, fetched if need be and checked; raises LLDiffusionError with the way out."""
    if importlib.util.find_spec("torch") is None:
        raise LLDiffusionError(
            f"no AlexNet weights: {HOW} (.npz or .safetensors with conv1 .. conv5 and lin1 .. lin5), "
            f'or  pip install "lldiffusion[train]"  for those at {URL}'
        )
    _heads_file("LPIPS's heads are missing")  # before 244 MB are fetched
    path = _cached_file()
    if not path.is_file():
        _fetch(path)
    if not _sha256(path).startswith(DIGEST):
        raise LLDiffusionError(
            f"'{path}' is damaged (its SHA-256 does not begin with {DIGEST}): delete it and try again"
        )
    return path


def _cached_file() -> Path:
    from torch import hub

    return Path(hub.get_dir()) / "checkpoints" / URL.rpartition("/")[2]


def _fetch(path: Path) -> None:
    from torch import hub

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _patience():
            hub.download_url_to_file(URL, str(path), hash_prefix=DIGEST, progress=sys.stderr.isatty())
    except (OSError, RuntimeError, HTTPException) as error:  # no network, no space, or another file than published
        reason = " ".join(str(error).split())
        raise LLDiffusionError(
            f"no AlexNet weights, and fetching them failed ({reason}): download {URL} and {HOW}, or save it as '{path}'"
        ) from error


@contextmanager
def _patience() -> Iterator[None]:
    """Sockets give up after PATIENCE seconds: PyTorch's download would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
