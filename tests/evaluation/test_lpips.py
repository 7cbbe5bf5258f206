"""LPIPS: NumPy against torchmetrics' own LPIPS around a trunk of the test's making, its files, and every mistake."""

from __future__ import annotations

import functools
import http.server
import math
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from skimage import data

from lldiffusion.errors import LLDiffusionError
from lldiffusion.evaluation import lpips_weights
from lldiffusion.evaluation.lpips import Lpips, load_lpips, lpips_at_hand
from lldiffusion.evaluation.lpips_weights import SHAPES, URL, VARIABLE
from lldiffusion.images import read_image

Arrays = dict[str, np.ndarray]
# torchvision's names of the convolutions, torchmetrics' names of the heads.
THEIRS = {"conv1": "features.0", "conv2": "features.3", "conv3": "features.6", "conv4": "features.8"}
THEIRS |= {"conv5": "features.10", "lin1": "lin0.model.1", "lin2": "lin1.model.1", "lin3": "lin2.model.1"}
THEIRS |= {"lin4": "lin3.model.1", "lin5": "lin4.model.1"}


@pytest.fixture(autouse=True)
def nothing_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No weights of the machine's, and no network."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(lpips_weights, "URL", f"http://127.0.0.1:9/{URL.rpartition('/')[2]}")


@pytest.fixture(scope="module")
def arrays() -> Arrays:
    """Random weights of AlexNet's shapes, scaled by fan-in so that every layer has something to say."""
    rng = np.random.default_rng(3)
    made = {n: rng.standard_normal(s, np.float32) * math.sqrt(2 / max(math.prod(s[1:]), 8)) for n, s in SHAPES.items()}
    return {n: np.abs(a) if n.startswith("lin") else a for n, a in made.items()}


def write(path: Path, arrays: Arrays) -> Path:
    """A file of weights in the format that its name says."""
    if path.suffix == ".npz":
        np.savez(path, **arrays)  # type: ignore[arg-type]
    elif path.suffix == ".safetensors":
        save_file(arrays, path)
    else:
        torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, path)
    return path


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


def renamed(arrays: Arrays) -> Arrays:
    """The same arrays as torchvision and torchmetrics call them."""
    parts = {name: name.rpartition(".") for name in arrays}
    return {f"{THEIRS[layer]}.{kind}": arrays[name] for name, (layer, _, kind) in parts.items()}


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


# ---- files ----


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pth", ".pt"])
@pytest.mark.parametrize("rename", [False, True])
def test_every_format_and_both_namings_hold_the_same(
    arrays: Arrays, npz: Path, tmp_path: Path, suffix: str, rename: bool
) -> None:
    path = write(tmp_path / f"alex{suffix}", renamed(arrays) if rename else arrays)
    wanted, found = Lpips.load(npz).weights, Lpips.load(path).weights
    for name in ("kernels", "biases", "heads"):
        for a, b in zip(getattr(wanted, name), getattr(found, name), strict=True):
            np.testing.assert_array_equal(a, b)


def test_torchvisions_file_gets_torchmetrics_heads(arrays: Arrays, tmp_path: Path) -> None:
    from torchmetrics.functional.image import lpips as torchmetrics_lpips

    trunk = {n: a for n, a in renamed(arrays).items() if n.startswith("features.")}
    path = write(tmp_path / "alexnet.pth", trunk | {"classifier.6.bias": np.zeros(1000, np.float32)})
    published = torch.load(
        Path(torchmetrics_lpips.__file__).parent / "lpips_models/alex.pth", map_location="cpu", weights_only=True
    )
    for head, expected in zip(Lpips.load(path).weights.heads, published.values(), strict=True):
        np.testing.assert_array_equal(head, expected.numpy().ravel())


def test_the_variable_names_the_file_and_the_argument_goes_first(
    npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(npz))
    assert isinstance(load_lpips(None), Lpips)
    with pytest.raises(LLDiffusionError, match=r"no LPIPS weights at .*gone\.npz"):
        load_lpips(tmp_path / "gone.npz")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "lost.npz"))
    assert isinstance(load_lpips(npz), Lpips)
    with pytest.raises(LLDiffusionError, match=r"no LPIPS weights at .*lost\.npz"):
        load_lpips(None)


class Evil:
    """Would run a program when it is unpickled."""

    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit('unpickled')",)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100_000])


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pth"])
def test_half_a_file_is_refused_in_one_line(arrays: Arrays, tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"half{suffix}", arrays)
    _truncate(path)
    refused(path, "cannot be read")


