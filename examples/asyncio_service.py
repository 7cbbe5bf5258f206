"""asyncio: one enhancer behind a service that many clients call at the same time.

    python examples/asyncio_service.py 8765

The model runs in threads, so that the event loop goes on answering; a semaphore bounds how many pictures are worked
on, and with them the memory.  On the wire: NumPy's .npy format, (H, W, 3) uint8, behind 4 bytes with its length; a
length of 0 is followed by the length and text of an error.
"""

from __future__ import annotations

import asyncio
import io
import struct
import sys

import numpy as np
from numpy.typing import NDArray

from lldiffusion import Enhancer, LLDiffusionError

AT_ONCE = 2  # pictures in work; more wait for their turn
LARGEST = 64 * 2**20  # bytes of a request


class EnhancerService:
    """`await service.enhance(pixels)` from any task of one event loop."""

    def __init__(self, enhancer: Enhancer, at_once: int = AT_ONCE) -> None:
        self._enhancer, self._turn = enhancer, asyncio.Semaphore(at_once)

    async def enhance(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Raises LLDiffusionError as the enhancer does.

        A thread cannot be cancelled: when the caller is, the turn goes on until the thread has ended.
        """
        await self._turn.acquire()
        work = asyncio.get_running_loop().run_in_executor(None, self._enhancer, pixels)
        work.add_done_callback(self._ended)
        return await asyncio.shield(work)

    def _ended(self, work: asyncio.Future[NDArray[np.uint8]]) -> None:
        self._turn.release()
        if not work.cancelled():
            work.exception()  # looked at: nobody may be waiting for it any more

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it closes."""
        try:
            while True:
                try:
                    pixels = unpack(await receive(reader))
                    bright = io.BytesIO()
                    np.save(bright, await self.enhance(pixels))
                    send(writer, bright.getvalue())
                except (LLDiffusionError, TypeError, ValueError) as error:  # the client's mistake: tell, and go on
                    send(writer, b"")
                    send(writer, str(error).encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has gone
        finally:
            writer.close()


async def receive(reader: asyncio.StreamReader) -> bytes:
    """One message."""
    (length,) = struct.unpack("!I", await reader.readexactly(4))
    if length > LARGEST:
        raise ConnectionError(f"a message of {length} bytes")
    return await reader.readexactly(length)


def unpack(message: bytes) -> NDArray[np.uint8]:
    """The picture in a message; ValueError when it holds none."""
    try:
        pixels = np.load(io.BytesIO(message), allow_pickle=False)
    except Exception as error:  # of a dozen kinds, and the client's fault all of them
        raise ValueError(f"not a picture in NumPy's .npy format: {error}") from error
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8:
        raise ValueError("not a picture in NumPy's .npy format: a uint8 array of shape (H, W, 3) is needed")
    return pixels


def send(writer: asyncio.StreamWriter, message: bytes) -> None:
    """One message."""
    writer.write(struct.pack("!I", len(message)) + message)


async def main(port: int, host: str = "127.0.0.1") -> None:
    """Serve until Ctrl-C."""
    with Enhancer.open("tiny") as enhancer:
        service = EnhancerService(enhancer)
        server = await asyncio.start_server(service.answer, host, port)
        print(f"listening on {host}:{server.sockets[0].getsockname()[1]}", flush=True)
        async with server:
            await server.serve_forever()


if __name__ == "__main__":
    if len(sys.argv) != 2 or not sys.argv[1].isdecimal() or int(sys.argv[1]) > 65535:
        sys.exit("usage: python examples/asyncio_service.py PORT   (0 takes a free one)")
    try:
        asyncio.run(main(int(sys.argv[1])))
    except KeyboardInterrupt:
        print("stopped")
    except (LLDiffusionError, OSError) as error:
        sys.exit(f"error: {error}")
