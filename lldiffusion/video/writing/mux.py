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

# What is stated about the old file that would be wrong about the new one.
_OUTDATED_TAGS = {
    "encoder",
    "major_brand",
    "minor_version",
    "compatible_brands",
    "vendor_id",
    "duration",
}
_OUTDATED_PREFIXES = ("bps", "number_of_", "_statistics")  # Matroska's statistics
_APPLE_PREFIX = "com."  # keys that QuickTime files hold only under their own kind of list


@dataclass(frozen=True)
class TimeRange:
    """The part of the input that is kept, in seconds of the input's own clock."""

    start: Fraction | None = None  # becomes 0; None: everything keeps its time
    end: Fraction | None = None

    def keeps(self, packet: Any) -> bool:
        """Whether a copied packet begins within the range."""
        time = packet.pts * packet.time_base if packet.pts is not None else None
        if time is None:
            return True
        return not (self.start is not None and time < self.start) and not (self.end is not None and time >= self.end)

    def shift(self, unit: Fraction) -> int:
        """What to take off a timestamp in units of `unit`."""
        return 0 if self.start is None else round(self.start / unit)


def assemble(
    target: Path, folder: Path, segments: list[Segment], encoding: Encoding, source: Any, time_range: TimeRange
) -> list[str]:
    """Write `target`; returns what could not be kept, one line for each.

    Args:
        source: PyAV's container of the input, freshly opened, or None where there is nothing but the video.
        time_range: the part of the other streams that belongs to it.
    """
    import av

    notes: list[str] = []
    with (
        new_path(target) as temporary,
        av.open(
            str(temporary), "w", format=encoding.container, container_options=_muxer_options(encoding.container, source)
        ) as output,
    ):
        video, copies, notes = add_streams(output, encoding, source)
        if source is not None:
            output.metadata.update(_kept_metadata(source.metadata))
            output.set_chapters(_chapters(source, time_range))
        new = _video_packets(packets(folder, segments, encoding.time_base), video, time_range)
        for packet in heapq.merge(new, _copied_packets(source, copies, time_range), key=_time):
            output.mux(packet)
    return notes


def unsupported_streams(encoding: Encoding, source: Any) -> list[str]:
    """What `assemble` will not be able to keep, said before the work begins."""
    import av

    with av.open(io.BytesIO(), "w", format=encoding.container) as output:
        return add_streams(output, encoding, source)[2]


def add_streams(output: Any, encoding: Encoding, source: Any) -> tuple[Any, dict[int, Any], list[str]]:
    """(new video stream, copies by the index of their source, what cannot be copied), in the input's order."""
    if source is None:
        return encoding.add_stream(output), {}, []
    from av.stream import Discard

    video, copies, notes = None, {}, []
    enhanced = enhanced_stream(source)
    if enhanced is None:
        video = encoding.add_stream(output)
    for stream in source.streams:
        if stream.index == enhanced:
            video = encoding.add_stream(output)
            _copy_description(video, stream)
        elif stream.discard == Discard.all or (stream.type == "data" and "timecode" in stream.metadata):
            continue  # QuickTime's chapter list and timecode track: written anew, from the chapters and the tag
        elif reason := _reason_to_leave_out(stream, encoding.container):
            hint = "" if encoding.container == "matroska" else "; Matroska (.mkv) holds most"
            notes.append(
                f"{stream.type} stream {stream.index} ({stream.name or 'unknown'}) is left out: {encoding.container} "
                f"cannot hold it ({reason}){hint}"
            )
        else:
            copies[stream.index] = output.add_stream_from_template(stream, opaque=True)
            _copy_description(copies[stream.index], stream)
    return video, copies, notes


def enhanced_stream(source: Any) -> int | None:
    """Index of the stream that the new video replaces; none in a spool file, which holds the others only."""
    from av.stream import Disposition

    real = [stream for stream in source.streams.video if not stream.disposition & Disposition.attached_pic]
    return first_video(source, source.name).index if real else None


def _reason_to_leave_out(stream: Any, container: str) -> str | None:
    """None where the container takes the stream as it is."""
    import av

    try:
        with av.open(io.BytesIO(), "w", format=container) as trial:
            trial.add_stream_from_template(stream, opaque=True)
            trial.start_encoding()
    except (av.error.FFmpegError, OSError, ValueError) as error:
        return " ".join((getattr(error, "strerror", None) or str(error)).split())
    return None


def _copy_description(new: Any, old: Any) -> None:
    """Language, title and the like, and what a player shall do with the stream."""
    new.metadata.update(_kept_metadata(old.metadata))
    new.disposition = old.disposition


def _kept_metadata(metadata: dict[str, str]) -> dict[str, str]:
    return {
        key: value
        for key, value in metadata.items()
        if key.lower() not in _OUTDATED_TAGS and not key.lower().startswith(_OUTDATED_PREFIXES)
    }


def _muxer_options(container: str, source: Any) -> dict[str, str]:
    """Same bytes from same input; playable before it is loaded whole."""
    options = {"fflags": "+bitexact"}
    if container != "mpegts":  # which has no negative times: all of it comes a little later there
        options["avoid_negative_ts"] = "disabled"
    if container in ("mp4", "mov"):
        apple = source is not None and any(key.startswith(_APPLE_PREFIX) for key in source.metadata)
        options["movflags"] = "+faststart" + "+use_metadata_tags" * apple
    return options


def _chapters(source: Any, time_range: TimeRange) -> list[Any]:
    kept = []
    for chapter in source.chapters():
        unit = chapter["time_base"]
        low = time_range.shift(unit)
        high = None if time_range.end is None else round(time_range.end / unit)
        start, end = max(chapter["start"], low), chapter["end"] if high is None else min(chapter["end"], high)
        if start < end:
            kept.append({**chapter, "start": start - low, "end": end - low})
    return kept


def _video_packets(new: Iterator[Any], stream: Any, time_range: TimeRange) -> Iterator[Any]:
    for packet in new:
        yield _retimed(packet, stream, time_range)


def _copied_packets(source: Any, copies: dict[int, Any], time_range: TimeRange) -> Iterator[Any]:
    """The packets of the copied streams; where reading fails, they end."""
    import av

    if not copies:
        return
    try:
        for packet in source.demux([source.streams[index] for index in copies]):
            if packet.size and time_range.keeps(packet):
                yield _retimed(packet, copies[packet.stream.index], time_range)
    except (av.error.FFmpegError, OSError):
        return  # reported when the video was read


def _retimed(packet: Any, stream: Any, time_range: TimeRange) -> Any:
    """The packet as one of `stream`, at its new time."""
    shift = time_range.shift(packet.time_base)
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
