"""Opening what the user names as input: files, URLs, cameras and standard input; and saying why it cannot be opened."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from lldiffusion.errors import LLDiffusionError, choose, require

LIVE = ("rtsp", "rtsps", "rtmp", "rtmps", "rtp", "udp", "srt", "tcp")  # URLs without an end or a second reading
DEVICES = ("v4l2", "avfoundation", "dshow", "gdigrab", "x11grab")  # FFmpeg's names for cameras and screens
# Files in a folder that are taken for videos.
VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mts", ".wmv", ".flv", ".mpg", ".mpeg"),
    *(".3gp", ".ogv", ".mxf", ".vob", ".y4m", ".gif", ".apng"),
)
_TIMEOUT = 15.0  # seconds without a packet after which a network source is given up


def open_input(name: str, options: dict[str, str], hwaccel: str | None, live: bool = False) -> Any:
    """PyAV's container for `name`; `live`: a thread may be left behind that waits in it.

    Raises LLDiffusionError that says what is wrong with it.
    """
    av = require("av", "video", "reading video")
    device, _, address = name.partition(":")
    if device in DEVICES:
        _check_device(av, device, address)
    elif name != "-" and "://" not in name:
        _check_file(Path(name))
    if name == "-" and not live and _index_comes_last():
        raise LLDiffusionError(
            "standard input is an MP4 or MOV with its index at the end, which a pipe cannot go back from: give the "
            "file's name, or pipe one made with  ffmpeg -i IN -c copy -movflags +faststart"
        )
    try:
        stdin = _Unbuffered() if live and name == "-" else sys.stdin.buffer
        return _open_container(av, name, dict(options), _hardware_decoder(hwaccel), stdin)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        if hwaccel is not None and is_rereadable(name):
            open_input(name, options, None).close()  # says so if the input is at fault
            raise LLDiffusionError(
                f"cannot decode on '{hwaccel}' here ({_reason(error)}): leave the hardware decoder out"
            ) from error
        raise LLDiffusionError(f"cannot read '{name}': {_reason(error)}") from error


def _open_container(av: Any, name: str, options: dict[str, str], hardware: Any, stdin: Any) -> Any:
    device, _, address = name.partition(":")
    format_ = options.pop("format", device if device in DEVICES else None)
    url = name if "://" in name else file_url(Path(name))
    return av.open(
        stdin if name == "-" else address if device in DEVICES else url,
        format=format_,
        container_options=options,
        metadata_errors="replace",
        timeout=_TIMEOUT if "://" in name else None,
        hwaccel=hardware,
    )


class _Unbuffered:
    """Standard input without Python's buffer, whose lock must be free when Python ends: a thread may still wait here.

    The first bytes are waited for at once: here Ctrl-C is heard, inside of FFmpeg it is not.
    """

    def __init__(self) -> None:
        self._head = os.read(sys.stdin.fileno(), 1 << 16)

    def read(self, size: int) -> bytes:
        """At most so many bytes, those that are there; none at the end."""
        given, self._head = self._head[:size], self._head[size:]
        return given or os.read(sys.stdin.fileno(), size)


def first_video(container: Any, name: str) -> Any:
    """The first video stream that is no cover picture."""
    from av.stream import Disposition

    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic and stream.codec_context is not None:
            return stream
    streams = ", ".join(f"{stream.type} ({codec_name(stream) or 'unknown'})" for stream in container.streams)
    raise LLDiffusionError(f"'{name}' holds no video, only {streams or 'nothing'}: give a file with a video stream")


def alpha_decoder(stream: Any) -> Any:
    """A decoder for the alpha channel of VP8 and VP9, which FFmpeg's own do not see; None where there is none.

    Matroska says that there is one by a tag; each packet has a second picture beside it.
    """
    from av.codec import CodecContext

    name = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(codec_name(stream) or "")
    if name is None or stream.metadata.get("alpha_mode") != "1":
        return None
    decoder = CodecContext.create(name, "r")
    decoder.extradata = stream.codec_context.extradata
    return decoder


def file_url(path: Path) -> str:
    """A file as FFmpeg opens it whatever its name is: "20:57.mp4" alone would be taken for a protocol "20"."""
    return f"file:{path}"


def codec_name(stream: Any) -> str | None:
    """FFmpeg's name of a stream's codec; None where FFmpeg does not know it."""
    if stream.type in ("data", "attachment"):
        name: str | None = stream.name
        return name
    return None if stream.codec_context is None else str(stream.codec_context.name)


def stream_name(stream: Any) -> str:
    """A stream in messages: its kind, its number, its codec or else the name that its maker gave it."""
    title = stream.metadata.get("handler_name") or stream.metadata.get("title")
    return f"{stream.type} stream {stream.index} ({codec_name(stream) or title or 'unknown'})"


def is_rereadable(name: str) -> bool:
    """Whether a second opening gives the same frames."""
    head = name.partition(":")[0]
    if name == "-" or head in DEVICES or (head in LIVE and "://" in name):
        return False
    return "://" in name or Path(name).is_file()


def _index_comes_last() -> bool:
    """Whether standard input is a pipe with a file whose pictures ("mdat") come before the index ("moov")."""
    stdin = sys.stdin.buffer
    if stdin.seekable() or not hasattr(stdin, "peek"):
        return False
    head, place = stdin.peek(1 << 12), 0
    while head[4:8] == b"ftyp" and place + 8 <= len(head):
        if head[place + 4 : place + 8] in (b"mdat", b"moov"):
            return head[place + 4 : place + 8] == b"mdat"
        place += max(int.from_bytes(head[place : place + 4], "big"), 8)
    return False


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise LLDiffusionError(f"cannot read '{path}' as a video: it is a folder without images")
    if not path.exists():
        raise LLDiffusionError(f"cannot read '{path}': no such file")
    if path.is_file() and path.stat().st_size == 0:
        raise LLDiffusionError(f"cannot read '{path}': the file is empty")


def _check_device(av: Any, device: str, address: str) -> None:
    known = {alias for name in av.formats_available for alias in name.split(",")}  # "video4linux2,v4l2" is one name
    if device not in known:
        raise LLDiffusionError(
            f"this build of PyAV cannot open {device} devices; let FFmpeg do it:  "
            f"ffmpeg -f {device} -i {address} -f yuv4mpegpipe - | lldiff video - OUT"
        )


def _hardware_decoder(name: str | None) -> Any:
    if name is None:
        return None
    from av.codec.hwaccel import HWAccel, hwdevices_available

    choose(name, hwdevices_available(), "hardware decoder")
    return HWAccel(name, allow_software_fallback=True)


def _reason(error: Exception) -> str:
    from av.error import InvalidDataError

    if isinstance(error, InvalidDataError):
        return "not a video that FFmpeg knows, or damaged at its start"
    reason = getattr(error, "strerror", None) or str(error)
    return " ".join(reason.split())
