"""Video clips for tests, made and looked at with FFmpeg's own programs: independent of how the project reads video.

Tests that use them are skipped with a message where ffmpeg and ffprobe are not installed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
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


def stream(path: Path, which: str = "v:0") -> dict[str, Any]:
    """One stream as ffprobe sees it."""
    found: dict[str, Any] = probe(path, "-show_streams", "-select_streams", which)["streams"][0]
    return found


def packets(path: Path, which: str) -> list[tuple[str, str]]:
    """(time, hash of the data) of every packet of a stream."""
    listed = probe(path, "-show_packets", "-show_data_hash", "md5", "-select_streams", which)["packets"]
    return [(packet["pts_time"], packet["data_hash"]) for packet in listed]


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
    """When each frame of the video is shown, as ffprobe decodes it."""
    frames = probe(path, "-show_frames", "-select_streams", "v:0", "-show_entries", "frame=best_effort_timestamp_time")
    return [frame["best_effort_timestamp_time"] for frame in frames["frames"]]


def samples(path: Path, pixels: str) -> NDArray[np.int32]:
    """Every sample of every frame in a pixel format, as ffmpeg decodes it, unturned."""
    arguments = ("-map", "0:v:0", "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", pixels, "-")
    raw = ffmpeg("-noautorotate", "-i", path, *arguments)
    return np.frombuffer(raw, np.uint16 if pixels.endswith("le") else np.uint8).astype(np.int32)


def plain(path: Path, *extra: str) -> Path:
    """H.264 with B-frames and AAC sound, one second; `extra` goes before the output's name."""
    path.write_bytes(_plain(path.suffix, extra))
    return path


@lru_cache
def _plain(suffix: str, extra: tuple[str, ...]) -> bytes:
    """Made once for all tests."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"clip{suffix}"
        ffmpeg(*VIDEO, *SOUND, *X264, "-c:a", "aac", *extra, path)
        return path.read_bytes()


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
