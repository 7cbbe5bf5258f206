"""A request's body, within its limits of size and time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from starlette.requests import Request

from .refusals import ClientGone, Refusal

LINGER_BYTES = 64_000_000  # of a refused body that are read, so that the client comes to reading the answer
LINGER_SECONDS = 5.0


async def chunks(request: Request, limit: int, seconds: float) -> AsyncIterator[bytes]:
    """The body, piece by piece.

    Raises Refusal: 413 for more than `limit` bytes, by the header or as they come, 408 when it takes longer than
    `seconds`; and ClientGone.
    """
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > limit:
        raise _too_large(limit)
    try:
        async with asyncio.timeout(seconds):
            size, more = 0, True
            while more:
                piece, more = await _next(request)
                size += len(piece)
                if size > limit:
                    raise _too_large(limit)
                yield piece
    except TimeoutError:
        raise Refusal(408, f"the body did not arrive within {seconds:g} s: send it faster, or a smaller one") from None


async def receive_body(request: Request, limit: int, seconds: float) -> bytes:
    """The whole body; raises as `chunks`, and Refusal (400) for an empty one."""
    body = b"".join([piece async for piece in chunks(request, limit, seconds)])
    if not body:
        raise Refusal(400, "the body is empty: send the bytes of the file as they are, e.g. curl --data-binary @FILE")
    return body


async def linger(request: Request) -> bool:
    """Read on after a refusal, or the client would see its connection break; True when the body ended.

    A client that asks first (`Expect: 100-continue`) has sent nothing and is answered at once.
    """
    if request.headers.get("expect", "").lower() == "100-continue":
        return False
    size = 0
    with suppress(TimeoutError, ClientGone):
        async with asyncio.timeout(LINGER_SECONDS):
            while not _ended(request) and size < LINGER_BYTES:
                size += len((await _next(request))[0])
    return _ended(request)


async def gone(request: Request) -> None:
    """Returns when the client hangs up; to be asked once the body is there."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _next(request: Request) -> tuple[bytes, bool]:
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    more = message.get("more_body", False)
    request.state.ended = not more
    return message.get("body", b""), more


def _ended(request: Request) -> bool:
    return getattr(request.state, "ended", False)


def _too_large(limit: int) -> Refusal:
    return Refusal(413, f"the body is larger than {limit / 1e6:g} MB, the most that is taken here: send a smaller file")
