"""GIF, APNG and animated WebP: finished pictures wait without loss, and are put together when all are there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from lldiffusion.atomic import new_path
from lldiffusion.errors import LLDiffusionError

from ..frame import Frame
from ..orientation import swaps_axes, upright
from ..planes import Origin, output_pixels
from ..reading.animation import FOREVER
from ..reading.inputs import file_url, first_video, open_input, stream_name
from ..video_info import VideoInfo
from .encoding import Encoding, encoding_of
from .outputs import ANIMATIONS, remove_stale
from .palette import paletted
from .segment import Segment, VideoSegmentWriter, pictures

_UNITS = {"gif": Fraction(1, 100), "apng": Fraction(1, 1000), "webp": Fraction(1, 1000)}  # seconds
_SHORTEST = {"gif": 2, "apng": 1, "webp": 11}  # of these units: what browsers show as it is said
CODECS = {"gif": "gif", "apng": "apng", "webp": "libwebp_anim"}
_QUALITY = 90  # of WebP, of 100


@dataclass(frozen=True)
class AnimationOutput:
    """An animation; as `VideoFileOutput`."""

    target: Path
    info: VideoInfo
    crf: float | None = None  # of WebP: 0 is lossless, else 100 - crf the quality
    streams: str | None = None  # where the input's other streams would be read

    def __post_init__(self) -> None:
        if self.crf is not None and self.kind != "webp":
            raise LLDiffusionError(f"{self.kind} has no quality setting: leave --crf out")
        if self.info.colour.hdr and self.info.keep_hdr:
            raise LLDiffusionError("animations are SDR: leave --hdr keep out, or name a video file as OUT")

    @property
    def kind(self) -> str:
        """ "gif", "apng" or "webp"."""
        return ANIMATIONS[self.target.suffix.lower()]

    def stream_notes(self) -> list[str]:
        """As `VideoOutput.stream_notes`."""
        notes = ["GIF has 256 colours, and alpha is on or off"] if self.kind == "gif" and self.info.alpha else []
        if self.kind == "gif" and not self.info.alpha:
            notes = ["GIF has 256 colours"]
        if self.streams is not None:
            with open_input(self.streams, {}, None) as source:
                own = first_video(source, source.name).index
                others = [stream_name(stream) for stream in source.streams if stream.index != own]
            notes += [f"{name} is left out: {self.kind} holds pictures only" for name in others]
        return notes

    def open_segment(self, folder: Path, number: int, before: int) -> UprightWriter:
        """As `VideoOutput.open_segment`."""
        return UprightWriter(VideoSegmentWriter(folder, f"segment-{number:05d}.nut", self._lossless()), self.info)

    def finish(self, folder: Path, segments: tuple[Segment, ...]) -> list[str]:
        """As `VideoOutput.finish`."""
        remove_stale(self.target)
        times = Schedule(self.info.time_base, segments, self.kind)

        def waiting() -> Iterator[Any]:
            return times.shown(pictures(folder, list(segments), self.info.time_base))

        with new_path(self.target) as temporary:
            frames = paletted(waiting, self.info.alpha) if self.kind == "gif" else waiting()
            _write(temporary, frames, self, times)
            if self.kind == "webp":
                _set_last_duration(temporary, times.last)
        return times.notes()

    @property
    def plays(self) -> int:
        """As the input; what is no animation plays for ever."""
        return FOREVER if self.info.plays is None else self.info.plays

    def _lossless(self) -> Encoding:
        info = self.info.of_results()
        width, height = (info.height, info.width) if swaps_axes(info.display_matrix) else (info.width, info.height)
        stored = replace(info, width=width, height=height, display_matrix=None, rgb=True, bits=8, pixel_format="gbrp")
        return encoding_of(stored, "nut", "ffv1")


class UprightWriter:
    """A segment of pictures as they are shown: upright, of a standard range."""

    def __init__(self, writer: VideoSegmentWriter, info: VideoInfo) -> None:
        self._writer, self._info, self._colour = writer, info, info.of_results().colour
        self.close, self.abandon = writer.close, writer.abandon

    def add(self, frame: Frame) -> None:
        """As `VideoSegmentWriter.add`."""
        matrix, alpha = self._info.display_matrix, frame.origin.alpha
        pixels = upright(output_pixels(frame.pixels, frame.origin, self._colour), matrix)
        turned = None if alpha is None else upright(alpha[..., None], matrix)[..., 0]
        origin = Origin(duration=frame.origin.duration, alpha=turned)
        self._writer.add(replace(frame, pixels=pixels, origin=origin))


class Schedule:
    """When pictures are shown, in an animation's own unit from 0 on; those too close to the one before are left out."""

    def __init__(self, unit: Fraction, segments: tuple[Segment, ...], kind: str) -> None:
        self.unit = _UNITS[kind]
        self.left_out = 0
        self._source_unit, self._first, self._kind = unit, segments[0].first_pts, kind
        end = segments[-1]
        self.last = max(round((end.last_duration or 1) * unit / self.unit), _SHORTEST[kind])  # how long it is shown
        self._end = end.last_pts

    def shown(self, frames: Iterable[tuple[Any, int]]) -> Iterator[Any]:
        """The frames with their new timestamps."""
        before, self.left_out = None, 0
        for frame, pts in frames:
            time = round((pts - self._first) * self._source_unit / self.unit)
            if before is not None and time - before < _SHORTEST[self._kind]:
                self.left_out += 1
                continue
            frame.pts, frame.time_base, before = time, self.unit, time
            frame.duration = self.last if pts == self._end else 0
            yield frame

    def notes(self) -> list[str]:
        """What was left out, for the report at the end."""
        most = float(1 / (self.unit * _SHORTEST[self._kind]))
        told = f"{self.left_out} pictures are left out: {self._kind} shows at most {most:.0f} a second"
        return [told] if self.left_out else []


