"""A headless Chromium that tells what the page did: console, exceptions and every request.

    with browsing() as browser:
        page = browser.open(path)
        assert browser.problems() == []

Skips the test with a message where Selenium, Chromium or its driver is not installed.
"""

from __future__ import annotations

import base64
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DRIVERS = ("chromedriver", "chromium.chromedriver")
# Root has no sandbox in a container; the rest keeps Chromium itself off the network: what is seen is the page's.
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
SECONDS = 60  # until a page that does not load fails the test


class Browser:
    """One Chromium.  `driver` is Selenium's, for everything that has no method here."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        self._events: list[dict[str, Any]] = []
        self._console: list[str] = []

    def resize(self, width: int, height: int = 900, dark: bool = False) -> None:
        """Show pages in a window of this many CSS pixels, in light or dark mode; a window itself is 500 px at least."""
        self._send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._send("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, page: Path | str) -> None:
        """Load a file or an address and wait until it is complete; what earlier pages did is forgotten."""
        self._collect()
        self._events.clear()
        self._console.clear()
        self.driver.get(page.resolve().as_uri() if isinstance(page, Path) else page)

    def run(self, script: str, *arguments: object) -> Any:
        """What `return ...` in the script gives; a promise is waited for."""
        return self.driver.execute_script(script, *arguments)

    def find(self, selector: str) -> Any:
        """The first element of a CSS selector, as Selenium sees it."""
        return self.driver.find_element("css selector", selector)

    def requests(self) -> list[str]:
        """Addresses the page asked for since it was opened, itself included.

        data: and blob: are not requests, chrome: and chrome-untrusted: are the browser's own new tab.
        """
        self._collect()
        sent = [event["params"]["request"]["url"] for event in self._events if event["method"] == _REQUEST]
        return [
            address for address in sent if not address.startswith(("data:", "blob:", "chrome:", "chrome-untrusted:"))
        ]

    def problems(self) -> list[str]:
        """Errors and warnings on the console, uncaught exceptions, refused and failed resources since `open`."""
        self._collect()
        return list(self._console)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """One finger from `start` to `end`, in CSS pixels of the window."""
        for kind, points in (("Start", [start]), ("Move", [_middle(start, end)]), ("Move", [end]), ("End", [])):
            touches = [{"x": x, "y": y} for x, y in points]
            self._send("Input.dispatchTouchEvent", type=f"touch{kind}", touchPoints=touches)

    def screenshot(self, path: Path, whole: bool = True) -> None:
        """Write what is shown, or the `whole` page, as PNG."""
        size = self._send("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"clip": {**size, "scale": 1}} if whole else {}
        answer = self._send("Page.captureScreenshot", format="png", captureBeyondViewport=whole, **clip)
        path.write_bytes(base64.b64decode(answer["data"]))

    def _send(self, command: str, **parameters: object) -> dict[str, Any]:
        answer: dict[str, Any] = self.driver.execute_cdp_cmd(command, parameters)
        return answer

    def _collect(self) -> None:
        """Selenium hands over each entry of a log once: keep them."""
        self._events += [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        entries = self.driver.get_log("browser")
        self._console += [f"{entry['level']}: {entry['message']}" for entry in entries if entry["level"] in _BAD]


_REQUEST = "Network.requestWillBeSent"
_BAD = ("WARNING", "SEVERE")


def _middle(start: tuple[float, float], end: tuple[float, float]) -> tuple[float, float]:
    return (start[0] + end[0]) / 2, (start[1] + end[1]) / 2


@contextmanager
def browsing(*flags: str) -> Iterator[Browser]:
    """A browser with a profile of its own, closed at the end of the block; `flags` are added to Chromium's."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="the browser tests need selenium (extra 'dev')")
    chromium, chromedriver = _program(BROWSERS), _program(DRIVERS)
    with tempfile.TemporaryDirectory(prefix="lldiff-browser-", ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for flag in (*FLAGS, *flags, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        # Both programs are named, so Selenium looks for neither on the network.
        driver = webdriver.Chrome(options, webdriver.ChromeService(executable_path=chromedriver))
        try:
            driver.set_page_load_timeout(SECONDS)
            driver.set_script_timeout(SECONDS)
            yield Browser(driver)
        finally:
            driver.quit()


def _program(names: tuple[str, ...]) -> str:
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip(f"no browser: {' or '.join(names)} is not installed (Debian: apt install chromium chromium-driver)")
    return found
