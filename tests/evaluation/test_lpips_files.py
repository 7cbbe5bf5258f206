"""Files of LPIPS weights: every format and naming, what is refused, and what is fetched from torchvision's address."""

from __future__ import annotations

import functools
import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lldiffusion.errors import LLDiffusionError
from lldiffusion.evaluation import lpips_weights
from lldiffusion.evaluation.lpips import Lpips, load_lpips, lpips_at_hand
from lldiffusion.evaluation.lpips_weights import URL, VARIABLE
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
