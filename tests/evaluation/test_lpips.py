"""LPIPS: NumPy against torchmetrics' own LPIPS around a trunk of the test's making."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage import data

from lldiffusion.errors import LLDiffusionError
from lldiffusion.evaluation.lpips import Lpips
from lldiffusion.images import read_image
from support.lpips_weights import Arrays, hide_weights, random_arrays, renamed, write


@pytest.fixture(autouse=True)
def nothing_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hide_weights(monkeypatch, tmp_path)


@pytest.fixture(scope="module")
def arrays() -> Arrays:
    return random_arrays()


@pytest.fixture(scope="module")
def npz(arrays: Arrays, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("lpips") / "alex.npz", arrays)


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    """A prediction (darker, noisy) and its target, uint8; neither side a multiple of a stride."""
    target = np.ascontiguousarray(data.astronaut()[60:181, 100:263])
    noise = np.random.default_rng(1).normal(0, 12, target.shape)
    return np.clip(target * 0.8 + noise, 0, 255).astype(np.uint8), target


def oracle(arrays: Arrays) -> Any:
    """torchmetrics' LPIPS with these weights; the layers that torchvision would give it are PyTorch's own."""
    from torchmetrics.functional.image import lpips as torchmetrics_lpips

    nn = torch.nn
    layers: list[Any] = [nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)]
    layers += [nn.Conv2d(64, 192, 5, 1, 2), nn.ReLU(), nn.MaxPool2d(3, 2)]
    for into, out in ((192, 384), (384, 256), (256, 256)):
        layers += [nn.Conv2d(into, out, 3, 1, 1), nn.ReLU()]
    trunk = nn.Sequential(*layers)
    tensors = {n: torch.from_numpy(a) for n, a in renamed(arrays).items()}
    trunk.load_state_dict({n.removeprefix("features."): a for n, a in tensors.items() if n.startswith("features.")})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torchmetrics_lpips, "_get_tv_model_features", lambda *_: trunk)
        network = torchmetrics_lpips._LPIPS(pretrained=False, net="alex").eval()
    network.load_state_dict({n: a for n, a in tensors.items() if n.startswith("lin")}, strict=False)

    def measure(a: np.ndarray, b: np.ndarray) -> float:
        planes = (torch.from_numpy(np.float32(x)).permute(2, 0, 1)[None] for x in (a, b))
        with torch.inference_mode():
            return float(network(*planes, normalize=True))

    return measure


def test_values_are_those_of_torchmetrics(arrays: Arrays, npz: Path, pair: tuple[np.ndarray, np.ndarray]) -> None:
    ours, theirs = Lpips.load(npz), oracle(arrays)
    prediction, target = pair
    expected = theirs(prediction / 255, target / 255)
    assert expected > 0.01
    assert ours(prediction, target) == pytest.approx(expected, rel=1e-4)
    assert ours(prediction / np.float32(255), target / np.float32(255)) == pytest.approx(expected, rel=1e-4)
    assert ours(target, target) == 0


def test_every_layer_counts(arrays: Arrays, tmp_path: Path, pair: tuple[np.ndarray, np.ndarray]) -> None:
    for layer in range(1, 6):
        one = {n: a * (n == f"lin{layer}.weight" or not n.startswith("lin")) for n, a in arrays.items()}
        write(tmp_path / "one.npz", one)
        expected = oracle(one)(*(pixels / 255 for pixels in pair))
        assert Lpips.load(tmp_path / "one.npz")(*pair) == pytest.approx(expected, rel=1e-4)


def test_an_image_of_many_strips_is_one_image(
    npz: Path, pair: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Lpips.load(npz)(*pair)
    monkeypatch.setattr("lldiffusion.evaluation.lpips.STRIP", 1)  # a row at a time
    assert Lpips.load(npz)(*pair) == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize("short", [31, 30])  # pixels
def test_the_smallest_image(arrays: Arrays, npz: Path, pair: tuple[np.ndarray, np.ndarray], short: int) -> None:
    prediction, target = (pixels[:short] for pixels in pair)
    value = Lpips.load(npz)(prediction, target)
    if short == 30:  # the second pooling has nothing to pool
        assert math.isnan(value)
    else:
        assert value == pytest.approx(oracle(arrays)(prediction / 255, target / 255), rel=1e-4)


def test_images_of_two_sizes_are_refused(npz: Path, pair: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(LLDiffusionError, match=r"one size.*\(120, 163, 3\) and \(121, 163, 3\)"):
        Lpips.load(npz)(pair[0][1:], pair[1])


# LPIPS of LOL eval15's five dark pictures against their targets, by torchmetrics' equation and PyTorch's convolutions.
DARK = {"1": 0.448938, "23": 0.800543, "493": 0.646367, "780": 0.460772, "79": 0.523374}


def test_published_weights_on_real_pairs(shared: Path) -> None:
    ours, folder = Lpips.load(shared / "data/lpips/lpips_alex.npz"), shared / "data/LOL/eval15"
    for name, expected in DARK.items():
        low, high = (read_image(folder / side / f"{name}.png").pixels for side in ("low", "high"))
        assert ours(low, high) == pytest.approx(expected, abs=2e-5)


def test_published_heads_are_those_of_torchmetrics(shared: Path, tmp_path: Path) -> None:
    with np.load(shared / "data/lpips/lpips_alex.npz") as archive:
        write(tmp_path / "trunk.npz", {n: archive[n] for n in archive.files if n.startswith("conv")})
        heads = Lpips.load(tmp_path / "trunk.npz").weights.heads
        for i, head in enumerate(heads, 1):
            np.testing.assert_array_equal(head, archive[f"lin{i}.weight"].ravel())
