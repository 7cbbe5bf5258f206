"""`lldiff video` as a user meets it, with a small model."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from lldiffusion.cli import run
from lldiffusion.cli.video_job import seconds
from lldiffusion.config import load_config
from lldiffusion.errors import LLDiffusionError
from lldiffusion.video.jobs.open_model import is_recurrent
from support import clips
from support.browser import browsing
from support.pictures import SMALL
from support.toy import toy_bundle
from support.untrained import see_all

torch = pytest.importorskip("torch")
pytest.importorskip("av")

from lldiffusion.model import LLDiffusion, save_checkpoint  # noqa: E402


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    config = load_config("tiny", [*SMALL, "sampling.steps=1"])
    folder = tmp_path_factory.mktemp("model") / "small"
    save_checkpoint(folder, config, see_all(LLDiffusion(config)).state_dict())
    return str(folder)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """For processes of their own: it needs no PyTorch, whose import takes longer than the video."""
    pytest.importorskip("onnxruntime")
    return ["--model", str(toy_bundle(tmp_path_factory.mktemp("bundle") / "toy")), "--steps", "1"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clips.plain(tmp_path_factory.mktemp("clip") / "in.mp4")


def test_a_clip_with_sound(model: str, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "out.mp4"
    assert run(["video", str(clip), str(target), "--model", model, "--preview", "--piece", "0.5"]) == 0
    out, _ = capsys.readouterr()
    assert re.search(r"^25 frames in [\d.]+ s, [\d.]+ frames/s, slowest stage: \w+$", out, re.MULTILINE)
    assert "flicker" in out
    assert out.endswith(f"enhanced: {target}\n")
    assert clips.times(target) == clips.times(clip)
    assert clips.packets(target, "a:0") == clips.packets(clip, "a:0")
    assert clips.stream(target)["pix_fmt"] == "yuv420p"
    assert not np.array_equal(clips.samples(target, "yuv420p"), clips.samples(clip, "yuv420p"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mp4", "out.mp4.preview.jpg"]
    data = target.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat"), "a browser could not start before the end"


def test_the_same_command_gives_the_same_bytes(model: str, clip: Path, tmp_path: Path) -> None:
    arguments = ["--model", model, "--end", "0.2", "--seed", "3"]
    assert run(["video", str(clip), str(tmp_path / "one.mp4"), *arguments]) == 0
    assert run(["video", str(clip), str(tmp_path / "two.mp4"), *arguments]) == 0
    assert clips.same(tmp_path / "one.mp4", tmp_path / "two.mp4")


def test_pictures_and_back(model: str, clip: Path, tmp_path: Path) -> None:
    pattern = str(tmp_path / "frames" / "%03d.png")
    assert run(["video", str(clip), pattern, "--model", model, "--end", "0.2"]) == 0
    assert [path.name for path in sorted((tmp_path / "frames").iterdir())] == [f"{n:03d}.png" for n in range(5)]
    target = tmp_path / "again.mkv"
    assert (
        run(["video", str(tmp_path / "frames"), str(target), "--model", model, "--fps", "30", "--codec", "ffv1"]) == 0
    )
    stream = clips.stream(target)
    assert stream["r_frame_rate"] == 30
    assert (stream["codec_name"], stream["width"], stream["height"]) == ("ffv1", 96, 64)


def test_from_a_pipe_to_a_pipe(bundle: list[str], clip: Path, tmp_path: Path) -> None:
    sent = clips.ffmpeg("-i", clip, "-t", "0.2", "-f", "yuv4mpegpipe", "-")
    command = [sys.executable, "-m", "lldiffusion", "video", "-", "-", *bundle]
    done = subprocess.run(command, input=sent, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    (tmp_path / "out.y4m").write_bytes(done.stdout)
    assert len(clips.times(tmp_path / "out.y4m")) == 5
    assert b"5 frames in" in done.stderr


def test_ctrl_c_ends_a_live_input_and_keeps_it(bundle: list[str], tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    endless = [
        clips.program("ffmpeg"),
        "-v",
        "quiet",
        "-re",
        "-f",
        "lavfi",
        "-i",
        clips.PATTERN,
        "-f",
        "yuv4mpegpipe",
        "-",
    ]
    command = [sys.executable, "-m", "lldiffusion", "video", "-", str(target), *bundle, "--piece", "0.2"]
    with subprocess.Popen(endless, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as camera:
        with subprocess.Popen(command, stdin=camera.stdout, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as job:
            until = time.monotonic() + 60
            while not (tmp_path / "out.mp4.parts" / "segment-00001.nut").exists() and time.monotonic() < until:
                time.sleep(0.05)
            job.send_signal(signal.SIGINT)
            out, error = job.communicate(timeout=60)
        camera.kill()
    assert job.returncode == 0, error.decode()
    assert b"finishing the video" in error
    assert len(clips.times(target)) == int(out.split()[0]) >= 10


def test_live_drops_frames_and_ends_with_a_file(bundle: list[str], tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    pattern = "testsrc2=size=320x240:rate=400"  # more than any model keeps up with here
    endless = [clips.program("ffmpeg"), "-v", "quiet", "-re", "-f", "lavfi", "-i", pattern, "-f", "yuv4mpegpipe", "-"]
    command = [sys.executable, "-m", "lldiffusion", "video", "--live", "-", str(target), *bundle, "--json"]
    with subprocess.Popen(endless, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as camera:
        with subprocess.Popen(
            [*command, "--piece", "0.5"], stdin=camera.stdout, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as job:
            until = time.monotonic() + 60
            while not (tmp_path / "out.mp4.parts" / "segment-00001.nut").exists() and time.monotonic() < until:
                time.sleep(0.05)
            camera.send_signal(signal.SIGSTOP)  # nothing more comes, and a thread waits for it
            time.sleep(0.3)
            job.send_signal(signal.SIGINT)
            out, error = job.communicate(timeout=60)
        camera.kill()
    assert job.returncode == 0, error.decode()
    table = json.loads(out)
    shown = [float(pts) for pts in clips.times(target)]
    assert len(shown) == table["frames"] >= 3
    assert table["frames read"] == table["frames"] + table["frames dropped"] > 2 * table["frames"]
    assert 0 < table["latency median"] <= table["latency 95 %"] < 2
    assert shown[0] == 0
    assert shown[-1] > 0.5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--live", "IN", "out.mp4"], "waits to be read, leave --live out"),
        (["--live", "--start", "3", "-", "out.mp4"], "what is live begins now"),
        (["--json", "IN", "IN", "folder"], "--json is for one video"),
        (["--pipe", "nut", "IN", "udp://127.0.0.1:9"], "--pipe is for - as OUT"),
        (["IN", "gopher://here"], "accepted are udp://"),
        (["--preset", "fast", "--codec", "ffv1", "IN", "out.mkv"], "ffv1 has no presets"),
    ],
)
def test_what_live_cannot_do(
    arguments: list[str],
    words: str,
    clip: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["video", *[str(clip) if word == "IN" else word for word in arguments]]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("out*"))


def test_a_recurrent_model_is_written_fast(tmp_path: Path) -> None:
    for recurrent in (False, True):
        config = {"model": {"recurrent": recurrent}}
        folder = tmp_path / f"model-{recurrent}"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "model.safetensors").write_bytes(b"")
        assert is_recurrent(str(folder)) is recurrent
    with zipfile.ZipFile(tmp_path / "model.lldiff", "w") as archive:
        archive.writestr("manifest.json", json.dumps({"config": {"model": {"recurrent": True}}}))
    assert is_recurrent(str(tmp_path / "model.lldiff")) is True
    assert is_recurrent("tiny") is False
    assert is_recurrent("live") is True


def test_nothing_is_overwritten_unasked(
    model: str, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out.mp4"
    target.write_bytes(b"precious")
    arguments = ["video", str(clip), str(target), "--model", model, "--end", "0.1"]
    assert run(arguments) == 2
    assert "already there" in capsys.readouterr().err
    assert target.read_bytes() == b"precious"
    assert run([*arguments, "-y"]) == 0
    assert len(clips.times(target)) == 3


def test_an_unfinished_job_is_not_dropped_unasked(
    model: str, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    arguments = ["video", str(clip), str(tmp_path / "out.mp4"), "--model", model, "--end", "0.4", "--piece", "0.2"]
    with monkeypatch.context() as patch:
        patch.setattr("lldiffusion.video.writing.outputs.assemble", interrupt)
        assert run(arguments) == 130
    assert "10 frames are finished and kept: go on with the same command and --resume" in capsys.readouterr().err
    assert run(arguments) == 2
    assert "an unfinished job" in capsys.readouterr().err
    assert run([*arguments, "--resume", "--seed", "1"]) == 2
    assert "seed was 0 and is 1" in capsys.readouterr().err
    assert run([*arguments, "--resume"]) == 0
    assert "(10 frames of earlier runs kept)" in capsys.readouterr().out
    assert run([*arguments, "--resume"]) == 0
    assert capsys.readouterr().out == f"finished already: {tmp_path / 'out.mp4'}\n"
    assert len(clips.times(tmp_path / "out.mp4")) == 10


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{clip}", "{out}/no/out.mp4"], "does not exist"),
        (["no-such.mp4", "{out}/out.mp4"], "no-such.mp4"),
        (["{out}/text.mp4", "{out}/out.mp4"], "not a video that FFmpeg knows"),
        (["{clip}", "{out}/out.wmv"], "accepted are .mp4"),
        (["{clip}"], "no output: give one behind the input"),
        (["{clip}", "{out}/out.mp4", "--codec", "libx256"], "did you mean 'libx265'?"),
        (["{clip}", "{out}/out.mp4", "--codec", "h264_nvenc"], "h264_nvenc cannot write"),
        (["{clip}", "{out}/out.mkv", "--codec", "ffv1", "--crf", "3"], "no quality setting"),
        (["{clip}", "{out}/out.mp4", "--start", "0.5", "--end", "0.5"], "--end 0.5 is not after --start 0.5"),
        (["{clip}", "{out}/out.mp4", "--start", "5"], "no frame from 5 s on in"),
        (["{clip}", "{out}/out.mp4", "--start", "soon"], "time 'soon'"),
        (["{clip}", "{out}/out.mp4", "--tile", "big"], "tile"),
        (["{clip}", "{out}/out.mp4", "--model", "no-such-model"], "no-such-model"),
        (["{clip}", "{out}/out.mp4", "--resume"], "nothing to resume"),
        (["{clip}", "{out}/out.mp4", "--raw", "1x1,gray,1"], "--raw describes standard input"),
        (["{clip}", "{out}/out.mp4", "--fps", "25"], "--fps is for pictures"),
        (["{clip}", "{clip}", "-y"], "would replace the input"),
        (["{clip}", "{out}/out.mp4", "--deinterlace", "yes"], "unknown way to deinterlace 'yes'"),
        (["{clip}", "{out}/out.mp4", "--hdr", "yes"], "unknown way to write HDR 'yes'"),
        (["{clip}", "-", "--pipe", "avi"], "unknown pipe format 'avi'"),
        (["{clip}", "{out}/%03d.png", "--crf", "3"], "--codec, --preset, --crf and --compatible"),
        (["{clip}", "{out}/a.mkv", "--compatible"], "--compatible is for .mp4, .m4v and .mov"),
        (["{clip}", "{out}/a.mp4", "--compatible", "--codec", "libx265"], "--compatible means H.264, not libx265"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], words: str, model: str, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.mp4").write_text("not a video\n" * 100)
    before = clip.read_bytes()
    given = [argument.format(clip=clip, out=tmp_path) for argument in arguments]
    given += [] if "--model" in given else ["--model", model]
    assert run(["video", *given]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert words in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text.mp4"]
    assert clip.read_bytes() == before


def test_times() -> None:
    assert seconds("12.5") == 12.5
    assert seconds("1:30") == 90
    assert seconds("1:02:03.5") == 3723.5
    for wrong in ("", "-1", "1:2:3:4", "nan", "inf", "1:-5"):
        with pytest.raises(LLDiffusionError, match="give seconds"):
            seconds(wrong)


def test_a_browser_plays_it(model: str, tmp_path: Path) -> None:
    source, target = tmp_path / "in.mp4", tmp_path / "out.mp4"
    clips.ffmpeg("-f", "lavfi", "-i", f"{clips.PATTERN}:duration=1", *clips.X264, source)
    assert run(["video", str(source), str(target), "--model", model]) == 0
    page = tmp_path / "page.html"
    page.write_text("<!doctype html><meta charset=utf-8><title>v</title><video src=out.mp4 muted></video>")
    with browsing("--autoplay-policy=no-user-gesture-required") as browser:
        browser.open(page)
        played = browser.run(
            "const video = document.querySelector('video');"
            "return new Promise(done => {"
            "  video.onended = () => done({time: video.currentTime, width: video.videoWidth,"
            "    frames: video.getVideoPlaybackQuality().totalVideoFrames});"
            "  video.onerror = () => done({error: video.error.message});"
            "  video.play().catch(error => done({error: String(error)}));"
            "});"
        )
        assert browser.problems() == []
    assert "error" not in played, played
    assert played["time"] == pytest.approx(1, abs=0.1)
    assert played["width"] == 96
    assert played["frames"] > 20
