"""`enhance` between addresses: fsspec's memory, and an S3 server on this machine."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from PIL import Image as Pillow

from lldiffusion.cli import run
from lldiffusion.cli.batch import plan_batch
from lldiffusion.errors import LLDiffusionError
from lldiffusion.scale.places import Remote
from lldiffusion.scale.shard import Shard
from lldiffusion.scale.staging import put
from support import clips
from support.toy import toy_bundle


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return ["--model", str(toy_bundle(tmp_path_factory.mktemp("models") / "toy")), "--device", "cpu"]


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    """memory:// with three pictures, and what is none."""
    system = fsspec.filesystem("memory")
    for name in ("one.png", "below/two.png", "below/three x#.jpg"):
        system.pipe(f"/bucket/in/{name}", picture("JPEG" if name.endswith("jpg") else "PNG"))
    system.pipe("/bucket/in/.hidden.png", b"x")
    system.pipe("/bucket/in/notes.txt", b"x")
    yield system
    system.store.clear()


def picture(kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Pillow.new("RGB", (64, 64), (9, 8, 7)).save(file, kind)
    return file.getvalue()


def test_a_folder_of_one_address_to_another_is_what_it_is_here(
    model: list[str], memory: fsspec.AbstractFileSystem, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    memory.get("/bucket/in/", str(tmp_path / "in"), recursive=True)
    assert run(["enhance", "memory://bucket/in/", "-o", "memory://bucket/in/out/", *model]) == 0
    said = capsys.readouterr()
    assert "3 enhanced in memory://bucket/in/out/" in said.out and "memory://bucket/in/notes.txt" in said.err
    assert run(["enhance", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "-q", *model]) == 0
    here = {
        path.relative_to(tmp_path / "out").as_posix(): path.read_bytes() for path in (tmp_path / "out").rglob("*.*")
    }
    there = {name.removeprefix("/bucket/in/out/"): memory.cat(name) for name in memory.find("/bucket/in/out")}
    assert here == there and len(here) == 3  # and nothing temporary is left
    assert run(["enhance", "memory://bucket/in/", "-o", "memory://bucket/in/out/", *model]) == 2  # not its own output
    assert "already there: memory://bucket/in/out/below/three x#.jpg" in capsys.readouterr().err


def test_from_here_to_there_and_back_with_a_spread(
    model: list[str], memory: fsspec.AbstractFileSystem, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(picture())
    up = ["enhance", str(tmp_path / "a.png"), "-o", "memory://bucket/up/b.png", "-q", *model]
    assert run([*up, "--samples", "2", "--save-spread"]) == 0
    assert sorted(memory.find("/bucket/up")) == ["/bucket/up/b.png", "/bucket/up/b.spread.png"]
    assert run(["enhance", "memory://bucket/in/*/*.png", "-o", str(tmp_path / "down"), "-q", *model]) == 0
    assert [path.name for path in (tmp_path / "down").iterdir()] == ["two.png"]


def test_a_broken_picture_stops_nothing_and_is_named_by_its_address(
    model: list[str], memory: fsspec.AbstractFileSystem, capsys: pytest.CaptureFixture[str]
) -> None:
    memory.pipe("/bucket/in/a broken.png", b"\x89PNG\r\n\x1a\n")
    assert run(["enhance", "memory://bucket/in", "-o", "memory://bucket/out/", *model]) == 1
    error = capsys.readouterr().err
    assert "cannot read 'memory://bucket/in/a broken.png'" in error and "/tmp" not in error
    assert len(memory.find("/bucket/out")) == 3


def test_parts_and_what_is_there_already(memory: fsspec.AbstractFileSystem) -> None:
    first, second = (plan_batch(["memory://bucket/in"], "memory://o/", shard=Shard(i, 2)).jobs for i in range(2))
    assert [str(output) for _, output in first] == ["memory://o/below/three x#.jpg", "memory://o/one.png"]
    memory.pipe("/o/one.png", b"done")
    again = plan_batch(["memory://bucket/in"], "memory://o/", skip_existing=True)
    assert again.jobs == [first[0], second[0]] and len(again.existing) == 1
    with pytest.raises(LLDiffusionError, match="would replace the input"):
        plan_batch(["memory://bucket/in/one.png"], "memory://bucket/in/one.png", overwrite=True)


def test_what_fails_in_the_middle_leaves_the_old(
    memory: fsspec.AbstractFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.pipe("/bucket/out.png", b"old")
    (tmp_path / "new").write_bytes(b"new")

    def torn(*_: object, **__: object) -> None:
        raise ConnectionError("the line went dead")

    with monkeypatch.context() as patched:
        patched.setattr(type(memory), "mv", torn)
        with pytest.raises(LLDiffusionError, match=r"cannot write 'memory://bucket/out.png': the line went dead"):
            put(tmp_path / "new", Remote.of("memory://bucket/out.png"))
    assert memory.find("/bucket") and memory.cat("/bucket/out.png") == b"old"
    assert not [name for name in memory.find("/bucket") if name.endswith(".tmp")]
    put(tmp_path / "new", Remote.of("memory://bucket/out.png"))
    assert memory.cat("/bucket/out.png") == b"new"


@pytest.mark.parametrize(
    ("source", "out", "words"),
    [
        ("memory://bucket/in/no.png", "memory://bucket/x/", "no image at 'memory://bucket/in/no.png'"),
        ("memory://bucket/in/notes.txt", "memory://bucket/x/", "there are memory://bucket/in/notes.txt"),
        ("magic://bucket/a.png", "x/", "cannot open 'magic://bucket/a.png': Protocol not known"),
        ("memory://bucket/in/", "memory://bucket/x.png", "3 inputs and one output file"),
        ("memory://bucket/in/", "memory://bucket/x.tga", "cannot write 'memory://bucket/x.tga'"),
    ],
)
def test_mistakes_are_one_line(
    memory: fsspec.AbstractFileSystem, capsys: pytest.CaptureFixture[str], source: str, out: str, words: str
) -> None:
    assert run(["enhance", source, "-o", out]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert words in line


@pytest.mark.slow
def test_s3(model: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real S3 client and a real server, over loopback."""
    moto = pytest.importorskip("moto.server", reason="needs moto's server (extra 'dev')")
    server = moto.ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        monkeypatch.setenv("FSSPEC_S3_ENDPOINT_URL", f"http://{host}:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "test")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        fsspec.config.set_conf_env(fsspec.config.conf)
        system = fsspec.filesystem("s3", skip_instance_cache=True)
        system.mkdir("bucket")
        for name in ("one.png", "b/two.png"):
            system.pipe(f"bucket/in/{name}", picture())
        assert run(["enhance", "s3://bucket/in/", "-o", "s3://bucket/out/", "-q", *model]) == 0
        system.invalidate_cache()
        assert sorted(system.find("bucket/out")) == ["bucket/out/b/two.png", "bucket/out/one.png"]
        (tmp_path / "one.png").write_bytes(picture())
        assert run(["enhance", str(tmp_path / "one.png"), "-o", str(tmp_path / "bright.png"), "-q", *model]) == 0
        assert system.cat("bucket/out/one.png") == (tmp_path / "bright.png").read_bytes()
        again = ["enhance", "s3://bucket/in/", "-o", "s3://bucket/out/", "-q", "--skip-existing"]
        assert run(again) == 0  # nothing to do: no model is opened
        clips.plain(tmp_path / "in.mp4")
        system.put(str(tmp_path / "in.mp4"), "bucket/clips/in.mp4")
        assert run(["video", "s3://bucket/clips/", "s3://bucket/bright/", "-q", *model]) == 0
        assert run(["video", str(tmp_path / "in.mp4"), str(tmp_path / "out.mp4"), "-q", *model]) == 0
        system.invalidate_cache()
        assert system.cat("bucket/bright/in.mp4") == (tmp_path / "out.mp4").read_bytes()
        assert system.find("bucket/bright") == ["bucket/bright/in.mp4"]
        assert run(["enhance", "s3://no-such-bucket/x.png", "-o", str(tmp_path / "x.png")]) == 2
    finally:
        server.stop()
        fsspec.config.conf.pop("s3", None)
