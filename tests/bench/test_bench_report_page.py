"""The HTML report in a real browser: nothing is fetched, nothing fails, the slider moves, names stay names."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from lldiffusion.bench.record import BenchResult, Machine
from lldiffusion.bench.report import compare_pictures, write_report
from lldiffusion.bench.report.page import to_html
from lldiffusion.data.photographs import dark_photographs
from lldiffusion.errors import LLDiffusionError
from support.bench_results import full_result
from support.browser import Browser, browsing

HOSTILE = '"><script>window.pwned = 1</script><img src=x onerror="window.pwned = 1">'
FULL = full_result()
EMPTY = BenchResult(Machine("Linux", "a CPU", 2, 8 << 30), {}, "", "", "2026-11-24")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a full result with two small photographs; "enhancing" is a plain gain, which is quick."""
    folder = tmp_path_factory.mktemp("report")
    small = [
        (name, original[100:220, 60:240], dark[100:220, 60:240])
        for name, original, dark in dark_photographs()
        if name in ("astronaut", "chelsea")
    ]
    pairs = compare_pictures(small, lambda dark: np.clip(dark.astype(np.float32) / 255 * 6, 0, 1))
    return write_report(FULL, folder, pairs)[0]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as opened:
        yield opened


@pytest.fixture
def page(browser: Browser, report: Path) -> Browser:
    """The report, opened anew 1000 pixels wide."""
    browser.resize(1000)
    browser.open(report)
    return browser


