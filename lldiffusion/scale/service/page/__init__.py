"""The page at /: one HTML text that holds its styles and its script, and asks no other host for anything.

Its palette and its before/after slider are those of the report of `lldiff bench`.
"""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from importlib.resources import files

LOOK = ("lldiffusion.bench.report", "page/report.css")


@lru_cache(1)
def page() -> str:
    """The whole page."""
    style = (files(LOOK[0]) / LOOK[1]).read_text(encoding="utf-8") + _file("serve.css")
    return _file("serve.html").replace("/* style */", style).replace("/* script */", _file("serve.js"))


@lru_cache(1)
def policy() -> str:
    """Its content security policy: only its own script runs, and only this service is asked."""
    digest = base64.b64encode(hashlib.sha256(_file("serve.js").encode()).digest()).decode("ascii")
    return (
        "default-src 'none'; img-src blob: data:; media-src blob:; connect-src 'self'; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _file(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")
