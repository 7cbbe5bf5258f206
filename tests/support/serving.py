"""The service in this process, on a free port of this machine, and the plainest of clients."""

from __future__ import annotations

import http.client
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from lldiffusion.scale.service.options import ServiceOptions
from lldiffusion.scale.service.run import _listen, _server
from support.pictures import dark, photograph

SECONDS = 30  # until something that never happens fails the test


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


@dataclass
class Served:
    """A service that listens."""

    port: int
    server: Any  # uvicorn's
    app: Any
    thread: threading.Thread = field(repr=False)

    @property
    def service(self) -> Any:
        """The service itself, to look inside."""
        return self.app.state.service

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """One request on a connection of its own; in header names, _ stands for -."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named)
        answer = connection.getresponse()
        try:
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def begin(self, body: bytes, length: int | None = None) -> socket.socket:
        """A connection that has sent a picture's header and so much of its body; nothing is read."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS)
        head = f"POST /v1/enhance HTTP/1.1\r\nHost: x\r\nContent-Length: {length or len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        return connection


@contextmanager
def serving(shelf: Any, **options: Any) -> Iterator[Served]:
    """The service of a shelf, in a thread; it is drained at the end of the block."""
    listening = _listen("127.0.0.1", 0)
    with listening:
        server = _server(shelf, ServiceOptions(**options))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        until(lambda: server.started or not thread.is_alive())
        yield Served(listening.getsockname()[1], server, server.config.app, thread)
        server.should_exit = True
        thread.join(SECONDS)
        assert not thread.is_alive(), "the service does not stop"


def ask(port: int, method: str, path: str, body: bytes) -> tuple[int, bytes, str | None]:
    """(status, body, Retry-After); whatever is no answer raises."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, body)
    answer = connection.getresponse()
    try:
        return answer.status, answer.read(), answer.headers["Retry-After"]
    finally:
        connection.close()


def until(condition: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Wait for something that happens soon."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def picture(format_: str, height: int = 64, width: int = 96, **options: object) -> bytes:
    """A dark photograph as a file."""
    file = io.BytesIO()
    pixels = np.round(dark(photograph(height=height, width=width)) * 255).astype(np.uint8)
    Pillow.fromarray(pixels).save(file, format_, **options)
    return file.getvalue()


class Gate:
    """A shelf with one model, which returns its picture as it is, but not before it is let go."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.sources, self.options, self.names = {"gate": "gate"}, dict[str, Any](), ["gate"]

    def enhancer(self, wishes: Any) -> Callable[..., NDArray[np.float32]]:
        """The model, as `Shelf.enhancer`."""

        def enhance(pixels: NDArray[np.float32], progress: Callable[[], None], exposure: float) -> NDArray[np.float32]:
            while not self.open.wait(0.005):
                progress()
            return pixels

        return enhance

    def describe(self) -> list[SimpleNamespace]:
        """Nothing to say."""
        return []

    def close(self) -> None:
        """Nothing to let go of."""
