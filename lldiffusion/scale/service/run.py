"""From options to a process that listens, and drains when it is told to stop."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lldiffusion.errors import LLDiffusionError, require
from lldiffusion.interrupts import Interrupts

from .options import TOKEN, ServiceOptions

if TYPE_CHECKING:
    from uvicorn import Server

PACKAGES = ("starlette", "uvicorn", "prometheus_client")


def serve(models: list[str], engine: dict[str, Any], options: ServiceOptions, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C; requests in work are finished first.

    Args:
        models: what is served, MODEL or NAME=MODEL; the first is the default.
        engine: options of `Enhancer.open`.
        say: is told, in lines, where the service listens.
    Raises LLDiffusionError for models that cannot be opened and addresses that cannot be listened on.
    """
    for package in PACKAGES:
        require(package, "serve", "lldiff serve")
    from .shelf import Shelf, sources_of

    listening = _listen(options.host, options.port)
    with listening, Interrupts(signals=(signal.SIGINT, signal.SIGTERM), raise_second=False):
        server = _server(Shelf(sources_of(models), engine), options)
        listening.listen()  # who comes before the loop runs waits for it
        say(f"listening on {_address(listening)}")
        if options.token is None and not options.local:
            say(f"warning: everybody who reaches {options.host} may use it: set ${TOKEN}")
        server.run(sockets=[listening])
    say("stopped")


def _server(shelf: Any, options: ServiceOptions) -> Server:
    import uvicorn

    from .app import build_app
    from .protocol import PatientProtocol

    logging.getLogger("lldiffusion").addHandler(logging.StreamHandler())
    config = uvicorn.Config(
        build_app(shelf, options),
        http=PatientProtocol,
        ws="none",
        lifespan="on",
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=15,  # seconds
        timeout_graceful_shutdown=round(options.drain),
    )
    return uvicorn.Server(config)


def _listen(host: str, port: int) -> socket.socket:
    """The socket, before a model is opened: an address that cannot be had costs no time."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise LLDiffusionError(f"cannot listen on {host}:{port}: {reason}; choose another --host or --port") from error
    return listening


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
