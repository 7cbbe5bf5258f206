"""Every verb that writes, killed at random moments: nothing half under a final name, nothing lost, nothing left over.

100 kills in all; LLDIFF_KILLS changes the number.  After each, everything under a final name must be whole.  In the end
the verb is run (or resumed) without a kill: its result must be that of a run that was never killed, and no hidden
file may be left beside it or among the system's temporary files.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lldiffusion.atomic import TEMPORARY
from lldiffusion.bundle import Bundle
from lldiffusion.images import Image, read_image, write_image
from support import clips
from support.pictures import dark, photograph, write_pairs
from support.toy import toy_bundle

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="no SIGKILL on Windows")]
NEEDED = ("torch", "accelerate", "av", "onnxruntime", "onnxscript")  # imported when it runs: it is mostly left out

TESTS = Path(__file__).parents[1]
SHARES = {"enhance": 0.2, "video": 0.2, "export": 0.15, "build": 0.1, "train": 0.18, "distill": 0.17}  # of the kills
PROFILE = "64x64:64x64:64x64"


class Verbs:
    """The processes of `support.verbs`."""

    def __init__(self, folder: Path) -> None:
        from support.exported import micro_graphs

        (folder / "temp").mkdir()
        self.log = folder / "log"
        paths = os.pathsep.join((str(TESTS.parent), str(TESTS)))
        given = {"PYTHONPATH": paths, "VERBS_LOG": str(self.log), "TMPDIR": str(folder / "temp")}
        given |= {"VERBS_GRAPHS": str(micro_graphs())}
        given |= {"LLDIFF_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._server = subprocess.Popen(
            [sys.executable, "-m", "support.verbs"],
            text=True,
            env=os.environ | given,
            **pipes,  # type: ignore[call-overload]
        )
        assert self._line() == "ready"

    def run(self, arguments: list[str], kill_after: float | None = None) -> int:
        """Exit code; minus the signal's number after a kill so many seconds from the start."""
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps([arguments, kill_after]) + "\n")
        self._server.stdin.flush()
        return os.waitstatus_to_exitcode(int(self._line()))

    def close(self) -> None:
        self._server.stdin.close()
        self._server.wait()
        self._server.stdout.close()

    def _line(self) -> str:
        return self._server.stdout.readline().strip()


@pytest.fixture(scope="module")
def verbs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Verbs]:
    for needed in NEEDED:
        pytest.importorskip(needed)
    serving = Verbs(tmp_path_factory.mktemp("verbs"))
    yield serving
    serving.close()


Command = Callable[[Path], list[str]]  # the command line that begins or goes on in a folder


def enhance(given: Path) -> Command:
    for i, suffix in enumerate((".png", ".tif", ".bmp")):
        (given / "in").mkdir(exist_ok=True)
        write_image(given / "in" / f"{i}{suffix}", Image(dark(photograph())))
    model = str(toy_bundle(given / "toy"))
    return lambda out: ["enhance", str(given / "in"), "-o", str(out), "--model", model, "-y", "-q"]


def video(given: Path) -> Command:
    source, model = clips.plain(given / "in.mp4"), str(toy_bundle(given / "toy"))

    def command(out: Path) -> list[str]:
        target = out / "out.mkv"
        begun = (out / "out.mkv.parts" / "journal.json").exists()
        more = ["--codec", "ffv1", "--resume" if begun else "-y"]  # lossless: x264 now and then answers otherwise
        return ["video", str(source), str(target), "--model", model, "--piece", "0.2", *more]

    return command


def checkpoint(given: Path) -> Path:
    from lldiffusion.model.checkpoint import save_checkpoint
    from support.exported import micro_model

    save_checkpoint(given / "micro", micro_model().config, micro_model().state_dict())
    return given / "micro"


def export(given: Path) -> Command:
    model = checkpoint(given)
    fixed = ["--profile", PROFILE, "--budget", "1", "--half", "-y"]
    return lambda out: ["export", str(model), "-o", str(out / "b.lldiff"), *fixed]


def build(given: Path) -> Command:
    from lldiffusion.export.engine_builder import installed
    from lldiffusion.export.exporter import Settings, export_bundle
    from support.exported import micro_graphs
    from support.verbs import copied_graphs

    if not installed("tensorrt-rtx"):
        pytest.skip('no tensorrt_rtx: pip install "lldiffusion[rtx]"')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VERBS_GRAPHS", str(micro_graphs()))
        patch.setattr("lldiffusion.export.exporter.write_graphs", copied_graphs)
        export_bundle(str(checkpoint(given)), given / "b", settings=Settings(precision="fp16", verify=False))

    def command(out: Path) -> list[str]:
        if not (out / "b").exists():
            subprocess.run(["cp", "-r", str(given / "b"), str(out / "b")], check=True)
        fixed = ["--engine", "tensorrt-rtx", "--effort", "0", "--profile", PROFILE]
        return ["build", str(out / "b"), *fixed]

    return command


