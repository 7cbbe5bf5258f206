"""The progress bar that every long command shows: what, how far, since when, for how long yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


def progress_bar(
    unit: Literal["count", "percent"] = "count",
    *,
    note: bool = False,
    transient: bool = False,
    shown: bool = True,
    console: Console | None = None,
) -> Progress:
    """A bar of rich: description, bar, `3/8` or `37%`, elapsed time and estimated time left, each as h:mm:ss.

    Args:
        unit: "count" shows completed/total; "percent" is for totals that mean nothing, such as shares of 1.
        note: tasks have a field `note`, shown behind the count: `bar.add_task(..., note="")`.
        transient: nothing of it stays on the screen (and nothing is printed where there is no terminal).
        shown: False draws nothing, and all calls do.
        console: where it is drawn [standard error].
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns: list[ProgressColumn] = [TextColumn("{task.description}", markup=False), BarColumn()]
    columns.append(MofNCompleteColumn() if unit == "count" else TaskProgressColumn())
    if note:
        columns.append(TextColumn("{task.fields[note]}", markup=False))
    columns += [TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()]
    screen = console or Console(stderr=True)
    hidden = not shown or (transient and not screen.is_terminal)  # rich would leave empty lines in a log file
    return Progress(*columns, console=screen, transient=transient, disable=hidden)
