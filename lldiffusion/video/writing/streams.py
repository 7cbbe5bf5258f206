"""The input's other streams: copied, converted where the container cannot hold them, or left out and named."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any, Protocol

from ..reading.inputs import codec_name, stream_name

TEXT_CODECS = {"mp4": "mov_text", "mov": "mov_text", "matroska": "srt", "webm": "webvtt"}  # of subtitles, by container
AUDIO_CODECS = {"webm": "libopus", "avi": "libmp3lame"}  # for sound that the container cannot hold; AAC elsewhere
AUDIO_NAMES = {"aac": "AAC", "libopus": "Opus", "libmp3lame": "MP3"}
# What players find in MPEG-TS; FFmpeg writes all others as private data.
_MPEGTS = {"mp2", "mp3", "aac", "aac_latm", "ac3", "eac3", "dts", "truehd", "opus", "dvb_subtitle", "dvb_teletext"}
_AVI = {"mp2", "mp3", "ac3", "pcm_s16le", "pcm_u8"}  # what players find in AVI
_OPUS_RATE = 48000  # Hz
_BIT_RATE = 96_000  # of a channel of converted sound, in bit/s


@dataclass(frozen=True)
class TimeRange:
    """The part of the input that is kept, in seconds of the input's own clock."""

    start: Fraction | None = None  # becomes 0; None: everything keeps its time
    end: Fraction | None = None

    def contains(self, item: Any) -> bool:
        """Whether a packet or frame begins within the range."""
        if item.pts is None:
            return True
        time = item.pts * item.time_base
        return not (self.start is not None and time < self.start) and not (self.end is not None and time >= self.end)

    def shift(self, unit: Fraction) -> int:
        """What to take off a timestamp in units of `unit`."""
        return 0 if self.start is None else round(self.start / unit)

    def cut(self, packet: Any) -> bool:
        """Shorten a packet that is shown for some time to the range; False where nothing is left of it."""
        if packet.pts is None or not packet.duration:
            return self.contains(packet)
        unit, begin, end = packet.time_base, packet.pts, packet.pts + packet.duration
        if self.start is not None:
            begin = max(begin, self.shift(unit))
        if self.end is not None:
            end = min(end, round(self.end / unit))
        if begin >= end:
            return False
        packet.pts = packet.dts = begin
        packet.duration = end - begin
        return True


class OtherStream(Protocol):
    """A stream of the output that is made from one of the input."""

    output: Any  # PyAV's stream
    name: str  # in messages
    damaged: int  # packets that were left out

    def convert(self, packet: Any) -> Iterator[Any]:
        """The output's packets for one of the input's; for None, the end, those that still wait."""


class CopiedStream:
    """Packets as they are, at their new time."""

    def __init__(self, output: Any, name: str, time_range: TimeRange) -> None:
        self.output = output
        self.name = name
        self.damaged = 0
        self._time_range = time_range
        self._last_dts: int | None = None
        self._next_pts: int | None = None  # where the last packet ends

    def convert(self, packet: Any) -> Iterator[Any]:
        """As `OtherStream.convert`."""
        if packet is None:
            return
        if packet.stream.type != "video":  # a video's times the muxer derives: frames are reordered
            self._complete_times(packet)
        if not self._keeps(packet):
            return
        if self._is_in_order(packet):
            yield retimed(packet, self.output, self._time_range)
        else:
            self.damaged += 1

    def _complete_times(self, packet: Any) -> None:
        """A packet without a time follows the one before."""
        if packet.pts is None:
            packet.pts = self._next_pts if packet.dts is None else packet.dts
        if packet.dts is None:
            packet.dts = packet.pts
        if packet.pts is not None:
            self._next_pts = packet.pts + (packet.duration or 0)

    def _keeps(self, packet: Any) -> bool:
        return self._time_range.cut(packet) if packet.stream.type == "subtitle" else self._time_range.contains(packet)

    def _is_in_order(self, packet: Any) -> bool:
        """Whether a muxer takes the packet's times: damaged ones run backwards."""
        if packet.dts is None:
            return packet.stream.type == "video"
        if packet.pts is not None and packet.pts < packet.dts:
            return False
        subtitle = packet.stream.type == "subtitle"  # several may begin at the same time
        if self._last_dts is not None and packet.dts < self._last_dts + (not subtitle):
            return False
        self._last_dts = packet.dts
        return True


class ReencodedAudio:
    """Sound in another codec; frames that cannot be decoded become silence."""

    def __init__(self, stream: Any, output: Any, name: str, time_range: TimeRange) -> None:
        self.output = output
        self.name = name
        self.damaged = 0
        self._time_range = time_range
        self._graph = _silence_filler(stream, output)

    def convert(self, packet: Any) -> Iterator[Any]:
        """As `OtherStream.convert`."""
        from av.error import FFmpegError

        try:
            frames = [] if packet is None else packet.decode()
        except FFmpegError:
            self.damaged += 1
            return
        for frame in frames:
            if self._time_range.contains(frame):
                frame.pts = None if frame.pts is None else frame.pts - self._time_range.shift(frame.time_base)
                self._graph.push(frame)
        if packet is None:
            self._graph.push(None)
        yield from self._encoded(at_end=packet is None)

    def _encoded(self, at_end: bool) -> Iterator[Any]:
        from av.error import BlockingIOError as NotYet
        from av.error import EOFError as Ended

        while True:
            try:
                yield from self.output.encode(self._graph.pull())
            except (NotYet, Ended):
                break
        if at_end:
            yield from self.output.encode(None)


