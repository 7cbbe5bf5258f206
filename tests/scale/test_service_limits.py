"""What the service does with too many, too slow, and too little: places, times, tokens, silence."""

from __future__ import annotations

import io
import socket

import pytest
from PIL import Image as Pillow

from lldiffusion.scale.service import protocol
from support.serving import Gate, picture, serving, until


@pytest.fixture(scope="module")
def photo() -> bytes:
    return picture("PNG")


def test_a_full_queue_says_when_to_come_back(photo: bytes) -> None:
    gate = Gate()
    with serving(gate, queue=1) as served:
        held = [served.begin(photo) for _ in range(2)]
        until(lambda: served.service.queue.taken == 2)
        refused = served.ask("POST", "/v1/enhance", photo)
        assert refused.status == 429 and int(refused.headers["Retry-After"]) >= 1
        assert served.ask("GET", "/readyz").status == 200
        gate.open.set()
        assert [connection.recv(15) for connection in held] == [b"HTTP/1.1 200 OK"] * 2
        for connection in held:
            connection.close()


def test_a_client_that_hangs_up_frees_its_place(photo: bytes) -> None:
    with serving(Gate(), queue=1) as served:
        working, waiting = served.begin(photo), served.begin(photo)
        until(lambda: served.service.queue.taken == 2 and served.service.queue.working == 1)
        waiting.close()
        until(lambda: served.service.queue.taken == 1)
        working.close()  # its thread ends at the next step
        until(lambda: served.service.queue.taken == served.service.queue.working == 0)
        assert list(served.service.folder.iterdir()) == []


def test_what_takes_too_long_is_503(photo: bytes) -> None:
    with serving(Gate(), timeout=0.1) as served:
        answer = served.ask("POST", "/v1/enhance", photo)
        assert answer.status == 503 and "not done within 0.1 s" in answer.json["error"]
        assert int(answer.headers["Retry-After"]) >= 1
        until(lambda: served.service.queue.working == 0)


def test_a_service_that_is_told_to_stop_answers_what_it_has(photo: bytes) -> None:
    gate = Gate()
    with serving(gate) as served:
        connection = served.begin(photo)
        until(lambda: served.service.queue.working == 1)
        served.server.should_exit = True
        until(lambda: not served.server.servers[0].is_serving())
        with pytest.raises(ConnectionError):  # nobody new is let in
            served.begin(photo)
        gate.open.set()
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
        connection.close()


def test_only_who_bears_the_token_is_served(photo: bytes) -> None:
    gate = Gate()
    gate.open.set()
    with serving(gate, token="secret") as served:
        assert served.ask("POST", "/v1/enhance", photo).status == 401
        assert served.ask("GET", "/metrics").headers["WWW-Authenticate"] == "Bearer"
        assert served.ask("GET", "/v1/models", Authorization="Bearer secreT").status == 401
        assert served.ask("POST", "/v1/enhance", photo, Authorization="Bearer secret").status == 200
        assert [served.ask("GET", path).status for path in ("/", "/healthz", "/readyz", "/openapi.json")] == [200] * 4
        assert served.ask("GET", "/openapi.json").json["security"] == [{"token": []}]


def test_a_connection_that_says_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "SECONDS", 0.05)
    with serving(Gate()) as served, served.begin(b"") as asking:
        with socket.create_connection(("127.0.0.1", served.port), timeout=10) as silent:
            assert silent.recv(1) == b""
        assert asking.recv(12) == b"HTTP/1.1 400"  # one that has asked is answered


def test_who_does_not_take_the_answer_is_hung_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "SECONDS", 0.1)
    gate, file = Gate(), io.BytesIO()
    gate.open.set()
    Pillow.new("RGB", (1800, 1800)).save(file, "BMP")  # 10 MB: more than sockets hold
    with serving(gate) as served, served.begin(file.getvalue()) as stuck:
        until(lambda: len(served.server.server_state.connections) == 1)
        until(lambda: len(served.server.server_state.connections) == 0)
        assert stuck.recv(15) == b"HTTP/1.1 200 OK"  # as much as was on its way
