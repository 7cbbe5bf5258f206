"""Hundreds of damaged clips, unfinished jobs and graphs that are really run: success, or one line of ours.

A quick slice runs by default; `pytest -m slow tests/fuzz` tries LLDIFF_FUZZ inputs of each kind [200].
"""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from lldiffusion.engines import Enhancer
from lldiffusion.video.jobs.journal import JobJournal
from lldiffusion.video.writing.outputs import parts_folder
from support import clips
from support.bundles import rehash
from support.fuzzing import Try, answers
from support.mutations import damaged_bytes, damaged_graph, damaged_table
from support.passing import PassThrough, pass_through
from support.toy import toy_bundle

pytest.importorskip("av")

QUICK = 3  # inputs of each kind by default


def clip(suffix: str, *options: str) -> Try:
    """A short clip with sound, cut or changed, through a whole job with a model that changes nothing."""

    def attempt(folder: Path, chance: random.Random) -> object:
        whole = folder.parent / f"whole{suffix}"
        if not whole.exists():
            clips.ffmpeg(*clips.VIDEO, *clips.SOUND, *options, "-t", "0.4", whole)
        source = folder / f"in{suffix}"
        source.write_bytes(damaged_bytes(whole.read_bytes(), chance))
        return pass_through(source, folder / f"out{suffix}", codec="libx264", crf=40)

    return attempt


def job(folder: Path, chance: random.Random) -> object:
    """A job that was stopped after its first segment, one of its files damaged, resumed."""
    kept = folder.parent / "stopped"
    if not kept.exists():
        stop(kept)
    shutil.copytree(kept, folder / "job")
    source, target = folder / "job" / "in.mp4", folder / "job" / "out.mp4"
    parts = parts_folder(str(target))
    path = chance.choice(sorted(parts.iterdir()))
    if path.suffix == ".json" and chance.random() < 0.7:
        path.write_text(json.dumps(damaged_table(json.loads(path.read_text()), chance)))
    else:
        path.write_bytes(damaged_bytes(path.read_bytes(), chance))
    return pass_through(source, target, codec="libx264", crf=40, memory=0.9, journal=JobJournal.open(parts))


class Stopping(PassThrough):
    """Stops at the 15th frame, in the second segment."""

    frames = 0

    def enhance(self, frame):  # type: ignore[no-untyped-def]
        self.frames += 1
        if self.frames > 15:
            raise RuntimeError("stopped")
        return super().enhance(frame)


def stop(folder: Path) -> None:
    """Make a job with one finished segment in `folder`."""
    folder.mkdir()
    source = clips.plain(folder / "in.mp4")
    with pytest.raises(RuntimeError, match="stopped"):
        pass_through(
            source, folder / "out.mp4", codec="libx264", crf=40, open_enhancer=lambda tile, exact: Stopping(0.9)
        )
    assert JobJournal.open(parts_folder(str(folder / "out.mp4"))).frames == 10


def engine(backend: str) -> Try:
    """A bundle whose manifest agrees with a damaged graph, opened and run."""

    def attempt(folder: Path, chance: random.Random) -> object:
        pytest.importorskip(backend)
        bundle = toy_bundle(folder / "b")
        path = bundle / f"{chance.choice(('encoder', 'color_map', 'denoiser'))}.onnx"
        damage = damaged_graph if chance.random() < 0.8 else damaged_bytes
        path.write_bytes(damage(path.read_bytes(), chance) or b"\x00")
        rehash(bundle)
        with Enhancer.open(bundle, backend=backend) as enhancer:
            return enhancer(np.full((64, 96, 3), 9, np.uint8))

    return attempt


KINDS: dict[str, Try] = {
    "clip .mp4": clip(".mp4", *clips.X264, "-c:a", "aac"),
    "clip .mkv": clip(".mkv", "-c:v", "ffv1", "-pix_fmt", "yuv420p", "-c:a", "flac"),
    "clip .ts": clip(".ts", *clips.X264, "-c:a", "mp2"),
    "job folder": job,
    "engine onnxruntime": engine("onnxruntime"),
    "engine openvino": engine("openvino"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_damaged_inputs(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(answers(KINDS[kind], QUICK, tmp_path, monkeypatch)) <= {"success", "one line"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_damaged_inputs(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = answers(KINDS[kind], int(os.environ.get("LLDIFF_FUZZ", "200")), tmp_path, monkeypatch)
    print("\nfuzzed", kind, dict(found))
    assert set(found) <= {"success", "one line"}
