"""The page: what it needs, and a photograph enhanced in Chromium as ONNX Runtime enhances it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from lldiffusion.errors import LLDiffusionError
from lldiffusion.export import web
from lldiffusion.export.single import SingleSettings
from lldiffusion.export.single_graph import defaults
from lldiffusion.images import Image, write_image
from lldiffusion.model import save_checkpoint
from support.browser import browsing
from support.exported import micro_graphs, micro_model

RUNTIME = os.environ.get("LLDIFF_ORT_WEB", "")  # node_modules/onnxruntime-web/dist
PIXELS = "const c = document.getElementById('after'); return Array.from(c.getContext('2d').getImageData(0, 0, c.width, "
PIXELS += "c.height).data)"
WAIT = """const wanted = arguments[0]; return new Promise((done, fail) => {
  const look = () => { const now = document.body.dataset.state;
    if (now === wanted) done(now); else if (now === 'failed') done(document.getElementById('status').textContent);
    else setTimeout(look, 50); };
  look(); });"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint") / "micro"
    save_checkpoint(folder, micro_model().config, micro_model().state_dict())
    return folder


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = {path.stem: path for path in micro_graphs().glob("*.onnx")}
    monkeypatch.setattr("lldiffusion.export.single.write_graphs", lambda *given, **more: graphs)
    monkeypatch.setattr("lldiffusion.export.single.SIZES", ((40, 51),))


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    """Files of the right names."""
    folder = tmp_path / "dist"
    folder.mkdir()
    for name in web.RUNTIME:
        (folder / name).write_bytes(name.encode())
    return folder


def test_the_folder_is_complete_and_the_graph_tells_its_level(
    checkpoint: Path, tmp_path: Path, traced: None, runtime: Path
) -> None:
    report = web.export_web(checkpoint, tmp_path / "page", runtime, settings=SingleSettings())
    assert report is not None and report.passed
    names = {path.relative_to(tmp_path / "page").as_posix() for path in (tmp_path / "page").rglob("*.*")}
    assert names == {*web.PAGE, web.MODEL, *(f"runtime/{name}" for name in web.RUNTIME)}
    session = onnxruntime.InferenceSession(tmp_path / "page" / web.MODEL, providers=["CPUExecutionProvider"])
    assert [port.name for port in session.get_inputs()] == ["image", "exposure", "window", "level"]
    assert [port.name for port in session.get_outputs()] == ["enhanced", "level_of_image"]


def test_the_page_asks_for_nothing_elsewhere() -> None:
    folder = Path(web.__file__).parent / "page"
    for name in web.PAGE:
        assert "http:" not in (text := (folder / name).read_text()) and "https:" not in text, name


def test_what_is_missing_is_named(checkpoint: Path, tmp_path: Path, runtime: Path) -> None:
    with pytest.raises(LLDiffusionError, match=r"has no ort\.wasm\.min\.mjs.*npm install onnxruntime-web"):
        web.check_web(checkpoint, tmp_path / "page", tmp_path, False)
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "mine.txt").write_text("kept")
    with pytest.raises(LLDiffusionError, match="exists already"):
        web.check_web(checkpoint, tmp_path / "page", runtime, True)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.slow
@pytest.mark.skipif(not RUNTIME, reason="no onnxruntime-web: LLDIFF_ORT_WEB names the folder dist of the npm package")
def test_chromium_enhances_like_onnx_runtime(checkpoint: Path, tmp_path: Path, traced: None) -> None:
    page = tmp_path / "page"
    web.export_web(checkpoint, page, RUNTIME, settings=SingleSettings())
    dark = np.random.default_rng(0).integers(0, 60, (70, 133, 3)).astype(np.uint8)
    write_image(tmp_path / "dark.png", Image(np.asarray(dark / 255, np.float32)))
    model = onnx.load(page / web.MODEL)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    image = dark.transpose(2, 0, 1)[None].astype(np.float32) / 255
    wanted = session.run(["enhanced"], {"image": image} | defaults(model))[0][0].transpose(1, 2, 0) * 255
    with served(page) as address, browsing() as browser:
        browser.open(address)
        assert browser.run(WAIT, "ready") == "ready"
        browser.find("#file").send_keys(str(tmp_path / "dark.png"))
        assert browser.run(WAIT, "done") == "done"
        given = np.array(browser.run(PIXELS)).reshape(70, 133, 4)[..., :3]
        assert np.abs(given - wanted).max() <= 2
        assert browser.problems() == []
        assert [request for request in browser.requests() if not request.startswith(address)] == []
