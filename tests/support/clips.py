"""Video clips for tests, made and looked at with PyAV alone, and with FFmpeg's own programs where those know more.

PyAV makes plain clips and says what a file holds, packet by packet.  The programs make odd clips and are a second
opinion about colours; tests that need them are skipped with a message where they are not installed.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
import subprocess
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

PATTERN = "testsrc2=size=96x64:rate=25"  # moving shapes, saturated edges, a counter
VIDEO = ("-f", "lavfi", "-i", f"{PATTERN}:duration=1")
SOUND = ("-f", "lavfi", "-i", "sine=frequency=440:duration=1:sample_rate=48000")
X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-g", "12", "-pix_fmt", "yuv420p", "-threads", "1")


def program(name: str) -> str:
    """Its path; the test is skipped where it is not installed."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"the video tests check with {name}, which is not installed (Debian: apt install ffmpeg)")
    return found


def ffmpeg(*arguments: str | Path) -> bytes:
    """Run ffmpeg; what it writes to standard output."""
    command = [program("ffmpeg"), "-v", "error", "-y", "-bitexact", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def probe(path: Path, *arguments: str) -> dict[str, Any]:
    """What ffprobe says, as JSON."""
    command = [program("ffprobe"), "-v", "error", "-of", "json", *arguments, str(path)]
    answer: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return answer


def opened(path: Path) -> Any:
    """PyAV's container."""
    return pytest.importorskip("av").open(str(path), metadata_errors="replace")


def stream(path: Path, which: str = "v:0") -> dict[str, Any]:
    """What the header says of a stream ("v:0", "a:1", "s:0", "d:0"), by ffprobe's names."""
    with opened(path) as container:
        return _about(_find(container, which))


def streams(path: Path) -> list[dict[str, Any]]:
    """The same of all streams."""
    with opened(path) as container:
        return [_about(found) for found in container.streams]


def _find(container: Any, which: str) -> Any:
    kind, _, place = which.partition(":")
    names = {"v": "video", "a": "audio", "s": "subtitle", "d": "data"}
    return [found for found in container.streams if found.type == names[kind]][int(place)]


def _about(found: Any) -> dict[str, Any]:
    context = found.codec_context
    about = {
        "codec_type": found.type,
        "codec_name": None if context is None else context.codec.canonical_name,
        "codec_tag_string": _tag(context),
        "tags": dict(found.metadata),
        "disposition": int(found.disposition),
    }
    if found.type == "video":
        names = ("pix_fmt", "width", "height", "has_b_frames", "color_range", "colorspace", "color_trc")
        about |= {name: getattr(context, name) for name in (*names, "color_primaries", "sample_aspect_ratio")}
        about |= {"nb_frames": found.frames, "r_frame_rate": found.base_rate}
    return about


def _tag(context: Any) -> str | None:
    try:
        return None if context is None else str(context.codec_tag)
    except UnicodeDecodeError:  # PyAV expects ASCII, NUT's tags are numbers
        return None


def chapters(path: Path) -> list[tuple[float, float, str]]:
    """(start, end, title) in seconds."""
    with opened(path) as container:
        held = container.chapters()
    return [
        (float(c["start"] * c["time_base"]), float(c["end"] * c["time_base"]), c["metadata"]["title"]) for c in held
    ]


def tags(path: Path) -> dict[str, str]:
    """Of the whole file, in lower case."""
    with opened(path) as container:
        return {key.lower(): value for key, value in container.metadata.items()}


def packet_table(path: Path, which: str = "v:0") -> list[dict[str, Any]]:
    """pts and dts in seconds, pos and size in bytes, and the MD5 of the data of every packet of a stream."""
    with opened(path) as container:
        return [
            {
                "pts": None if packet.pts is None else float(packet.pts * packet.time_base),
                "dts": None if packet.dts is None else float(packet.dts * packet.time_base),
                "pos": packet.pos,
                "size": packet.size,
                "hash": hashlib.md5(bytes(packet)).hexdigest(),
            }
            for packet in container.demux(_find(container, which))
            if packet.size
        ]


def packets(path: Path, which: str) -> list[tuple[str, str]]:
    """(time, hash of the data) of every packet of a stream."""
    return [(f"{packet['pts']:.6f}", packet["hash"]) for packet in packet_table(path, which)]


def decoded(path: Path) -> Iterator[Any]:
    """PyAV's frames of the first video stream."""
    with opened(path) as container:
        yield from container.decode(container.streams.video[0])


def turn(path: Path) -> int:
    """By how many degrees a player turns the video, counter-clockwise."""
    return int(next(decoded(path)).rotation)


def same(one: Path, two: Path) -> bool:
    """Whether two videos are the same file; prints which packets differ where they are not.

    Comparing the bytes in the test would fill the report with them.
    """
    if (first := one.read_bytes()) == (second := two.read_bytes()):
        return True
    print(f"{one.name} has {len(first)} bytes, {two.name} {len(second)}")
    for which in ("v:0", "a:0"):
        pairs = zip(packets(one, which), packets(two, which))
        print(which, "packets that differ:", [place for place, (a, b) in enumerate(pairs) if a != b])
    planes = [samples(path, "yuv420p").reshape(len(times(path)), -1) for path in (one, two)]
    if planes[0].shape == planes[1].shape:
        print("greatest difference of each picture:", np.abs(planes[0] - planes[1]).max(axis=1).tolist())
    return False


def times(path: Path) -> list[str]:
    """When each frame of the video is shown, in seconds."""
    return [f"{float(frame.pts * frame.time_base):.6f}" for frame in decoded(path)]


def samples(path: Path, pixels: str) -> NDArray[np.int32]:
    """Every sample of every frame, plane by plane, unturned; the video must have the pixel format or hold the same."""
    return np.concatenate([_samples(frame, pixels) for frame in decoded(path)])


def _samples(frame: Any, pixels: str) -> NDArray[np.int32]:
    if frame.format.name != pixels:
        assert frame.format.name.replace("yuvj", "yuv").replace("yuva", "yuv") == pixels.replace("yuvj", "yuv")
    kind = np.dtype(np.uint16 if pixels.endswith("le") else np.uint8)
    planes = [np.frombuffer(plane, kind).reshape(-1, plane.line_size // kind.itemsize) for plane in frame.planes[:3]]
    cropped = (held[: plane.height, : plane.width] for held, plane in zip(planes, frame.planes))
    return np.concatenate([plane.ravel() for plane in cropped]).astype(np.int32)


def plain(path: Path, *extra: str) -> Path:
    """H.264 with B-frames and AAC sound, one second; `extra`, of ffmpeg, goes before the output's name."""
    path.write_bytes(_plain(path.suffix, extra))
    return path


@lru_cache
def _plain(suffix: str, extra: tuple[str, ...]) -> bytes:
    """Made once for all tests."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"clip{suffix}"
        if extra:
            ffmpeg(*VIDEO, *SOUND, *X264, "-c:a", "aac", *extra, path)
        else:
            _make(path)
        return path.read_bytes()


def key_frames(path: Path) -> Path:
    """As `plain`, every frame a key frame."""
    _make(path, "1")
    return path


def _make(path: Path, group: str = "12") -> None:
    """What ffmpeg makes of VIDEO, SOUND and X264, by PyAV."""
    import av

    with av.open(str(path), "w", container_options={"fflags": "+bitexact"}) as output:
        options = {"preset": "ultrafast", "bf": "2", "g": group, "threads": "1"}
        video = output.add_stream("libx264", rate=25, options=options)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        video.codec_context.time_base = Fraction(1, 25)
        sound = output.add_stream("aac", rate=48000, layout="mono")
        pictures = _filtered(("testsrc2", "size=96x64:rate=25:duration=1"), ("format", "yuv420p"))
        waves = _filtered(("sine", "frequency=440:duration=1:sample_rate=48000"), ("aformat", "sample_fmts=fltp"))
        for stream, frames in ((video, pictures), (sound, waves)):
            for frame in frames:
                if stream is video:
                    frame.pict_type = av.video.frame.PictureType.NONE  # the encoder chooses, not the source
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))


def _filtered(*filters: tuple[str, str]) -> Iterator[Any]:
    """The frames of a chain of filters that begins with a source."""
    import av

    graph = av.filter.Graph()
    chain = [graph.add(name, arguments) for name, arguments in filters]
    chain.append(graph.add("buffersink" if filters[0][0] != "sine" else "abuffersink"))
    for one, other in itertools.pairwise(chain):
        one.link_to(other)
    graph.configure()
    while True:
        try:
            yield graph.pull()
        except (EOFError, BlockingIOError):
            return


def coloured(path: Path, pixels: str, matrix: str, full: bool, codec: str = "ffv1") -> Path:
    """A clip with tagged colours, converted and tagged by ffmpeg."""
    transfer = {"bt709": "bt709", "bt2020nc": "bt2020-10", "smpte170m": "smpte170m"}[matrix]
    primaries = {"bt2020nc": "bt2020"}.get(matrix, matrix)
    convert = (
        f"scale=out_color_matrix={matrix.removesuffix('nc')}:out_range={'pc' if full else 'tv'}:flags=accurate_rnd"
    )
    tags = ["-colorspace", matrix, "-color_trc", transfer, "-color_primaries", primaries]
    tags += ["-color_range", "pc" if full else "tv"]
    options = ("-preset", "ultrafast") if codec.startswith("libx") else ()
    quiet = ("-x265-params", "log-level=none") if codec == "libx265" else ()
    ffmpeg(*VIDEO, "-vf", f"{convert},format={pixels}", "-c:v", codec, *options, *quiet, *tags, path)
    return path


def variable(path: Path) -> Path:
    """Uneven timestamps: frames 3..9 are left out, those after 15 are shown twice as long."""
    shape = "select='not(between(n,3,9))',setpts='if(gt(N,10),(2*N-10),N)/25/TB'"
    ffmpeg(*VIDEO, *SOUND, "-vf", shape, "-fps_mode", "passthrough", *X264, "-c:a", "aac", path)
    return path


def rich(path: Path) -> Path:
    """Two sound tracks with languages, subtitles, chapters, a title: an .mp4 or .mkv by its suffix."""
    notes = path.with_suffix(".txt")
    chapters = "".join(
        f"[CHAPTER]\nTIMEBASE=1/1000\nSTART={a}\nEND={b}\ntitle={name}\n"
        for a, b, name in ((0, 400, "one"), (400, 1000, "two"))
    )
    notes.write_text(f";FFMETADATA1\ntitle=A walk\nartist=Nobody\n{chapters}")
    lines = path.with_suffix(".srt")
    lines.write_text("1\n00:00:00,100 --> 00:00:00,400\nhello\n\n2\n00:00:00,500 --> 00:00:00,900\nworld\n")
    text = "mov_text" if path.suffix == ".mp4" else "srt"
    inputs = (*VIDEO, *SOUND, "-f", "lavfi", "-i", "sine=frequency=880:duration=1", "-i", lines, "-i", notes)
    maps = ("-map", "0", "-map", "1", "-map", "2", "-map", "3", "-map_metadata", "4", "-map_chapters", "4")
    tags = ("-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=fra", "-metadata:s:s:0", "language=deu")
    ffmpeg(*inputs, *maps, *X264, "-c:a", "aac", "-c:s", text, *tags, path)
    return path
