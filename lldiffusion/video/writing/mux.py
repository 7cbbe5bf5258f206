"""Putting the whole file together: the new video beside everything else of the input, copied packet by packet."""

from __future__ import annotations

import heapq
import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from lldiffusion.atomic import new_path

from ..reading.inputs import first_video
from .encoding import Encoding
from .segment import Segment, packets

# Facts about the old file that would be wrong about the new one.
_STALE = {
    "encoder",
    "major_brand",
    "minor_version",
    "compatible_brands",
    "vendor_id",
    "duration",
}
_STALE_STARTS = ("bps", "number_of_", "_statistics")  # Matroska's statistics
_APPLE = "com."  # keys that QuickTime files hold only under their own kind of list


@dataclass(frozen=True)
class Cut:
    """The part of the input that is kept, in seconds of the input's own clock."""

    start: Fraction | None = None  # becomes 0; None: everything keeps its time
    end: Fraction | None = None

    def keeps(self, packet: Any) -> bool:
        """Whether a copied packet begins within the cut."""
        time = packet.pts * packet.time_base if packet.pts is not None else None
        if time is None:
            return True
        return not (self.start is not None and time < self.start) and not (self.end is not None and time >= self.end)

    def shift(self, unit: Fraction) -> int:
        """What to take off a timestamp in units of `unit`."""
        return 0 if self.start is None else round(self.start / unit)


def assemble(
    target: Path, folder: Path, segments: list[Segment], encoding: Encoding, other: Any, cut: Cut
) -> list[str]:
    """Write `target`; returns what could not be kept, one line for each.

    Args:
        other: PyAV's container of the input, freshly opened, or None where there is nothing but the video.
        cut: which part of the other streams belongs to it.
    """
    import av

    notes: list[str] = []
    with (
        new_path(target) as temporary,
        av.open(
            str(temporary), "w", format=encoding.container, container_options=_options(encoding.container, other)
        ) as output,
    ):
        video, copies, notes = add_streams(output, encoding, other)
        if other is not None:
            output.metadata.update(_fresh(other.metadata))
            output.set_chapters(_chapters(other, cut))
        new = _dated(packets(folder, segments, encoding.time_base), video, cut)
        for packet in heapq.merge(new, _copied(other, copies, cut), key=_time):
            output.mux(packet)
    return notes


def unkept(encoding: Encoding, other: Any) -> list[str]:
    """What `assemble` will not be able to keep, said before the work begins."""
    import av

    with av.open(io.BytesIO(), "w", format=encoding.container) as output:
        return add_streams(output, encoding, other)[2]


def add_streams(output: Any, encoding: Encoding, other: Any) -> tuple[Any, dict[int, Any], list[str]]:
    """(new video stream, copies by the index of their source, what cannot be copied), in the input's order."""
    if other is None:
        return encoding.add_stream(output), {}, []
    from av.stream import Discard

    video, copies, notes = None, {}, []
    enhanced = enhanced_stream(other)
    if enhanced is None:
        video = encoding.add_stream(output)
    for stream in other.streams:
        if stream.index == enhanced:
            video = encoding.add_stream(output)
            _describe(video, stream)
        elif stream.discard == Discard.all or (stream.type == "data" and "timecode" in stream.metadata):
            continue  # QuickTime's chapter list and timecode track: written anew, from the chapters and the tag
        elif reason := _why_not(stream, encoding.container):
            hint = "" if encoding.container == "matroska" else "; Matroska (.mkv) holds most"
            notes.append(
                f"{stream.type} stream {stream.index} ({stream.name or 'unknown'}) is left out: {encoding.container} "
                f"cannot hold it ({reason}){hint}"
            )
        else:
            copies[stream.index] = output.add_stream_from_template(stream, opaque=True)
            _describe(copies[stream.index], stream)
    return video, copies, notes


def enhanced_stream(other: Any) -> int | None:
    """Index of the stream that the new video replaces; none in a spool, which holds the others only."""
    from av.stream import Disposition

    real = [stream for stream in other.streams.video if not stream.disposition & Disposition.attached_pic]
    return first_video(other, other.name).index if real else None


def _why_not(stream: Any, container: str) -> str | None:
    """None where the container takes the stream as it is."""
    import av

    try:
        with av.open(io.BytesIO(), "w", format=container) as trial:
            trial.add_stream_from_template(stream, opaque=True)
            trial.start_encoding()
    except (av.error.FFmpegError, OSError, ValueError) as error:
        return " ".join((getattr(error, "strerror", None) or str(error)).split())
    return None


def _describe(new: Any, old: Any) -> None:
    """Language, title and the like, and what a player shall do with the stream."""
    new.metadata.update(_fresh(old.metadata))
    new.disposition = old.disposition


def _fresh(metadata: dict[str, str]) -> dict[str, str]:
    return {
        key: value
        for key, value in metadata.items()
        if key.lower() not in _STALE and not key.lower().startswith(_STALE_STARTS)
    }


def _options(container: str, other: Any) -> dict[str, str]:
    """Same bytes from same input; playable before it is loaded whole."""
    options = {"fflags": "+bitexact"}
    if container != "mpegts":  # which has no negative times: all of it comes a little later there
        options["avoid_negative_ts"] = "disabled"
    if container in ("mp4", "mov"):
        apple = other is not None and any(key.startswith(_APPLE) for key in other.metadata)
        options["movflags"] = "+faststart" + "+use_metadata_tags" * apple
    return options


def _chapters(other: Any, cut: Cut) -> list[Any]:
    kept = []
    for chapter in other.chapters():
        unit = chapter["time_base"]
        low = cut.shift(unit)
        high = None if cut.end is None else round(cut.end / unit)
        start, end = max(chapter["start"], low), chapter["end"] if high is None else min(chapter["end"], high)
        if start < end:
            kept.append({**chapter, "start": start - low, "end": end - low})
    return kept


def _dated(new: Iterator[Any], stream: Any, cut: Cut) -> Iterator[Any]:
    for packet in new:
        yield _placed(packet, stream, cut)


def _copied(other: Any, copies: dict[int, Any], cut: Cut) -> Iterator[Any]:
    """The packets of the copied streams; where reading fails, they end."""
    import av

    if not copies:
        return
    try:
        for packet in other.demux([other.streams[index] for index in copies]):
            if packet.size and cut.keeps(packet):
                yield _placed(packet, copies[packet.stream.index], cut)
    except (av.error.FFmpegError, OSError):
        return  # reported when the video was read


def _placed(packet: Any, stream: Any, cut: Cut) -> Any:
    """The packet as one of `stream`, at its new time."""
    shift = cut.shift(packet.time_base)
    if packet.dts is None and packet.stream.type != "video":  # a video's the muxer derives: frames are reordered
        packet.dts = packet.pts
    if packet.pts is not None:
        packet.pts -= shift
    if packet.dts is not None:
        packet.dts -= shift
    packet.stream = stream
    return packet


def _time(packet: Any) -> float:
    ticks = packet.pts if packet.dts is None else packet.dts
    return 0.0 if ticks is None else float(ticks * packet.time_base)
