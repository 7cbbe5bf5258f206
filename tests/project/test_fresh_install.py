"""The wheel on a clean machine: with its `cpu` extra alone it enhances a photograph from a bundle, without PyTorch.

Installs packages, so it is marked slow; CI runs it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from skimage import data

from lldiffusion.engines import Enhancer
from support.installing import run
from support.toy import toy_bundle

pytestmark = pytest.mark.slow
# What the extras for training and export bring, and the runtime must not need.
ABSENT = ("torch", "onnx", "onnxscript", "scipy", "skimage", "torchmetrics", "accelerate")


@pytest.fixture(scope="module")
def home(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bin` of a new virtual environment that holds the wheel with [cpu] and its dependencies only."""
    folder = tmp_path_factory.mktemp("fresh")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, root, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=True, symlinks=True)
    home = folder / "venv" / "bin"
    install = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    run(home / "python", *install, "-c", root / "constraints.txt", f"{wheel}[cpu]", cwd=folder)
    return home


def test_a_bundle_enhances_a_photograph(home: Path, tmp_path: Path) -> None:
    """The result is that of the repository's own environment, bit for bit."""
    photo = (data.astronaut()[:200, :300] * 0.1).astype(np.uint8)
    Pillow.fromarray(photo).save(tmp_path / "photo.png")
    bundle = toy_bundle(tmp_path / "toy.lldiff")
    run(home / "lldiff", "enhance", "photo.png", "-o", "bright.png", "--model", bundle, cwd=tmp_path)
    with Enhancer.open(bundle, backend="onnxruntime", device="cpu") as here:
        np.testing.assert_array_equal(np.asarray(Pillow.open(tmp_path / "bright.png")), here(photo))


def test_nothing_of_training_or_export_is_there(home: Path, tmp_path: Path) -> None:
    code = f"import importlib.util as u; print([n for n in {ABSENT!r} if u.find_spec(n) is not None])"
    assert run(home / "python", "-c", code, cwd=tmp_path).strip() == "[]"


def test_the_shipped_model_enhances(home: Path, tmp_path: Path) -> None:
    Pillow.new("RGB", (64, 64), (9, 8, 7)).save(tmp_path / "x.png")
    run(home / "lldiff", "enhance", "x.png", "-o", "y.png", cwd=tmp_path)
    with Pillow.open(tmp_path / "y.png") as bright:
        assert bright.size == (64, 64) and np.asarray(bright).mean() > 2 * 8


def test_what_is_missing_is_said_in_one_line(home: Path, tmp_path: Path) -> None:
    for command, extra in ((("export", "tiny", "-o", "b"), "export"), (("train", "tiny"), "train")):
        done = subprocess.run([home / "lldiff", *command], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 2
        (line,) = done.stderr.strip().splitlines()
        assert line.startswith("error: ") and f'pip install "lldiffusion[{extra}]"' in line


def test_doctor_and_inspect_work(home: Path, tmp_path: Path) -> None:
    findings = {item["topic"]: item for item in json.loads(run(home / "lldiff", "doctor", "--json", cwd=tmp_path))}
    assert findings["onnxruntime"]["state"] == "ok" and findings["torch"]["state"] == "missing"
    described = json.loads(run(home / "lldiff", "inspect", "--json", toy_bundle(tmp_path / "toy"), cwd=tmp_path))
    assert described["kind"] == "bundle" and described["model"] == "toy"
