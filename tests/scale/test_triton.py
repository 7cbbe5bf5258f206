"""The model repository for Triton: what it holds, what its model answers, and a real server with it."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lldiffusion.engines import Enhancer
from lldiffusion.errors import LLDiffusionError
from lldiffusion.scale.triton_backend import TritonPythonModel
from lldiffusion.scale.triton_repository import write_repository
from support.pictures import dark, photograph
from support.serving import until
from support.toy import toy_bundle

PORT = 18941


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_bundle(tmp_path_factory.mktemp("models") / "toy", level="grid")


@pytest.fixture(scope="module")
def photo() -> NDArray[np.uint8]:
    return (dark(photograph()) * 255).astype(np.uint8)[:77]


def test_a_repository_holds_all_of_a_model(bundle: Path, tmp_path: Path) -> None:
    target = write_repository(bundle, tmp_path / "new" / "repository")
    assert {path.name for path in bundle.iterdir()} == {path.name for path in (target / "1" / "bundle").iterdir()}
    assert 'backend: "python"' in (target / "config.pbtxt").read_text()
    with pytest.raises(LLDiffusionError, match="already there"):
        write_repository(bundle, target.parent)
    (target / "old").touch()
    assert not (write_repository(bundle, target.parent, overwrite=True) / "old").exists()


def test_the_model_answers_as_an_enhancer(
    bundle: Path, photo: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in for what Triton brings."""
    utils: Any = SimpleNamespace(
        get_input_tensor_by_name=lambda request, name: request.get(name),
        Tensor=SimpleNamespace(from_dlpack=lambda name, values: np.from_dlpack(values)),
        TritonError=str,
        InferenceResponse=lambda tensors=None, error=None: error or tensors[0],
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", utils)
    target = write_repository(bundle, tmp_path)
    model = TritonPythonModel()
    about = {"model_repository": str(target), "model_version": "1", "model_instance_kind": "CPU"}
    model.initialize(about | {"model_instance_device_id": "0"})
    picture, stops, line = np.array(photo), np.array([1.5], np.float32), np.array(photo[0])
    plain, bright, wrong = model.execute(
        [{"PICTURE": picture}, {"PICTURE": picture, "EXPOSURE": stops}, {"PICTURE": line}]
    )
    model.finalize()
    with Enhancer.open(bundle, device="cpu") as here:
        np.testing.assert_array_equal(plain, here(photo))
        np.testing.assert_array_equal(bright, here(photo, exposure=1.5))
    assert isinstance(wrong, str) and "(H, W, 3)" in wrong


@contextmanager
def tritonserver(folder: Path, repository: Path, root: Path) -> Iterator[None]:
    """A real server out of NVIDIA's wheel, unpacked beside this environment: it wants an older NumPy."""
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", folder, "nvidia-pytriton==0.7.0"]
    if subprocess.run(list(map(str, install)), capture_output=True).returncode:
        pytest.skip("nvidia-pytriton cannot be installed here")
    home, version = folder / "pytriton" / "tritonserver", f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = home / "backends/python/triton_python_backend_stub"
    shutil.copy(home / "python_backend_stubs" / version / stub.name, stub)
    for program in (stub, home / "bin/tritonserver"):
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    libraries = f"{folder / 'nvidia_pytriton.libs'}:{sysconfig.get_config_var('LIBDIR')}"
    environment = os.environ | {"LD_LIBRARY_PATH": libraries}
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # where its Python looks for packages
    environment["PYTHONPATH"] = f"{root}:{sysconfig.get_paths()['purelib']}"
    command = [home / "bin/tritonserver", "--model-repository", repository, "--backend-directory", home / "backends"]
    command += [
        "--http-address",
        "127.0.0.1",
        "--http-port",
        str(PORT),
        "--allow-grpc",
        "false",
        "--allow-metrics",
        "false",
    ]
    log = (folder / "log").open("w+")
    with log, subprocess.Popen(list(map(str, command)), env=environment, stdout=log, stderr=log) as started:
        try:
            until(lambda: ready() or started.poll() is not None, seconds=300)
            assert started.poll() is None, (folder / "log").read_text()
            yield
        finally:
            started.terminate()


def ready() -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", PORT)
    try:
        connection.request("GET", "/v2/health/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False


def infer(pixels: NDArray[np.uint8], exposure: float) -> tuple[dict[str, Any], bytes]:
    """One request of the protocol of KServe, tensors as bytes; (what is said, the tensor)."""
    tensors: dict[str, tuple[str, NDArray[Any]]] = {
        "PICTURE": ("UINT8", pixels),
        "EXPOSURE": ("FP32", np.array([exposure], np.float32)),
    }
    inputs = [
        {"name": name, "datatype": kind, "shape": list(values.shape), "parameters": {"binary_data_size": values.nbytes}}
        for name, (kind, values) in tensors.items()
    ]
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    body = head + b"".join(values.tobytes() for _, values in tensors.values())
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=120)
    connection.request(
        "POST", "/v2/models/lldiffusion/infer", body, {"Inference-Header-Content-Length": str(len(head))}
    )
    answer = connection.getresponse()
    content, length = answer.read(), int(answer.headers.get("Inference-Header-Content-Length", 0))
    return json.loads(content[:length] if length else content), content[length:]


@pytest.mark.slow
def test_a_real_server(bundle: Path, photo: NDArray[np.uint8], tmp_path: Path, root: Path) -> None:
    write_repository(bundle, tmp_path / "repository")
    with tritonserver(tmp_path / "wheel", tmp_path / "repository", root), Enhancer.open(bundle, device="cpu") as here:
        for pixels, exposure in ((photo, 0.0), (np.ascontiguousarray(photo[:, :65]), -1.0)):
            about, bright = infer(pixels, exposure)
            assert about["outputs"][0]["shape"] == list(pixels.shape)
            wanted = here(pixels, exposure=exposure)
            np.testing.assert_array_equal(np.frombuffer(bright, np.uint8).reshape(pixels.shape), wanted)
        about, _ = infer(np.zeros((0, 64, 3), np.uint8), 0.0)
        assert "error" in about
