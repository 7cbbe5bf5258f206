"""Shows what a benchmark measured: on the terminal, as CSV, Markdown, plots, and one self-contained HTML page.

    show(result, Console())                                    # the terminal
    write_report(result, folder, compare_pictures(photographs, enhancer))

matplotlib and Jinja2 (extra `bench`) are imported when the page is made.
"""

from __future__ import annotations

from .files import write_report
from .pictures import BeforeAfter, compare_pictures
from .terminal import show

__all__ = ["BeforeAfter", "compare_pictures", "show", "write_report"]