def _write(target: Path, frames: Iterator[Any], output: AnimationOutput, times: Schedule) -> None:
    import av

    kind = output.kind
    repeats = {FOREVER: 0, 1: -1}.get(output.plays, output.plays - 1)  # GIF counts these
    options = {"gif": {"loop": f"{repeats}"}, "apng": {"plays": f"{output.plays}"}, "webp": {"loop": f"{output.plays}"}}
    options["apng"]["final_delay"] = f"{times.last}/{times.unit.denominator}"
    container = av.open(file_url(target), "w", format=kind, container_options=options[kind] | {"fflags": "+bitexact"})
    try:
        stream = None
        for frame in frames:
            if stream is None:
                stream = _add_stream(container, output, frame, times.unit)
            picture = frame if kind == "gif" else frame.reformat(format=stream.pix_fmt, threads=1)
            picture.pts, picture.time_base, duration = frame.pts, times.unit, frame.duration
            for packet in stream.encode(picture):
                packet.duration = duration or packet.duration
                container.mux(packet)
        assert stream is not None  # a job has a frame
        container.mux(stream.encode(None))
    except BaseException:
        with suppress(Exception):  # the first thing that went wrong is what counts
            container.close()
        raise
    container.close()


def _add_stream(container: Any, output: AnimationOutput, frame: Any, unit: Fraction) -> Any:
    options = {}
    if output.kind == "webp":
        lossless = output.crf == 0
        quality = _QUALITY if output.crf is None else 100 - output.crf
        options = {"lossless": "1"} if lossless else {"quality": f"{quality:g}"}
    stream = container.add_stream(CODECS[output.kind], rate=output.info.frame_rate, options=options)
    stream.width, stream.height = frame.width, frame.height
    clear = {"gif": "pal8", "apng": "rgba", "webp": "bgra"}
    stream.pix_fmt = "rgb24" if output.kind == "apng" and not output.info.alpha else clear[output.kind]
    stream.time_base = stream.codec_context.time_base = unit
    return stream


def _set_last_duration(path: Path, milliseconds: int) -> None:
    """FFmpeg shows the last picture of a WebP as long as the others on average: write how long it is to be shown.

    A WebP is RIFF; a picture is a chunk "ANMF" with its duration, 24 bits, behind 12 bytes of its place and size.
    """
    data, place, last = bytearray(path.read_bytes()), 12, 0
    while place + 8 <= len(data):
        if data[place : place + 4] == b"ANMF":
            last = place
        size = int.from_bytes(data[place + 4 : place + 8], "little")
        place += 8 + size + size % 2
    if last:
        data[last + 20 : last + 23] = min(milliseconds, (1 << 24) - 1).to_bytes(3, "little")
        path.write_bytes(data)