def _silence_filler(stream: Any, output: Any) -> Any:
    """A filter graph to the encoder's kind of samples that fills gaps with silence, so that sound stays in time."""
    import av

    context = output.codec_context
    graph = av.filter.Graph()
    kind = f"sample_fmts={context.format.name}:sample_rates={context.sample_rate}:channel_layouts={context.layout.name}"
    source = graph.add_abuffer(template=stream)
    chain = [source, graph.add("aresample", "async=1"), graph.add("aformat", kind), graph.add("abuffersink")]
    for here, following in pairwise(chain):
        here.link_to(following)
    graph.configure()
    return graph


class ConvertedSubtitles:
    """Text subtitles in the container's own kind."""

    def __init__(self, stream: Any, output: Any, name: str, time_range: TimeRange) -> None:
        self.output = output
        self.name = name
        self.damaged = 0
        self._time_range = time_range
        self._decoder = stream.codec_context
        self._decoder.open(strict=False)  # only then is its header known
        output.codec_context.subtitle_header = self._decoder.subtitle_header

    def convert(self, packet: Any) -> Iterator[Any]:
        """As `OtherStream.convert`."""
        from av.error import FFmpegError

        if packet is None or packet.pts is None or not packet.duration or not self._time_range.cut(packet):
            return
        try:
            subtitle = self._decoder.decode2(packet)
            if not subtitle:
                return
            encoded = self.output.codec_context.encode_subtitle(subtitle)
        except FFmpegError:
            self.damaged += 1
            return
        encoded.pts = encoded.dts = packet.pts
        encoded.duration = packet.duration
        encoded.time_base = packet.time_base
        yield retimed(encoded, self.output, self._time_range)


def retimed(packet: Any, stream: Any, time_range: TimeRange) -> Any:
    """The packet as one of `stream`, at its new time."""
    shift = time_range.shift(packet.time_base)
    if packet.pts is not None:
        packet.pts -= shift
    if packet.dts is not None:
        packet.dts -= shift
    packet.stream = stream
    return packet


def add_other_stream(
    output: Any, stream: Any, time_range: TimeRange, repair: bool, compatible: bool = False
) -> tuple[OtherStream | None, str]:
    """What becomes of one of the input's streams in `output`, a PyAV container, and what to say of it.

    It is copied and nothing said (""), or converted, or left out (None).

    Args:
        repair: decode sound and encode it again, for its packets are damaged.
        compatible: sound becomes AAC, which every phone plays.
    """
    container, name = output.format.name, stream_name(stream)
    if stream.type != "attachment" and codec_name(stream) is None:
        return None, f"{name} is left out: FFmpeg does not know its codec"
    repair = repair and stream.type == "audio" and _can_decode(stream)
    reason = _reason_to_refuse(stream, container)
    if compatible and stream.type == "audio" and codec_name(stream) != "aac" and _can_decode(stream):
        reason, why = "not AAC", "--compatible"
    else:
        why = "its packets are damaged" if repair else f"{container} cannot hold it as it is"
    if reason is None and not repair:
        return CopiedStream(output.add_stream_from_template(stream, opaque=True), name, time_range), ""
    if stream.type == "audio" and _can_decode(stream):
        codec = AUDIO_CODECS.get(container, "aac")
        converted = ReencodedAudio(stream, _add_audio(output, stream, codec), name, time_range)
        return converted, f"{name} is re-encoded to {AUDIO_NAMES[codec]}: {why}"
    if stream.type == "subtitle" and container in TEXT_CODECS and _is_text(stream):
        codec = TEXT_CODECS[container]
        subtitles = ConvertedSubtitles(stream, output.add_stream(codec), name, time_range)
        return subtitles, f"{name} is converted to {codec}: {container} cannot hold it as it is"
    hint = "" if container == "matroska" else "; Matroska (.mkv) holds most"
    return None, f"{name} is left out: {container} cannot hold it ({reason}){hint}"


def _add_audio(output: Any, stream: Any, codec: str) -> Any:
    """An encoder for the stream's rate and channels, or the nearest that it takes."""
    import av

    rates = (_OPUS_RATE,) if codec == "libopus" else av.Codec(codec, "w").audio_rates
    rate = stream.codec_context.sample_rate
    channels = stream.codec_context.layout.nb_channels
    layout = {1: "mono", 6: "5.1", 8: "7.1"}.get(channels, "stereo")
    if codec == "libmp3lame" and channels > 2:
        layout = "stereo"
    if rate not in rates:
        rate = min(rates, key=lambda known: (known < rate, abs(known - rate)))
    new = output.add_stream(codec, rate=rate, layout=layout)
    new.bit_rate = _BIT_RATE * new.codec_context.layout.nb_channels
    return new


def _can_decode(stream: Any) -> bool:
    return bool(stream.codec_context.sample_rate and stream.codec_context.layout.nb_channels)


def _is_text(stream: Any) -> bool:
    return bool(stream.codec_context.codec.text_sub)


def _is_found(stream: Any, container: str) -> bool:
    """Whether players find what FFmpeg writes without complaint."""
    known = {"mpegts": _MPEGTS, "avi": _AVI}.get(container)
    return known is None or stream.codec_context.codec.canonical_name in known


def _reason_to_refuse(stream: Any, container: str) -> str | None:
    """None where the container takes the stream as it is."""
    import av

    if stream.type in ("audio", "subtitle") and not _is_found(stream, container):
        return "players would not find it"
    try:
        with av.open(io.BytesIO(), "w", format=container) as trial:
            trial.add_stream_from_template(stream, opaque=True)
            trial.start_encoding()
    except (av.error.FFmpegError, OSError, ValueError) as error:
        return " ".join((getattr(error, "strerror", None) or str(error)).split())
    return None
