"""The service over loopback: what `enhance` makes, and an answer to everything else."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image as Pillow

from lldiffusion.cli import run
from lldiffusion.errors import LLDiffusionError
from lldiffusion.scale.service import body
from lldiffusion.scale.service.options import ServiceOptions
from lldiffusion.scale.service.shelf import Shelf, sources_of
from support.clips import X264, ffmpeg
from support.serving import Gate, Served, picture, serving, until
from support.toy import toy_bundle


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_bundle(tmp_path_factory.mktemp("models") / "toy", level="grid")


@pytest.fixture(scope="module")
def served(toy: Path) -> Iterator[Served]:
    shelf = Shelf({"toy": str(toy), "other": str(toy)}, {"device": "cpu"})
    with serving(shelf, max_megapixels=0.1, max_megabytes=0.5, receive=0.5) as found:
        yield found


@pytest.fixture(scope="module")
def photo() -> bytes:
    return picture("PNG")


@pytest.mark.parametrize(
    ("kind", "query", "options"),
    [
        ("png", "", []),
        ("jpeg", "exposure=0.5", ["--exposure", "0.5"]),
        ("webp", "steps=2&seed=7", ["--steps", "2", "--seed", "7"]),
        ("tiff", "format=jpeg&quality=80&model=other", ["--quality", "80"]),
    ],
)
def test_a_picture_is_what_enhance_makes_of_it_byte_for_byte(
    served: Served, toy: Path, tmp_path: Path, kind: str, query: str, options: list[str]
) -> None:
    exif = Pillow.Exif()
    exif[0x0110] = "Camera"
    dark_picture = picture(kind.upper(), exif=exif)
    source, target = tmp_path / f"in.{kind}", tmp_path / f"out.{'jpg' if 'jpeg' in query else kind}"
    source.write_bytes(dark_picture)
    assert run(["enhance", str(source), "-o", str(target), "--model", str(toy), "--device", "cpu", "-q", *options]) == 0
    answer = served.ask("POST", f"/v1/enhance?{query}", dark_picture)
    assert answer.status == 200, answer.body
    assert answer.headers["Content-Type"] == f"image/{'jpeg' if 'jpeg' in query else kind}"
    assert answer.body == target.read_bytes()
    assert Pillow.open(io.BytesIO(answer.body)).getexif()[0x0110] == "Camera"
    assert {part.partition(";")[0] for part in answer.headers["Server-Timing"].split(", ")} >= {"wait", "enhance"}
    assert list(served.service.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("query", "sent", "status", "words"),
    [
        ("", b"", 400, "--data-binary"),
        ("", b"this is no picture", 422, "cannot read 'picture'"),
        ("", b"\x89PNG\r\n\x1a\n broken", 422, "cannot read 'picture'"),
        ("", bytes(600_000), 413, "larger than 0.5 MB"),
        ("", "large", 413, "400x300: at most 0.1 million pixels"),
        ("exposure=nan", "photo", 400, "exposure 'nan'"),
        ("exposure=9", "photo", 400, "from -5 to 5"),
        ("steps=1000000000", "photo", 400, "from 1 to 50"),
        ("seed=-1", "photo", 400, "seed '-1'"),
        ("speed=1", "photo", 400, "did you mean 'seed'"),
        ("model=/etc/passwd", "photo", 400, "accepted are toy, other"),
        ("format=../x", "photo", 400, "unknown format"),
        ("quality=0", "photo", 400, "quality '0'"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(
    served: Served, photo: bytes, query: str, sent: bytes | str, status: int, words: str
) -> None:
    files = {"photo": photo, "large": picture("JPEG", 300, 400)}
    answer = served.ask("POST", f"/v1/enhance?{query}", files[sent] if isinstance(sent, str) else sent)
    assert answer.status == status, answer.body
    (line,) = answer.json.values()
    assert words in line and "\n" not in line and "/tmp" not in line
    assert "Connection" not in answer.headers  # the whole body was read: the connection may go on
    assert served.service.queue.taken == 0


def test_other_addresses(served: Served) -> None:
    assert served.ask("GET", "/healthz").json == {"status": "alive"}
    assert served.ask("GET", "/readyz").status == 200
    assert (served.ask("GET", "/nowhere").status, served.ask("GET", "/v1/enhance").status) == (404, 405)
    models = served.ask("GET", "/v1/models").json
    assert models["default"] == "toy" and [model["name"] for model in models["models"]] == ["toy", "other"]
    assert models["models"][0]["backend"] == "onnxruntime"


def test_every_route_is_described(served: Served) -> None:
    document = served.ask("GET", "/openapi.json").json
    routes = {(route.path, method.lower()) for route in served.app.routes for method in route.methods - {"HEAD"}}
    verbs = ("get", "post", "delete")
    assert routes == {(path, verb) for path, about in document["paths"].items() for verb in about if verb in verbs}
    parameters = {parameter["name"]: parameter for parameter in document["paths"]["/v1/enhance"]["post"]["parameters"]}
    assert parameters["model"]["schema"]["enum"] == ["toy", "other"]
    assert "security" not in document


def test_the_metrics_count(served: Served, photo: bytes) -> None:
    def number(name: str) -> float:
        text = served.ask("GET", "/metrics").body.decode()
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))

    names = ['lldiff_stage_seconds_count{stage="enhance"}', "lldiff_pixels_total"]
    names += ['lldiff_requests_total{route="/v1/enhance",status="422"}']
    before = [number(name) for name in names]
    served.ask("POST", "/v1/enhance", photo)
    served.ask("POST", "/v1/enhance", b"nothing")
    assert [number(name) - old for name, old in zip(names, before)] == [1, 64 * 96, 1]
    assert number("process_resident_memory_bytes") > 1e7


def test_a_body_that_does_not_come_is_408(served: Served, photo: bytes) -> None:
    with served.begin(photo[:100], length=len(photo)) as connection:
        assert connection.recv(12) == b"HTTP/1.1 408"
    until(lambda: served.service.queue.taken == 0)


def test_pages_of_other_sites_are_refused(served: Served, photo: bytes) -> None:
    assert served.ask("POST", "/v1/enhance", photo, Sec_Fetch_Site="cross-site").status == 403
    assert served.ask("POST", "/v1/enhance", photo, Sec_Fetch_Site="same-origin").status == 200


def test_a_refused_body_without_end_is_not_read_to_its_end(
    monkeypatch: pytest.MonkeyPatch, served: Served, photo: bytes
) -> None:
    monkeypatch.setattr(body, "LINGER_SECONDS", 0.05)
    with served.begin(photo, length=10**12) as connection:
        answer = connection.recv(4000)
    assert answer.startswith(b"HTTP/1.1 413") and b"connection: close" in answer.lower()


def test_a_clip_is_a_job(served: Served, tmp_path: Path) -> None:
    pytest.importorskip("av")
    clip = tmp_path / "clip.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=64x64:rate=25:duration=0.4", *X264, clip)
    taken = served.ask("POST", "/v1/video?container=mkv&exposure=0.5", clip.read_bytes())
    assert taken.status == 202, taken.body
    job = taken.headers["Location"]
    until(lambda: served.ask("GET", job).json["status"] in ("done", "failed"))
    about = served.ask("GET", job).json
    assert (about["status"], about["frames"], about["total"]) == ("done", 10, 10), about
    result = served.ask("GET", about["result"])
    assert result.status == 200 and result.body.startswith(b"\x1a\x45\xdf\xa3")
    assert served.ask("DELETE", job).status == 204
    assert served.ask("GET", job).status == 404
    until(lambda: list(served.service.folder.iterdir()) == [])


def test_lists_of_other_files_are_no_clips(served: Served) -> None:
    for text in (b"#EXTM3U\nfile:///etc/passwd\n", b"ffconcat version 1.0\nfile /etc/passwd\n", b""):
        answer = served.ask("POST", "/v1/video", text)
        assert answer.status == 422 and "accepted are MP4" in answer.json["error"]
    broken = served.ask("POST", "/v1/video", b"\0\0\0\x20ftypisom" + bytes(400))
    until(lambda: served.ask("GET", broken.headers["Location"]).json["status"] == "failed")
    about = served.ask("GET", broken.headers["Location"]).json
    assert "clip" in about["error"] and str(served.service.folder) not in about["error"]
    assert served.ask("GET", about["result"]).status == 422
    served.ask("DELETE", about["self"])


def test_no_more_clips_are_kept_than_may_be(toy: Path) -> None:
    with serving(Shelf({"toy": str(toy)}, {"device": "cpu"}), videos=1, keep=0) as served:
        held = served.service.videos.new(None)
        assert served.ask("POST", "/v1/video", b"x").status == 429
        held.state = "done"  # and too old at once
        assert served.ask("POST", "/v1/video", b"x").status == 422
        assert served.service.videos.count("done") == 0


def test_the_page_holds_all_it_needs(served: Served) -> None:
    answer = served.ask("GET", "/")
    text = answer.body.decode()
    assert "/* style */" not in text and "/* script */" not in text
    assert text.count("http://") == text.count("http://www.w3.org/2000/svg'") + text.count(
        'http://www.w3.org/2000/svg"'
    )
    assert "https://" not in text
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_models_have_names() -> None:
    assert sources_of(["tiny", "runs/best.lldiff", "new=models/x"]) == {
        "tiny": "tiny",
        "best": "runs/best.lldiff",
        "new": "models/x",
    }
    for wrong in (["tiny", "tiny"], ["=x"], ["a/", "x="]):
        with pytest.raises(LLDiffusionError, match="NAME=MODEL"):
            sources_of(wrong)


def test_mistakes_at_the_start_are_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(Gate()) as served:
        assert run(["serve", "--port", str(served.port)]) == 2
    assert "choose another --host or --port" in capsys.readouterr().err
    assert run(["serve", "no-such-model", "--port", "0"]) == 2
    assert "no-such-model" in capsys.readouterr().err
    monkeypatch.setenv("LLDIFF_TOKEN", " ")
    assert run(["serve", "--port", "0"]) == 2
    assert "$LLDIFF_TOKEN is empty" in capsys.readouterr().err
    with pytest.raises(LLDiffusionError, match="workers 0"):
        ServiceOptions(workers=0)


def test_many_at_once_get_what_is_theirs(served: Served) -> None:
    """Mixed sizes, several threads: no picture is another's."""
    bodies = [picture("PNG", 64 + 8 * i, 96) for i in range(6)]
    alone = [served.ask("POST", "/v1/enhance", each).body for each in bodies]
    together: dict[int, bytes] = {}

    def ask(i: int) -> None:
        together[i] = served.ask("POST", "/v1/enhance", bodies[i]).body

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[i] for i in range(6)] == alone
    assert not any(each.startswith(b"{") for each in alone), json.loads(alone[0])
