"""Putting the whole file together: the new video beside everything else of the input."""

from __future__ import annotations

import heapq
import io
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

from lldiffusion.atomic import new_path
from lldiffusion.errors import LLDiffusionError

from ..reading.inputs import file_url, first_video, open_input
from .avi import Grid
from .encoding import Encoding
from .segment import Segment, packets
from .streams import OtherStream, TimeRange, add_other_stream, retimed

# What is stated about the old file that would be wrong about the new one.
_OUTDATED_TAGS = {
    "encoder",
    "major_brand",
    "minor_version",
    "compatible_brands",
    "vendor_id",
    "duration",
    "alpha_mode",  # which the muxer writes where it is true
}
_OUTDATED_PREFIXES = ("bps", "number_of_", "_statistics")  # Matroska's statistics
_APPLE_PREFIX = "com."  # keys that QuickTime files hold only under their own kind of list


class _DamagedStreams(Exception):
    """A muxer refused packets, and whose they were is not known: it keeps some back before it writes them."""


def assemble(
    target: Path, folder: Path, segments: list[Segment], encoding: Encoding, source: str | None, time_range: TimeRange
) -> list[str]:
    """Write `target`; returns what turned out to be damaged, one line for each stream.

    Args:
        source: file or URL of the other streams, or None where there is nothing but the video.
        time_range: the part of the other streams that belongs to it.
    Raises LLDiffusionError when the container does not take the other streams, for they are damaged.
    """
    for repair in (False, True):
        new = packets(folder, segments, encoding.time_base)
        try:
            with open_input(source, {}, None) if source is not None else nullcontext() as opened:
                return _write_file(target, new, encoding, opened, time_range, repair)
        except _DamagedStreams as error:
            refusal = error
    raise LLDiffusionError(
        f"{encoding.container} does not take the other streams of the input, which are damaged ({refusal}): "
        "choose another container, such as .mkv"
    )


def _write_file(
    target: Path, new: Iterator[Any], encoding: Encoding, source: Any, time_range: TimeRange, repair: bool
) -> list[str]:
    """As `assemble`; with `repair`, sound is decoded and encoded again.  Raises _DamagedStreams."""
    import av

    options = _muxer_options(encoding.container, source)
    with new_path(target) as temporary:
        output = av.open(file_url(temporary), "w", format=encoding.container, container_options=options)
        try:
            video, others, notes = add_streams(output, encoding, source, time_range, repair)
            if source is not None:
                output.metadata.update(_kept_metadata(source.metadata))
                output.set_chapters(_chapters(source, time_range))
            grid = Grid(encoding.frame_rate, time_range.start or Fraction(0)) if encoding.container == "avi" else None
            output.start_encoding()  # here, so that what a header cannot hold is no damaged packet
            placed = grid.places(new) if grid is not None else new
            retimed_video = (retimed(packet, video, TimeRange() if grid else time_range) for packet in placed)
            _mux(output, heapq.merge(retimed_video, _other_packets(source, others), key=_time), others)
        except BaseException:
            with suppress(Exception):  # the first thing that went wrong is what counts
                output.close()
            raise
        _close(output, others)
    damaged = [f"{s.name}: {s.damaged} damaged packets are left out" for s in others.values() if s.damaged]
    return damaged + (notes if repair else []) + (grid.notes() if grid is not None else [])


def stream_notes(encoding: Encoding, source: Any) -> list[str]:
    """Which streams of the input `assemble` will convert or leave out, said before the work begins."""
    import av

    with av.open(io.BytesIO(), "w", format=encoding.container) as output:
        return add_streams(output, encoding, source, TimeRange())[2]


def add_streams(
    output: Any, encoding: Encoding, source: Any, time_range: TimeRange, repair: bool = False
) -> tuple[Any, dict[int, OtherStream], list[str]]:
    """(new video stream, the others by the index of their source, what is not copied), in the input's order.

    Args:
        repair: decode sound and encode it again, for its packets are damaged.
    """
    if source is None:
        return encoding.add_stream(output), {}, []
    from av.stream import Discard

    video, others, notes = None, {}, []
    enhanced = enhanced_stream(source)
    if enhanced is None:
        video = encoding.add_stream(output)
    for stream in source.streams:
        if stream.index == enhanced:
            video = encoding.add_stream(output)
            _copy_description(video, stream)
        elif stream.discard == Discard.all or (stream.type == "data" and "timecode" in stream.metadata):
            continue  # QuickTime's chapter list and timecode track: written anew, from the chapters and the tag
        else:
            other, note = add_other_stream(output, stream, time_range, repair, encoding.compatible)
            notes += [note] if note else []
            if other is not None:
                others[stream.index] = other
                _copy_description(other.output, stream)
    return video, others, notes


def enhanced_stream(source: Any) -> int | None:
    """Index of the stream that the new video replaces; none in a spool file, which holds the others only."""
    from av.stream import Disposition

    real = [stream for stream in source.streams.video if not stream.disposition & Disposition.attached_pic]
    return first_video(source, source.name).index if real else None


def _mux(output: Any, merged: Iterator[Any], others: dict[int, OtherStream]) -> None:
    """Write all packets; damaged ones of the other streams, which a muxer refuses, are counted."""
    by_output = {stream.output.index: stream for stream in others.values()}
    for packet in merged:
        stream = by_output.get(packet.stream.index)
        try:
            output.mux(packet)
        except _refusals() as error:
            if stream is None and others:
                raise _DamagedStreams(str(getattr(error, "strerror", error))) from error
            if stream is None:
                raise
            stream.damaged += 1


def _close(output: Any, others: dict[int, OtherStream]) -> None:
    """Write what the muxer keeps back, and the rest of the file."""
    try:
        output.close()
    except _refusals() as error:
        if not others:
            raise
        raise _DamagedStreams(str(getattr(error, "strerror", error))) from error


def _refusals() -> tuple[type[Exception], ...]:
    """What FFmpeg's muxers raise for packets that they cannot write."""
    from av.error import ArgumentError, InvalidDataError, PatchWelcomeError

    return ArgumentError, InvalidDataError, PatchWelcomeError


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


def _other_packets(source: Any, others: dict[int, OtherStream]) -> Iterator[Any]:
    """The packets of the other streams; where reading fails, they end."""
    import av

    if not others:
        return
    try:
        for packet in source.demux([source.streams[index] for index in others]):
            if packet.size:
                yield from others[packet.stream.index].convert(packet)
    except (av.error.FFmpegError, OSError):
        pass  # reported when the video was read
    for stream in others.values():
        yield from stream.convert(None)


def _time(packet: Any) -> float:
    ticks = packet.pts if packet.dts is None else packet.dts
    return 0.0 if ticks is None else float(ticks * packet.time_base)
