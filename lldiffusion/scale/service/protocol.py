"""HTTP/1.1 as uvicorn speaks it, but who never asks, and who does not take the answer, is hung up on."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

SECONDS = 20.0  # until the header of a connection's first request has to be there, and in which an answer has to move


class PatientProtocol(H11Protocol):
    """One connection."""

    _watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        asyncio.get_running_loop().call_later(SECONDS, self._close_if_silent)

    def pause_writing(self) -> None:
        """More of the answer waits than the client takes at once."""
        super().pause_writing()
        self._look_again(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """It has taken nearly all of it."""
        if self._watch is not None:
            self._watch.cancel()
        super().resume_writing()

    def _close_if_silent(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()

    def _look_again(self, waiting: int) -> None:
        self._watch = asyncio.get_running_loop().call_later(SECONDS, self._abort_if_stuck, waiting)

    def _abort_if_stuck(self, before: int) -> None:
        waiting = self.transport.get_write_buffer_size()
        if waiting >= before:
            self.transport.abort()  # or the answer would lie in memory for as long as the client likes
        else:
            self._look_again(waiting)
