"""An answer that says no: a status, one line, and when to come back."""

from __future__ import annotations

from lldiffusion.errors import LLDiffusionError


class Refusal(LLDiffusionError):
    """What the client is told.

    Args:
        status: of HTTP.
        line: what was given, what is accepted, what to do.
        retry_after: seconds after which the same request may succeed; None: it will not.
    """

    def __init__(self, status: int, line: str, retry_after: int | None = None) -> None:
        super().__init__(line)
        self.status = status
        self.retry_after = retry_after


class ClientGone(Exception):
    """Nobody waits for the answer any more."""
