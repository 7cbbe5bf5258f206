"""`Enhancer.open` on bundles: the choice of backend, device and precision, and no PyTorch in the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lldiffusion.bundle import Bundle
from lldiffusion.engines import Enhancer, select_backend
from lldiffusion.engines.driver import Driver, Gpu
from lldiffusion.errors import LLDiffusionError
from support.toy import ToyEngine, toy_bundle, toy_config

PIXELS = np.random.default_rng(0).integers(0, 40, (50, 70, 3)).astype(np.uint8)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLDIFF_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return toy_bundle(tmp_path / "toy.lldiff")


@pytest.mark.parametrize("backend", ["auto", "onnxruntime", "openvino"])
def test_a_bundle_enhances(bundle: Path, backend: str) -> None:
    with Enhancer.open(bundle, backend=backend, device="cpu") as enhancer:
        oracle = Enhancer(ToyEngine(), toy_config())
        ours, expected = enhancer(PIXELS), oracle(PIXELS)
        assert ours.shape == PIXELS.shape
        assert np.abs(ours.astype(int) - expected).max() <= 1
        batch = enhancer(np.stack([PIXELS, PIXELS]))
        assert np.abs(batch[1].astype(int) - expected).max() <= 1


def test_info_says_which_and_why_not_the_others(bundle: Path) -> None:
    about = Enhancer.open(bundle, steps=3, sampler="ddim").info()
    assert about["model"] == "toy"
    assert about["backend"] == "onnxruntime"
    assert about["precision"] == "fp32"
    assert (about["steps"], about["sampler"]) == ("3", "ddim")
    assert about["not torch"] == "runs checkpoints only"
    assert about["not openvino"] == "onnxruntime comes first"
    assert "not onnxruntime (cuda)" in about


def test_the_next_backend_is_taken_when_the_first_is_missing(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    about = Enhancer.open(bundle, device="cpu").info()
    assert about["backend"] == "openvino"
    assert "lldiffusion[cpu]" in about["not onnxruntime"]


def test_nothing_to_run_it_with_names_every_reason(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(LLDiffusionError, match=r"lldiff doctor.*lldiffusion\[cpu\].*lldiffusion\[openvino\]"):
        Enhancer.open(bundle, device="cpu")
    with pytest.raises(LLDiffusionError, match=r"^the openvino backend needs"):
        Enhancer.open(bundle, backend="openvino")


def test_precision_auto_is_float32_on_a_cpu(tmp_path: Path) -> None:
    half = toy_bundle(tmp_path / "half", "fp16")
    assert Enhancer.open(half, device="cpu").info()["precision"] == "fp16"  # it holds nothing else
    with pytest.raises(LLDiffusionError, match="accepted are auto, fp16"):
        Enhancer.open(half, precision="fp32")


def test_precision_auto_is_the_bundles_on_a_gpu(tmp_path: Path) -> None:
    bundle = Bundle.open(toy_bundle(tmp_path / "half", "fp16"))
    cpu, gpu = (next(each for each in select_backend.CANDIDATES if each.device == device) for device in ("cpu", "cuda"))
    both = dict(fp32=bundle.manifest.graphs["fp16"], **bundle.manifest.graphs)
    bundle.manifest.graphs.update(both)
    assert select_backend._precision(bundle, cpu, "auto")[0] == "fp32"
    assert select_backend._precision(bundle, gpu, "auto")[0] == "fp16"
    assert select_backend._precision(bundle, gpu, "fp32")[0] == "fp32"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"backend": "onnxrt"}, "unknown backend 'onnxrt'.*did you mean 'onnxruntime'"),
        ({"backend": "torch"}, "is a bundle, torch runs checkpoints"),
        ({"backend": "openvino", "device": "cuda"}, "openvino backend does not run on device 'cuda'"),
        ({"backend": "tensorrt", "device": "cpu"}, "tensorrt backend does not run on device 'cpu'"),
        ({"device": "tpu"}, "device 'tpu' is unknown.*auto, cpu, cuda"),
        ({"precision": "int8"}, "accepted are auto, fp32"),
        ({"sampler": "ddmi"}, "did you mean 'ddim'"),
    ],
)
def test_bad_options(bundle: Path, options: dict[str, str], words: str) -> None:
    with pytest.raises(LLDiffusionError, match=words):
        Enhancer.open(bundle, **options)  # type: ignore[arg-type]


def test_bad_sources(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"x")
    with pytest.raises(LLDiffusionError, match=r"does not exist.*\.lldiff"):
        Enhancer.open(tmp_path / "absent")
    with pytest.raises(LLDiffusionError, match="lldiff convert"):
        Enhancer.open(tmp_path / "weights.pth")


def test_a_gpu_that_is_not_there(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select_backend, "driver", lambda: Driver("no NVIDIA driver is installed"))
    with pytest.raises(LLDiffusionError, match="no NVIDIA driver is installed"):
        Enhancer.open(bundle, device="cuda")
    with pytest.raises(LLDiffusionError, match="no NVIDIA driver is installed"):
        Enhancer.open(bundle, backend="tensorrt")
    gpu = Gpu(0, "GeForce", "8.9", 8 << 30)
    monkeypatch.setattr(select_backend, "driver", lambda: Driver(None, "13.1", (gpu,)))
    with pytest.raises(LLDiffusionError, match="'cuda:3' does not exist: the driver shows 1"):
        Enhancer.open(bundle, device="cuda:3")


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_bundle_runs_where_importing_torch_raises(bundle: Path, backend: str) -> None:
    code = f"""
import sys
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "onnx", "scipy", "skimage"):
            raise ImportError(f"the runtime imported {{name}}")
sys.meta_path.insert(0, NoTorch())
import numpy as np
from lldiffusion import Enhancer
with Enhancer.open({str(bundle)!r}, backend={backend!r}, device="cpu") as enhancer:
    out = enhancer(np.full((40, 40, 3), 9, np.uint8))
    assert out.shape == (40, 40, 3) and enhancer.info()["backend"] == {backend!r}
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