def test_other_files_are_refused_in_one_line(arrays: Arrays, npz: Path, tmp_path: Path) -> None:
    refused(tmp_path / "gone.npz", "no LPIPS weights at")
    refused(tmp_path, "no LPIPS weights at")
    refused(npz.rename(npz.with_suffix(".bin")), "unknown kind of LPIPS weights")
    npz.with_suffix(".bin").rename(npz)
    torch.save(Evil(), tmp_path / "evil.pth")
    refused(tmp_path / "evil.pth", "cannot be read")
    torch.save([1, 2], tmp_path / "list.pth")
    refused(tmp_path / "list.pth", "cannot be read")
    refused(
        write(tmp_path / "a.npz", {n: a for n, a in arrays.items() if n[4] != "3"}), "has no conv3.weight, conv3.bias"
    )
    refused(write(tmp_path / "b.npz", {n: a for n, a in arrays.items() if n != "lin2.weight"}), "has no lin2.weight")
    vgg = np.zeros((64, 3, 3, 3), np.float32)
    refused(write(tmp_path / "c.npz", arrays | {"conv1.weight": vgg}), "conv1.weight is (64, 3, 3, 3), AlexNet's is")
    refused(write(tmp_path / "d.npz", arrays | {"conv5.bias": np.full(256, np.nan, np.float32)}), "not finite")


def refused(path: Path, message: str) -> None:
    with pytest.raises(LLDiffusionError) as caught:
        load_lpips(path)
    assert message in str(caught.value)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


# ---- torchvision's address ----


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder, served at torchvision's address."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        monkeypatch.setattr(lpips_weights, "URL", f"http://127.0.0.1:{web.server_port}/{URL.rpartition('/')[2]}")
        yield folder / URL.rpartition("/")[2]
        web.shutdown()


def test_torchvisions_file_is_fetched_once_and_checked(
    arrays: Arrays, server: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write(server, arrays)
    answer = load_lpips(None)  # another file than the published one
    assert isinstance(answer, str)
    assert "invalid hash value" in answer
    cached = tmp_path / "torch/hub/checkpoints" / server.name
    assert not list(cached.parent.iterdir())
    monkeypatch.setattr(lpips_weights, "DIGEST", lpips_weights._sha256(server)[:8])
    assert isinstance(load_lpips(None), Lpips)
    server.unlink()
    assert isinstance(load_lpips(None), Lpips)  # from the cache
    _truncate(cached)
    answer = load_lpips(None)
    assert isinstance(answer, str)
    assert str(cached) in answer
    assert "delete it" in answer


def test_at_hand_is_what_need_not_be_fetched(
    arrays: Arrays, npz: Path, server: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write(server, arrays)
    answer = lpips_at_hand()
    assert isinstance(answer, str) and VARIABLE in answer
    assert not (tmp_path / "torch/hub/checkpoints" / server.name).exists()
    monkeypatch.setenv(VARIABLE, str(npz))
    assert isinstance(lpips_at_hand(), Lpips)


def test_without_weights_and_network_one_line_says_what_to_do(tmp_path: Path) -> None:
    answer = load_lpips(None)
    assert isinstance(answer, str)
    for part in ("fetching them failed", "--lpips-weights FILE", VARIABLE, str(tmp_path), "alexnet-owt-7be5be79.pth"):
        assert part in answer
    assert "\n" not in answer


WITHOUT_TORCH = """
import importlib.util, sys
from pathlib import Path
hidden = ("torch", "torchvision", "torchmetrics", "skimage", "scipy")
sys.modules.update(dict.fromkeys(hidden))  # importing one now raises ImportError
find = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name in hidden else find(name)
import numpy as np
from lldiffusion.errors import LLDiffusionError
from lldiffusion.evaluation.lpips import Lpips, load_lpips
whole, *others = map(Path, sys.argv[1:])
black = np.zeros((40, 50, 3), np.uint8)
print(Lpips.load(whole)(black, black + 99) > 0)
print(load_lpips(None))
for path in others:
    try:
        load_lpips(path)
    except LLDiffusionError as error:
        print(error)
"""


def test_without_torch_the_numpy_files_work_and_the_others_say_what_is_missing(
    npz: Path, arrays: Arrays, tmp_path: Path
) -> None:
    trunk = write(tmp_path / "trunk.safetensors", {n: a for n, a in arrays.items() if n.startswith("conv")})
    (tmp_path / "some.pth").touch()
    command = [sys.executable, "-c", WITHOUT_TORCH, *map(str, (npz, trunk, tmp_path / "some.pth"))]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(out) == 4
    assert out[0] == "True"
    for line, message in zip(
        out[1:], ("no AlexNet weights: give --lpips-weights FILE", "has no heads", "package 'torch'")
    ):
        assert message in line
        assert "lldiffusion[train]" in line