def test_the_helper_sees_what_goes_wrong(browser: Browser, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    icon = '<link rel="icon" href="data:,">'
    bad.write_text(f"<!doctype html>{icon}<img src='gone.png'><script>console.error('oh'); nonsense()</script>")
    browser.open(bad)
    assert browser.requests() == [bad.as_uri(), (tmp_path / "gone.png").as_uri()]
    problems = "\n".join(browser.problems())
    assert "gone.png" in problems and "oh" in problems and "nonsense is not defined" in problems
    good = tmp_path / "good.html"
    good.write_text(f"<!doctype html>{icon}<p>well")
    browser.open(good)
    assert browser.problems() == [] and browser.requests() == [good.as_uri()]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_it_opens_alone_and_fits(browser: Browser, report: Path, width: int, dark: bool) -> None:
    browser.resize(width, dark=dark)
    browser.open(report)
    assert browser.problems() == []
    assert browser.requests() == [report.as_uri()]
    assert browser.run("return document.documentElement.scrollWidth") == width
    assert browser.run("return [...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert browser.run("return document.querySelectorAll('.plots img').length") == 8
    plot = browser.find(".plots img")
    browser.run("arguments[0].scrollIntoView({block: 'center'})", plot)
    grey = painted(plot)
    paper, darkest, brightest = np.median(grey), grey.min(), grey.max()
    assert paper == pytest.approx(31 if dark else 255, abs=4)  # the plots follow the mode, on the page's own paper
    assert (brightest > paper + 150) if dark else (darkest < paper - 150)  # and their words can be read


def painted(element: Any) -> np.ndarray:
    """(H, W) grey levels of an element as the browser paints it."""
    return np.asarray(Image.open(io.BytesIO(element.screenshot_as_png)).convert("L"), np.float64)


def shown(page: Browser) -> np.ndarray:
    """(H, W) grey levels of the first frame, without the handle, as the browser paints it."""
    frame = page.find(".frame")
    page.run("arguments[0].scrollIntoView({block: 'center'})", frame)
    page.run("document.querySelector('.frame').classList.add('bare')")
    return painted(frame)


def at(page: Browser) -> tuple[float, str]:
    """The slider's value and how the left picture is clipped."""
    value, clip = page.run(
        "return [document.querySelector('.frame input').value,"
        " getComputedStyle(document.querySelector('.frame .before:not([hidden])')).clipPath]"
    )
    return float(value), clip


def test_the_slider_moves_with_the_keyboard(page: Browser) -> None:
    slider = page.find(".frame input")
    assert at(page)[0] == 50 and "50%" in at(page)[1]
    slider.send_keys("\ue014" * 5)  # arrow right
    value, clip = at(page)
    assert value == 55 and "45%" in clip
    slider.send_keys("\ue011")  # home
    assert at(page)[0] == 0
    slider.send_keys("\ue010")  # end
    assert at(page)[0] == 100
    assert slider.get_attribute("aria-valuetext") == "100 percent"


def test_what_is_seen_changes_where_the_slider_is(page: Browser) -> None:
    slider = page.find(".frame input")
    slider.send_keys("\ue011")
    bright = shown(page)
    slider.send_keys("\ue010")
    dark = shown(page)
    slider.send_keys("\ue012" * 30)  # arrow left: 70
    between = shown(page)
    width = between.shape[1]
    left, right = slice(40, int(width * 0.62)), slice(int(width * 0.78), width - 40)
    rows = slice(60, -20)  # below the words
    assert np.abs(between[rows, left] - dark[rows, left]).mean() < 1
    assert np.abs(between[rows, right] - bright[rows, right]).mean() < 1
    assert bright[rows, left].mean() > dark[rows, left].mean() + 20


def test_the_slider_moves_with_a_finger(page: Browser) -> None:
    page.run("document.querySelector('.frame').scrollIntoView({block: 'center'})")
    box = page.run(
        "const b = document.querySelector('.frame').getBoundingClientRect(); return [b.x, b.y, b.width, b.height]"
    )
    x, y, width, height = box
    middle = y + height / 2
    page.drag((x + width / 2, middle), (x + width * 0.2, middle))
    assert at(page)[0] == pytest.approx(20, abs=1)  # the edge lies under the finger
    page.drag((x + width * 0.2, middle), (x + width * 0.9, middle))
    assert at(page)[0] == pytest.approx(90, abs=1)


def test_another_left_picture_can_be_chosen(page: Browser) -> None:
    pair = page.find(".pair")
    pair.find_element("css selector", "button[data-version=original]").click()
    seen = page.run(
        "return [...document.querySelectorAll('.pair')].map(p => p.querySelector('.before:not([hidden])').alt)"
    )
    assert seen == ["astronaut, original", "chelsea, dark"]  # the other pair stays
    assert pair.find_element("css selector", ".tag.left").text == "original"


PRESS = "arguments[0].click()"  # wherever the page has been scrolled to


def column(page: Browser, number: int) -> list[str]:
    """The shown cells of a column of the first table."""
    return list(
        page.run(
            "return [...document.querySelectorAll('table')[0].tBodies[0].rows].filter(r => !r.hidden)"
            ".map(r => r.cells[arguments[0]].textContent)",
            number,
        )
    )


def heads(page: Browser) -> list[str]:
    return list(
        page.run("return [...document.querySelectorAll('table')[0].tHead.rows[0].cells].map(c => c.textContent)")
    )


def choose(page: Browser, head: str, value: str) -> None:
    """Pick a value in a filter of the first table."""
    page.run(
        "const s = document.querySelector(`select[data-head='${arguments[0]}']`); s.value = arguments[1];"
        " s.dispatchEvent(new Event('change'))",
        head,
        value,
    )


def test_a_table_is_sorted_by_its_heads(page: Browser) -> None:
    for head in ("model", "size", "steps"):
        choose(page, head, "")
    names = heads(page)
    speed, ratio, size = names.index("p50 s"), names.index("vs authors"), names.index("size")
    buttons = page.driver.find_elements("css selector", "table th button")
    page.run(PRESS, buttons[speed])
    values = [float(text) for text in column(page, speed)]
    assert values == sorted(values) and len(values) == len(FULL.measurements)
    page.run(PRESS, buttons[speed])
    assert [float(text) for text in column(page, speed)] == sorted(values, reverse=True)
    page.run(PRESS, buttons[ratio])
    assert column(page, ratio)[-2:] == ["-", "-"]  # not measured comes last, in both orders
    page.run(PRESS, buttons[ratio])
    assert column(page, ratio)[-2:] == ["-", "-"]
    page.run(PRESS, buttons[size])
    assert column(page, size)[0] == "600x400" and column(page, size)[-1] == "1920x1080"  # by area, not by letters
    sorts = page.run("return [...document.querySelectorAll('table')[0].tHead.rows[0].cells].map(c => c.ariaSort)")
    assert [sort for sort in sorts if sort] == ["ascending"]


def test_a_long_table_starts_with_the_main_work(page: Browser) -> None:
    backends = set(column(page, heads(page).index("backend")))
    assert backends == {m.backend for m in FULL.measurements}  # with the classical methods beside them
    assert set(column(page, heads(page).index("steps"))) == {"25", "0"}
    count = page.find(".count").text
    assert count == "8 of 74 rows"
    choose(page, "steps", "4")
    assert set(column(page, heads(page).index("steps"))) == {"4", "0"}
    choose(page, "steps", "")
    assert page.find(".count").text == "20 of 74 rows"


def test_a_hostile_record_does_not_run(browser: Browser, tmp_path: Path) -> None:
    rows = tuple(replace(m, model=HOSTILE, backend=HOSTILE, note=HOSTILE) for m in FULL.measurements[:4])
    rows += FULL.measurements[4:8]
    machine = Machine(HOSTILE, HOSTILE, 2, 1, HOSTILE, 1, {HOSTILE: HOSTILE})
    fits = tuple(replace(fit, note=HOSTILE, model=HOSTILE) for fit in FULL.scaling[:2])
    result = BenchResult(machine, {HOSTILE: HOSTILE}, HOSTILE, HOSTILE, HOSTILE, (HOSTILE,), (), rows, fits, (HOSTILE,))
    page = write_report(result, tmp_path)[0]
    browser.resize(400)
    browser.open(page)
    assert browser.run("return window.pwned") is None
    assert browser.run("return document.documentElement.scrollWidth") == 400
    assert browser.problems() == [] and browser.requests() == [page.as_uri()]
    assert browser.run("return document.scripts.length") == 1  # the page's own
    assert browser.run("return document.querySelectorAll('img:not(.plots img)').length") == 0
    assert HOSTILE in browser.run("return document.body.innerText")


def test_even_unescaped_it_would_not_run(browser: Browser, report: Path, tmp_path: Path) -> None:
    page = tmp_path / "injected.html"
    page.write_text(report.read_text(encoding="utf-8").replace("<main>", f"<main>{HOSTILE}"), encoding="utf-8")
    browser.open(page)
    assert browser.run("return window.pwned") is None
    assert "Content Security Policy" in "\n".join(browser.problems())
    browser.find(".frame input").send_keys("\ue011")
    assert at(browser)[0] == 0  # its own script does


class Addresses(HTMLParser):
    """Collects everything in a page that could be fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]


def test_every_address_lies_in_the_page(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    parser = Addresses()
    parser.feed(text)
    assert len(parser.found) > 8
    assert [address for address in parser.found if not address.startswith(("data:", "#"))] == []
    assert "@import" not in text and "url(http" not in text
    assert 100_000 < len(text) < 3_000_000


def test_all_files_are_written(report: Path) -> None:
    assert sorted(path.name for path in report.parent.iterdir()) == ["bench.csv", "bench.html", "bench.md", "plots"]
    assert len(list((report.parent / "plots").glob("*.png"))) == 8


def test_a_report_without_pictures_or_numbers(browser: Browser, tmp_path: Path) -> None:
    page = write_report(replace(EMPTY, complete=False), tmp_path / "new" / "folder")[0]
    browser.open(page)
    assert browser.problems() == []
    assert "Stopped before everything was measured" in browser.find("main").text


def test_a_second_report_replaces_the_first(tmp_path: Path) -> None:
    few = replace(EMPTY, measurements=FULL.measurements[:1])
    write_report(few, tmp_path)
    (tmp_path / "plots" / "old.png").touch()
    (tmp_path / "bench.json").write_text("kept")
    write_report(EMPTY, tmp_path)
    assert list((tmp_path / "plots").iterdir()) == []
    assert (tmp_path / "bench.json").read_text() == "kept"


def test_mistakes_are_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LLDiffusionError, match="is a file: name a folder"):
        write_report(EMPTY, tmp_path / "file")
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(LLDiffusionError, match=r"jinja2.*lldiffusion\[bench\]"):
        write_report(EMPTY, tmp_path / "new")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["bench.csv", "bench.md"]  # what needs nothing


def test_pictures_are_measured_against_the_original() -> None:
    rng = np.random.default_rng(0)
    original, dark = (rng.integers(0, 256, (16, 24, 3), np.uint8) for _ in range(2))
    (pair,) = compare_pictures([("x", original, dark)], lambda pixels: pixels.astype(np.float32) / 255)
    assert [version.name for version in pair.before] == ["dark", "gamma", "original"]
    assert pair.before[0].psnr == pytest.approx(peak_signal_noise_ratio(original, dark))
    assert pair.after.psnr == pair.before[0].psnr and np.array_equal(pair.after.pixels, dark)
    assert pair.before[2].psnr is None and np.array_equal(pair.before[2].pixels, original)
    assert to_html(EMPTY, (), [pair]).count("data:image/webp") == 4
