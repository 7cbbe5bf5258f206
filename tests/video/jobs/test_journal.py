"""The folder of a job: its journal and the enhancer's state, as they were, damaged, or of another job."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support import clips
from support.passing import Listener, pass_through

pytest.importorskip("av")

from lldiffusion.errors import LLDiffusionError
from lldiffusion.video.jobs.journal import JobJournal
from lldiffusion.video.writing.outputs import parts_folder


def interrupted(*_: object) -> None:
    """Ctrl-C while the file is put together."""
    raise KeyboardInterrupt


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return clips.plain(tmp_path / "in.mp4")


def test_what_was_asked_must_stay_the_same(tmp_path: Path) -> None:
    journal = JobJournal({"seed": 1, "model": "tiny"}, 2, folder=tmp_path / "out.mp4.parts")
    journal.start()
    again = JobJournal.open(journal.folder)
    assert again == journal
    again.check_request({"seed": 1, "model": "tiny"})
    with pytest.raises(LLDiffusionError, match="seed was 1 and is 2"):
        again.check_request({"seed": 2, "model": "tiny"})


DAMAGES = [b"", b"{", b'{"version": 99}', b'{"version": 2}', b"[]", b"\xff", b"[" * 100_000]
DAMAGES += [b'{"version": 2, "request": {}, "encoder_threads": "two"}']
DAMAGES += [b'{"version": 2, "request": {}, "encoder_threads": 1, "segments": [{"name": 3}]}']


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_journal_is_named(damage: bytes, tmp_path: Path) -> None:
    (tmp_path / "journal.json").write_bytes(damage)
    with pytest.raises(LLDiffusionError, match="is damaged"):
        JobJournal.open(tmp_path)
    with pytest.raises(LLDiffusionError, match="nothing to resume"):
        JobJournal.open(tmp_path / "nowhere")


@pytest.mark.parametrize("damage", ["cut", "zeros", "empty", "gone", "overwritten"])
def test_a_damaged_state_is_named(damage: str, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "out.mp4"
    monkeypatch.setattr("lldiffusion.video.writing.outputs.assemble", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pass_through(clip, target, memory=0.9)
    (state,) = parts_folder(str(target)).glob("state-*.npz")
    whole = state.read_bytes()
    state.unlink()
    if damage != "gone":
        made = {"cut": whole[:-30], "zeros": bytes(len(whole)), "empty": b"", "overwritten": whole[:80] + bytes(40)}
        state.write_bytes(made[damage] + (whole[120:] if damage == "overwritten" else b""))
    with pytest.raises(LLDiffusionError, match=r"cannot resume .*; start again with -y"):
        JobJournal.open(state.parent).load_state()


def test_the_journal_is_readable(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "out.mp4.parts"
    listener = Listener()
    monkeypatch.setattr("lldiffusion.video.writing.outputs.assemble", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pass_through(clip, tmp_path / "out.mp4", listener=listener)
    held = json.loads((folder / "journal.json").read_text())
    assert [segment["frames"] for segment in held["segments"]] == [10, 10, 5]
    assert (listener.total, listener.done, listener.frames) == (25, 0, 25)
