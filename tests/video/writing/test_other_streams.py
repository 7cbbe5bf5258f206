"""The input's other streams: copied and cut, converted where the container cannot hold them, left out and named."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from support import clips
from support.passing import Listener, pass_through

av = pytest.importorskip("av")

from lldiffusion.video import VideoSource  # noqa: E402

QUICK: dict[str, Any] = {"codec": "libx264", "crf": 30}


def subtitles(path: Path) -> list[tuple[float, float, str]]:
    """(start, end, text) of the first subtitle stream, as FFmpeg decodes it; gaps left out."""
    with av.open(str(path)) as container:
        stream = container.streams.subtitles[0]
        shown = []
        for packet in container.demux(stream):
            decoded = stream.codec_context.decode2(packet) if packet.size else None
            if decoded and packet.duration:
                start = float(packet.pts * packet.time_base)
                text = b" ".join(rect.dialogue for rect in decoded).decode()
                shown.append((round(start, 2), round(start + float(packet.duration * packet.time_base), 2), text))
    return shown


def sound(path: Path) -> tuple[float, int, NDArray[np.float32]]:
    """(time of the first sample, samples a second, the first channel)."""
    with av.open(str(path)) as container:
        frames = list(container.decode(container.streams.audio[0]))
    resampler = av.AudioResampler(format="fltp")
    held = [piece.to_ndarray()[0] for frame in frames for piece in resampler.resample(frame)]
    return float(frames[0].pts * frames[0].time_base), frames[0].sample_rate, np.concatenate(held)


def wmv(path: Path, seconds: float = 1) -> Path:
    """Windows Media, its sound silent but for a beep from 0.5 to 0.6 s."""
    beep = f"aevalsrc='if(between(t,0.5,0.6),sin(880*PI*t),0)':d={seconds}:s=44100"
    clips.ffmpeg(*clips.VIDEO, "-f", "lavfi", "-i", beep, "-c:v", "wmv2", "-c:a", "wmav2", "-b:a", "128k", path)
    return path


def where_it_beeps(path: Path) -> tuple[float, float]:
    start, rate, samples = sound(path)
    loud = np.flatnonzero(np.abs(samples) > 0.3)
    return start + loud[0] / rate, start + loud[-1] / rate


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "aac"), (".mov", "aac"), (".ts", "aac"), (".webm", "opus")])
def test_sound_that_the_container_cannot_hold_is_converted_and_said(suffix: str, codec: str, tmp_path: Path) -> None:
    source, target, listener = wmv(tmp_path / "in.wmv"), tmp_path / f"out{suffix}", Listener()
    pass_through(source, target, codec=None if suffix == ".webm" else "libx264", crf=30, listener=listener)
    assert len(listener.said) == 1
    assert listener.said[0].startswith(f"audio stream 1 (wmav2) is re-encoded to {'AAC' if codec == 'aac' else 'Opus'}")
    assert clips.stream(target, "a:0")["codec_name"] == codec
    first = float(clips.times(target)[0])
    assert where_it_beeps(target) == pytest.approx((first + 0.5, first + 0.6), abs=0.02)


def test_converted_sound_is_cut_with_the_video(tmp_path: Path) -> None:
    source, target = wmv(tmp_path / "in.wmv"), tmp_path / "out.mp4"
    pass_through(source, target, **QUICK, start=0.2, end=0.8)
    assert where_it_beeps(target) == pytest.approx((0.3, 0.4), abs=0.02)
    start, rate, samples = sound(target)
    assert start + len(samples) / rate == pytest.approx(0.6, abs=0.08)


@pytest.mark.parametrize(
    ("source", "target", "codec"),
    [("in.mkv", "out.mp4", "mov_text"), ("in.mp4", "out.mkv", "subrip"), ("in.mkv", "out.mov", "mov_text")],
)
def test_subtitles_are_converted_and_said(source: str, target: str, codec: str, tmp_path: Path) -> None:
    clip, out, listener = clips.rich(tmp_path / source), tmp_path / target, Listener()
    pass_through(clip, out, **QUICK, listener=listener)
    name = "srt" if clip.suffix == ".mkv" else "mov_text"
    container = {"mkv": "matroska"}.get(out.suffix[1:], out.suffix[1:])
    wanted = "srt" if codec == "subrip" else codec
    assert listener.said == [
        f"subtitle stream 3 ({name}) is converted to {wanted}: {container} cannot hold it as it is"
    ]
    assert clips.stream(out, "s:0")["codec_name"] == codec
    assert subtitles(out) == subtitles(clip)
    assert [text for _, _, text in subtitles(out)] == ["hello", "world"]


def test_ass_is_copied_to_matroska_and_converted_for_mp4(tmp_path: Path) -> None:
    clip = tmp_path / "in.mkv"
    clips.ffmpeg("-i", clips.rich(tmp_path / "plain.mkv"), "-map", "0", "-c", "copy", "-c:s", "ass", clip)
    for suffix, codec in ((".mkv", "ass"), (".mp4", "mov_text")):
        target = tmp_path / f"out{suffix}"
        pass_through(clip, target, **QUICK)
        assert clips.stream(target, "s:0")["codec_name"] == codec
        assert subtitles(target) == subtitles(clip)


@pytest.mark.parametrize(("source", "target"), [("in.mkv", "out.mkv"), ("in.mp4", "out.mp4"), ("in.mkv", "out.mp4")])
def test_subtitles_are_cut_and_not_lost(source: str, target: str, tmp_path: Path) -> None:
    clip = clips.rich(tmp_path / source)
    (_, first_end, _), (second_start, _, _) = subtitles(clip)
    times = [float(time) for time in clips.times(clip)]
    pass_through(clip, tmp_path / target, **QUICK, start=0.2, end=0.72)
    begin = next(time for time in times if time >= times[0] + 0.2)
    kept = [line for line in subtitles(tmp_path / target) if line[2]]
    assert [line[2] for line in kept] == ["hello", "world"]
    assert kept[0][:2] == pytest.approx((0, first_end - begin), abs=0.011)
    assert kept[1][:2] == pytest.approx((second_start - begin, times[0] + 0.72 - begin), abs=0.011)


def with_unknown_tracks(folder: Path) -> Path:
    """A QuickTime file as iPhones make them: timed metadata and sound of kinds that FFmpeg does not know."""
    plain, path = folder / "plain.mov", folder / "in.mov"
    maps = ("-map", "0:0", "-map", "0:1", "-map", "0:2", "-map", "0:3", "-map_chapters", "-1")
    clips.ffmpeg("-i", clips.rich(folder / "rich.mp4"), *maps, "-c", "copy", plain)
    data = plain.read_bytes().replace(b"sbtl", b"meta").replace(b"tx3g", b"mebx")
    before, sound = data[: data.rindex(b"soun")], data[data.rindex(b"soun") :]  # the second sound track
    path.write_bytes(before + sound.replace(b"mp4a", b"apac").replace(b"esds", b"dapa"))
    return path


@pytest.mark.parametrize("suffix", [".mov", ".mp4", ".mkv"])
def test_tracks_of_unknown_codecs_are_left_out_and_named(suffix: str, tmp_path: Path) -> None:
    source, target, listener = with_unknown_tracks(tmp_path), tmp_path / f"out{suffix}", Listener()
    pass_through(source, target, **QUICK, listener=listener)
    assert [line.partition(":")[0] for line in listener.said] == [
        "audio stream 2 (SoundHandler) is left out",
        "data stream 3 (SubtitleHandler) is left out",
    ]
    assert [held["codec_name"] for held in clips.streams(target)] == ["h264", "aac"]
    hashes = [[data for _, data in clips.packets(path, "a:0")] for path in (source, target)]
    assert hashes[0] == hashes[1]
    clips.ffmpeg("-i", target, "-f", "null", "-")  # complains of a broken header


def test_tracks_of_unknown_codecs_on_a_pipe_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with with_unknown_tracks(tmp_path).open("rb") as pipe:
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=pipe))
        source = VideoSource("-", spool=tmp_path / "others.nut")
        assert len(list(source.frames())) == 25
        source.close()
    assert [line.partition(":")[0] for line in source.damage.lines()] == [
        "audio stream 2 (SoundHandler) is left out",
        "data stream 3 (SubtitleHandler) is left out",
    ]
    assert [held["codec_name"] for held in clips.streams(tmp_path / "others.nut")] == ["aac"]


@pytest.mark.parametrize(("name", "target"), [("in.ts", "out.mkv"), ("in.ts", "out.ts"), ("in.ts", "out.mp4")])
def test_damaged_sound_does_not_end_a_job(name: str, target: str, tmp_path: Path) -> None:
    """Every third packet of the sound damaged, several times over; the frames are all there, and it is said."""
    clip, chance, said = clips.plain(tmp_path / name).read_bytes(), random.Random(0), set()
    for number in range(6):
        data = bytearray(clip)
        for start in range(0, len(data) - 187, 188):
            if ((data[start + 1] & 31) << 8 | data[start + 2]) == 0x101 and chance.random() < 0.3:
                for _ in range(chance.randrange(1, 40)):
                    data[start + 4 + chance.randrange(184)] = chance.randrange(256)
        (tmp_path / name).write_bytes(data)
        out = tmp_path / f"{number}-{target}"
        summary = pass_through(tmp_path / name, out, **QUICK)
        assert len(clips.times(out)) == 25
        said |= {note.split(":")[0] for note in summary.notes if "packets are left out" in note}
    assert said == {"audio stream 1 (aac)"}


def test_names_with_a_colon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source, target = Path("2026-01-26T20:57:04.mp4"), Path("out:put.mp4")
    clips.plain(tmp_path / "plain.mp4").rename(source)
    assert pass_through(source, target, **QUICK).frames == 25
    assert sorted(path.name for path in tmp_path.iterdir()) == [str(source), str(target)]
    assert clips.packets(tmp_path / target, "a:0") == clips.packets(tmp_path / source, "a:0")
