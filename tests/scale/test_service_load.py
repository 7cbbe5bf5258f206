"""The service as a process under load, told to stop, and its page in a browser."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from lldiffusion.cli import run
from lldiffusion.scale.service.shelf import Shelf
from support.browser import Browser, browsing
from support.pictures import dark, photograph
from support.serving import ask, serving, until
from support.toy import toy_bundle

pytestmark = pytest.mark.slow
CLIENTS, REQUESTS = 8, 500
SIZES = ((64, 64), (64, 96), (96, 64), (128, 192), (200, 131))
GROWTH = 40 << 20  # bytes that the resident memory may grow by, once every size was seen


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_bundle(tmp_path_factory.mktemp("models") / "toy", level="grid")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dark photograph in several sizes."""
    folder = tmp_path_factory.mktemp("photos")
    for height, width in SIZES:
        pixels = np.round(dark(photograph(height=height, width=width)) * 255).astype(np.uint8)
        Pillow.fromarray(pixels).save(folder / f"{width}x{height}.png")
    return folder


@pytest.fixture
def process(toy: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`lldiff serve` of its own, and its port."""
    command = [sys.executable, "-m", "lldiffusion", "serve", str(toy), "--port", "0", "--device", "cpu"]
    command += ["--queue", "4", "--receive", "1", "--max-megabytes", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ) as started:
        assert started.stderr is not None
        port = int(started.stderr.readline().rpartition(":")[2])
        yield started, port
        started.kill()


def resident(port: int) -> float:
    """Bytes, as the service itself counts them."""
    _, text, _ = ask(port, "GET", "/metrics", b"")
    (line,) = [line for line in text.decode().splitlines() if line.startswith("process_resident_memory_bytes ")]
    return float(line.split()[1])


def send_slowly(port: int, body: bytes) -> int:
    """A client that sends half of its picture and then nothing; the status it gets."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(b"POST /v1/enhance HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body))
        connection.sendall(body[: len(body) // 2])
        return int(connection.recv(12).split()[1])


def hang_up(port: int, body: bytes) -> None:
    """A client that sends all and does not wait."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(b"POST /v1/enhance HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def test_500_requests_of_8_clients(
    process: tuple[subprocess.Popen[str], int], toy: Path, photos: Path, tmp_path: Path
) -> None:
    """Every one is answered; what is 200 is `enhance`'s own result; memory does not grow."""
    _, port = process
    assert run(["enhance", str(photos), "-o", str(tmp_path), "--model", str(toy), "--device", "cpu", "-q"]) == 0
    sent = {path.name: path.read_bytes() for path in sorted(photos.iterdir())}
    wanted = {name: (tmp_path / name).read_bytes() for name in sent}
    for body in sent.values():  # every size once: what is kept is there
        ask(port, "POST", "/v1/enhance", body)
    seen: Counter[int] = Counter()
    wrong: list[str] = []
    before = resident(port)

    def client(number: int) -> None:
        dice = random.Random(number)
        for _ in range(number, REQUESTS, CLIENTS):
            name, kind = dice.choice(list(sent)), dice.random()
            body = sent[name]
            try:
                if kind < 0.05:
                    hang_up(port, body)
                elif kind < 0.07:
                    status = send_slowly(port, body)
                    seen[status] += 1
                    wrong.extend([] if status in (408, 429) else [f"a slow client got {status}"])
                elif kind < 0.2:
                    broken = bytearray(body[: dice.randrange(1, len(body))])
                    status, answer, _ = ask(port, "POST", "/v1/enhance", bytes(broken))
                    seen[status] += 1
                    wrong.extend([] if status in (422, 429) else [f"a broken picture got {status}: {answer[:200]!r}"])
                elif kind < 0.25:
                    status, _, _ = ask(port, "POST", "/v1/enhance", bytes(1_500_000))
                    seen[status] += 1
                    wrong.extend([] if status in (413, 429) else [f"a large body got {status}"])
                else:
                    status, answer, retry = ask(port, "POST", "/v1/enhance", body)
                    seen[status] += 1
                    time.sleep(0.1 * (status == 429))
                    right = answer == wanted[name] if status == 200 else status == 429 and int(retry or 0) > 0
                    wrong.extend([] if right else [f"{name} got {status}: {answer[:200]!r}"])
            except OSError as error:
                wrong.append(f"{name} got no answer: {error!r}")

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    grown = resident(port) - before
    print(f"answers {dict(seen)}, memory {before / 2**20:.0f} MiB and {grown / 2**20:+.1f}")
    assert wrong == []
    assert seen[200] > 150 and seen[422] > 10 and seen[413] > 3
    assert grown < GROWTH


def test_sigterm_drains(process: tuple[subprocess.Popen[str], int], photos: Path) -> None:
    started, port = process
    body = (photos / "131x200.png").read_bytes()
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        head = b"POST /v1/enhance?steps=50 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
        connection.sendall(head + body)
        until(lambda: b"lldiff_pictures_in_work 1.0" in ask(port, "GET", "/metrics", b"")[1])
        started.send_signal(signal.SIGTERM)
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
    assert started.wait(60) == 0
    assert started.stderr is not None and "stopped" in started.stderr.read()


def test_the_page_in_a_browser(toy: Path, photos: Path, tmp_path: Path) -> None:
    """Drop a photo, move the edge and the exposure, download; and a token where one is needed."""
    shelf = Shelf({"toy": str(toy), "second": str(toy)}, {"device": "cpu"})
    with serving(shelf, token="secret") as served, browsing() as browser:
        browser.open(f"http://127.0.0.1:{served.port}/")
        until(lambda: "token is needed" in browser.find("#state").text)
        browser.find("#token").send_keys("secret")
        browser.find("#token-form button").click()
        until(lambda: not browser.find("#token-form").is_displayed())
        assert browser.run("return [...document.querySelectorAll('#model option')].map((o) => o.value)") == [
            "toy",
            "second",
        ]
        browser.find("#file").send_keys(str(photos / "192x128.png"))
        until(lambda: browser.find("#state").text.startswith("Done"))
        sizes = "return ['before', 'after'].map((id) => document.getElementById(id).naturalWidth)"
        assert browser.run(sizes) == [192, 192]
        link = browser.find("#download")
        assert link.is_displayed() and link.get_attribute("download") == "192x128-bright.png"
        assert (
            downloaded(browser)
            == served.ask(
                "POST", "/v1/enhance", (photos / "192x128.png").read_bytes(), Authorization="Bearer secret"
            ).body
        )
        move = "const e = document.getElementById(arguments[0]);"
        move += "e.value = arguments[1]; e.dispatchEvent(new Event('input'))"
        browser.run(move, "edge", 20)
        assert browser.run("return document.getElementById('frame').style.getPropertyValue('--at')") == "20%"
        first = downloaded(browser)
        browser.run(move, "exposure", 2)
        until(lambda: downloaded(browser) != first)
        assert browser.find("#stops").text == "+2"
        (tmp_path / "notes.txt").write_text("no picture")
        browser.find("#file").send_keys(str(tmp_path / "notes.txt"))
        until(lambda: "cannot read 'picture'" in browser.find("#state").text)
        assert not [line for line in browser.problems() if "401" not in line and "422" not in line]
        assert {address.split("/")[2] for address in browser.requests() if address.startswith("http")} == {
            f"127.0.0.1:{served.port}"
        }


def downloaded(browser: Browser) -> bytes:
    """What the page offers for download."""
    script = "return result.arrayBuffer().then((bytes) => [...new Uint8Array(bytes)])"
    return bytes(browser.run(script))
