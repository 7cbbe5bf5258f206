"""The authors' network as an oracle that fits into the tests: what it answered, for weights and pictures made by rule.

`golden/paper_lol.json` names every parameter of the network that the authors (github.com/TaoWangzj/LLDiffusion)
trained on LOL, with its shape, and holds 64 values, the mean and the root mean square of everything that this network
answered, in float32 on a CPU: the encoder's features, eps at t = 960 and t = 40, the degraded picture, and the result
of 25 steps of DDIM.  Weights and pictures are functions of names and of a seed, written down here, so that neither
needs to be stored.

    python tests/support/golden_oracle.py FOLDER    makes the file anew from official_lol.json and .npz (2 MB) there
"""

from __future__ import annotations

import json
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

FILE = Path(__file__).parents[1] / "golden" / "paper_lol.json"
ANSWERS = ("feature_0", "feature_1", "feature_2", "eps_t960", "eps_t40", "degraded", "ddim25")
SIZE = (1, 3, 96, 128)  # of the pictures: N, C, H, W
VALUES = 64  # kept of each answer
ITERATIONS = 50  # of the power method


def load() -> dict[str, Any]:
    """`parameters`: name -> shape; `answers`: name -> shape, positions, values, mean, rms, largest (absolute value)."""
    content: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return content


def make_weights(shapes: dict[str, list[int]]) -> dict[str, Floats]:
    """The weights under which the answers were given: each is drawn with its own name as the seed."""
    weights = {name: _draw(name, tuple(shape)) for name, shape in shapes.items()}
    for name in weights:
        if name.endswith("weight_orig"):
            stem = name.removesuffix("orig")
            weights |= _singular_vectors(weights[name], weights[stem + "u"], stem)
    return weights


def _draw(name: str, shape: tuple[int, ...]) -> Floats:
    """Normal values: kernels by 1 / sqrt(fan-in), scales of norms 1 +- 0.1, everything else of one axis 0 +- 0.1."""
    z = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
    if len(shape) > 1:
        return z * np.float32(np.prod(shape[1:]) ** -0.5)
    return np.float32(name.endswith("weight")) + np.float32(0.1) * z


def _singular_vectors(kernel: Floats, u: Floats, stem: str) -> dict[str, Floats]:
    """What spectral norm stores: the kernel's first singular vectors, by the power method from the u that was drawn."""
    matrix = kernel.reshape(len(kernel), -1)
    for _ in range(ITERATIONS):
        v = _unit(matrix.T @ u)
        u = _unit(matrix @ v)
    return {stem + "u": u, stem + "v": v}


def _unit(x: Floats) -> Floats:
    return x / np.linalg.norm(x)


def make_pictures() -> dict[str, Floats]:
    """What the network was given: y (dark), x_t (noise) and x0 (bright), values in [-1, 1] but for x_t."""
    rng = np.random.RandomState(7)
    dark = (0.3 * rng.rand(*SIZE)).astype(np.float32)
    noise = rng.standard_normal(SIZE).astype(np.float32)
    bright = rng.rand(*SIZE).astype(np.float32)
    return {"y": 2 * dark - 1, "x_t": noise, "x0": 2 * bright - 1}


def summarise(name: str, answer: Floats) -> dict[str, Any]:
    """The few numbers that are kept of an answer, at positions in the flattened array that its name decides."""
    rng = np.random.RandomState(zlib.crc32(name.encode()))
    positions = np.sort(rng.choice(answer.size, VALUES, replace=False))
    wide = answer.astype(np.float64)
    whole = {"mean": wide.mean(), "rms": np.sqrt((wide**2).mean()), "largest": np.abs(wide).max()}
    return {
        "shape": list(answer.shape),
        **{what: _short(value) for what, value in whole.items()},
        "positions": positions.tolist(),
        "values": [_short(value) for value in answer.ravel()[positions]],
    }


def _short(value: float) -> float:
    return float(f"{value:.7g}")


def reduce(folder: Path) -> None:
    """Write FILE from the large answers in `folder`."""
    shapes = json.loads((folder / "official_lol.json").read_text(encoding="utf-8"))["state_dict"]
    with np.load(folder / "official_lol.npz") as large:
        answers = {name: summarise(name, large[name]) for name in ANSWERS}
    sections = {"parameters": shapes, "answers": answers}
    texts = [f'"{title}": {{\n{_lines(entries)}\n}}' for title, entries in sections.items()]
    FILE.write_text("{" + ",\n".join(texts) + "}\n", encoding="utf-8")


def _lines(entries: dict[str, Any]) -> str:
    """One line for each entry, so that a change is readable."""
    return ",\n".join(f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries.items())


if __name__ == "__main__":
    reduce(Path(sys.argv[1]))
