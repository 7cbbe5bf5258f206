"""What the service is told at its start."""

from __future__ import annotations

from dataclasses import dataclass

from lldiffusion.errors import LLDiffusionError

LOCAL = ("127.0.0.1", "::1", "localhost")
TOKEN = "LLDIFF_TOKEN"  # the environment variable that holds the bearer token


@dataclass(frozen=True)
class ServiceOptions:
    """Limits and address; LLDiffusionError for what makes no sense."""

    host: str = "127.0.0.1"  # the address it listens on: this machine only
    port: int = 8000  # 0 takes a free one
    workers: int = 1  # pictures in work at the same time
    queue: int = 16  # pictures that may wait, those that are being sent among them
    max_megapixels: float = 50.0  # of a picture, by its header
    max_megabytes: float = 64.0  # of a picture's file
    max_steps: int = 50  # denoiser evaluations that a request may ask for
    timeout: float = 120.0  # seconds from a whole request to its answer
    receive: float = 30.0  # seconds that a client may take to send a picture
    drain: float = 60.0  # seconds that requests in work may take once the service is told to stop
    videos: int = 4  # clips that are kept, waiting, in work or done; 0: no clips are taken
    video_megabytes: float = 512.0  # of a clip's file
    keep: float = 3600.0  # seconds that a finished clip can be fetched
    token: str | None = None  # that requests have to bear; None: none

    def __post_init__(self) -> None:
        if self.token is not None and not (self.token.strip() and self.token.isascii()):
            raise LLDiffusionError(f"${TOKEN} is empty or not ASCII: set it to a long random word, or unset it")
        for name in ("workers", "max_megapixels", "max_megabytes", "max_steps", "timeout", "receive"):
            if getattr(self, name) <= 0:
                raise LLDiffusionError(f"{name} {getattr(self, name)}: more than 0 is needed")

    @property
    def max_pixels(self) -> int:
        """Pixels of the largest picture."""
        return round(self.max_megapixels * 1e6)

    @property
    def max_bytes(self) -> int:
        """Bytes of the largest picture's file."""
        return round(self.max_megabytes * 1e6)

    @property
    def local(self) -> bool:
        """Whether only this machine can connect."""
        return self.host in LOCAL
