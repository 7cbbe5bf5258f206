"""Addresses where nobody answers, or somebody else: one line, soon."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest
from PIL import Image as Pillow

from lldiffusion.cli import run
from lldiffusion.scale import reach

SOON = 5.0  # seconds for all of a command whose address is asked for 0.2


@pytest.fixture(scope="module", autouse=True)
def impatient() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(reach, "SECONDS", 0.2)
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "RAY_ADDRESS"):
            patched.delenv(name, raising=False)
        yield


@pytest.fixture(scope="module")
def ports() -> Iterator[dict[str, int]]:
    """One where nothing listens, one that takes connections and says nothing, one of a web server."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        dead = closed.getsockname()[1]
    silent, web = socket.create_server(("127.0.0.1", 0)), ThreadingHTTPServer(("127.0.0.1", 0), Web)
    with silent, web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        yield {"dead": dead, "silent": silent.getsockname()[1], "web": web.server_port}
        web.shutdown()


class Web(BaseHTTPRequestHandler):
    """Answers everything in HTTP/1.1."""

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:{dead}", "nothing answers at 127.0.0.1:{dead} (Connection refused)"),
        ("ray://127.0.0.1:{dead}", "nothing answers"),
        ("127.0.0.1:{silent}", "does not answer within 0.2 s"),
        ("127.0.0.1:{web}", "what answers at 127.0.0.1:{web} is no Ray"),
        ("10.0.0.1", "an address is HOST:PORT"),
        ("$RAY_ADDRESS", "nothing answers at 127.0.0.1:{dead}"),
    ],
)
def test_a_cluster_that_is_not_there(
    ports: dict[str, int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    address: str,
    words: str,
) -> None:
    pytest.importorskip("ray", reason="needs Ray (extra 'ray')")
    Pillow.new("RGB", (64, 64)).save(tmp_path / "a.png")
    given = address.format(**ports)
    if address.startswith("$"):
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{ports['dead']}")
        given = "auto"
    start = time.monotonic()
    assert run(["enhance", str(tmp_path / "a.png"), "-o", str(tmp_path / "b.png"), "--ray", given]) == 2
    assert time.monotonic() - start < SOON
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert words.format(**ports) in line and f"--ray '{given}'" in line and "give local, auto or" in line


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("s3://bucket/a.png", "cannot open 's3://bucket/a.png': nothing answers at 127.0.0.1:{dead}"),
        ("http://127.0.0.1:{dead}/a.png", "nothing answers"),
        ("http://127.0.0.1:{silent}/a.png", "does not answer within 0.2 s"),
        ("http://127.0.0.1:{web}/a.png", "no image at 'http://127.0.0.1:{web}/a.png'"),
    ],
)
def test_a_store_that_is_not_there(
    ports: dict[str, int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    words: str,
) -> None:
    pytest.importorskip("s3fs", reason="needs s3fs (extra 'cloud')")
    settings = {"endpoint_url": f"http://127.0.0.1:{ports['dead']}", "key": "k", "secret": "s"}
    monkeypatch.setitem(fsspec.config.conf, "s3", settings)
    start = time.monotonic()
    assert run(["enhance", source.format(**ports), "-o", f"{tmp_path}/out/"]) == 2
    assert time.monotonic() - start < SOON
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert words.format(**ports) in line
