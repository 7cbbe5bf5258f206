"""Whether anybody answers at an address: asked once, in seconds, before a library waits for minutes."""

from __future__ import annotations

import socket
from functools import lru_cache
from urllib.parse import urlsplit

SECONDS = 5.0  # until an address has to answer
PORTS = {"http": 80, "https": 443}


def greet(host: str, port: int, greeting: bytes = b"") -> bytes:
    """The first bytes that a server answers to `greeting`; none are waited for where that is empty.

    Raises OSError saying, in a few words, that nobody answers.
    """
    try:
        with socket.create_connection((host, port), timeout=SECONDS) as connection:
            connection.sendall(greeting)
            return connection.recv(9) if greeting else b""
    except TimeoutError as error:
        raise TimeoutError(f"{host}:{port} does not answer within {SECONDS:g} s") from error
    except OSError as error:
        raise OSError(f"nothing answers at {host}:{port} ({error.strerror or error})") from error


def check_web(address: str) -> None:
    """Raises OSError or ValueError when no server answers where an http:// or https:// address points.

    Behind a proxy nothing is asked: then the way there is not ours to try.
    """
    from urllib.request import getproxies, proxy_bypass  # it takes as long to import as a small command

    parts = urlsplit(address)
    host = parts.hostname or ""
    if parts.scheme in getproxies() and not proxy_bypass(host):
        return
    _check(parts.scheme, host, parts.port or PORTS[parts.scheme])


@lru_cache(maxsize=64)
def _check(scheme: str, host: str, port: int) -> None:
    greet(host, port, f"HEAD / HTTP/1.0\r\nHost: {host}\r\n\r\n".encode() if scheme == "http" else b"")