def train(given: Path) -> Command:
    from support.micro import MICRO

    pairs = write_pairs(given / "pairs", height=64, width=64)
    steps = ["train.joint_steps=3", "train.enhance_steps=3", "train.save_every=1", "train.validate_every=1000"]
    settings = [*MICRO, f'data.pairs=["{pairs}"]', "train.warmup=0", *steps]

    def command(out: Path) -> list[str]:
        if (out / "run" / "config.json").exists():
            return ["train", "--resume", str(out / "run")]
        return ["train", "tiny", "-o", str(out / "run"), *[f"--set={each}" for each in settings]]

    return command


def distill(given: Path) -> Command:
    from support.micro import save_teacher, settings

    pairs, teacher = write_pairs(given / "pairs", height=64, width=64), save_teacher(given)
    changed = settings(pairs, "train.enhance_steps=4", "train.save_every=1", "train.guess_steps=2")

    def command(out: Path) -> list[str]:
        if (out / "student.run" / "distill.json").exists():
            return ["distill", "--resume", str(out / "student")]
        return ["distill", teacher, "-o", str(out / "student"), "--steps", "4", *[f"--set={each}" for each in changed]]

    return command


MAKERS: dict[str, Callable[[Path], Command]] = {
    "enhance": enhance,
    "video": video,
    "export": export,
    "build": build,
    "train": train,
    "distill": distill,
}


def visible(folder: Path) -> list[Path]:
    """Everything under a final name; of a job that is under way, what its journal names."""
    found = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    parts = {path.relative_to(folder): path for path in found}
    return [path for place, path in parts.items() if not any(p.startswith(".") for p in place.parts)]


def whole(path: Path) -> None:
    """Raises for a file that is not."""
    from safetensors.numpy import load_file

    if ".parts" in str(path) and path.suffix != ".json":
        return  # only what the journal names counts: resuming reads it
    if path.suffix in (".png", ".tif", ".bmp"):
        assert read_image(path).pixels.shape == (96, 128, 3)
    elif path.suffix == ".json":
        json.loads(path.read_text())
    elif path.suffix == ".safetensors":
        assert load_file(path)
    elif path.suffix == ".lldiff":
        Bundle.open(path)
    elif path.suffix == ".engine":
        json.loads(path.with_name(path.name + ".json").read_text()) if path.with_name(
            path.name + ".json"
        ).exists() else None
    elif path.suffix == ".mkv":
        assert len(clips.samples(path, "yuv420p"))


def result(folder: Path) -> dict[str, object]:
    """What a finished run is compared by."""
    found: dict[str, object] = {}
    for path in visible(folder):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".mkv":
            found[name] = clips.samples(path, "yuv420p").tobytes()
        elif path.suffix in (".png", ".tif", ".bmp", ".safetensors", ".onnx"):
            found[name] = path.read_bytes()
        elif path.suffix == ".lldiff":
            found[name] = {p.name: p.read_bytes() for p in Bundle.open(path).folder.glob("*.onnx")}
        elif path.suffix == ".engine":
            found[path.name] = True
    return found


def left_over(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".*") if TEMPORARY.fullmatch(path.name) or path.suffix == ".lock"]


@pytest.mark.parametrize("verb", MAKERS)
def test_kills_at_random_moments(verb: str, verbs: Verbs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLDIFF_CACHE", str(tmp_path / "cache"))
    for name in ("given", "straight", "killed"):
        (tmp_path / name).mkdir()
    command, chance = MAKERS[verb](tmp_path / "given"), random.Random(verb)
    kills, hit = round(SHARES[verb] * int(os.environ.get("LLDIFF_KILLS", "100"))), 0
    start = time.monotonic()
    assert verbs.run(command(tmp_path / "straight")) == 0, verbs.log.read_text()
    seconds = time.monotonic() - start
    out = tmp_path / "killed"
    for _ in range(kills):
        code = verbs.run(command(out), kill_after=chance.random() * seconds)
        assert code in (0, -signal.SIGKILL), verbs.log.read_text()[-2000:]
        hit += code != 0
        for path in visible(out):
            whole(path)
        if code == 0 and verb in ("train", "distill", "video"):  # it was quicker: begin again
            subprocess.run(["rm", "-r", str(out)], check=True)
            out.mkdir()
    print(f"\nkilled {verb}: {kills} kills, {hit} of them before it had ended, {seconds:.1f} s a run")
    assert verbs.run(command(out)) == 0, verbs.log.read_text()[-2000:]
    assert result(out) == result(tmp_path / "straight")
    assert left_over(out) == [] and left_over(verbs.log.parent / "temp") == []
