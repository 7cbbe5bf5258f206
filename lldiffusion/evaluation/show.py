"""Prints a report: means, images, protocols, and the run among published results."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .report import EvaluationReport, Mean
from .table import ABSENT, METRICS, Row, load_table, rank

SHOWN = 40  # images listed on the terminal; the CSV has them all
HEADS = {"psnr": "PSNR", "ssim": "SSIM", "lpips": "LPIPS", "niqe": "NIQE", "brightness": "brightness"}
DIGITS = {"psnr": 2, "ssim": 3, "lpips": 3, "niqe": 2, "brightness": 1, "brightness_abs": 1, "seconds": 2}
LOL_TEST = 15  # pairs in LOL-v1's test set, which the published rows are about


def show(report: EvaluationReport, console: Console) -> None:
    """Print everything about a report; nothing is measured here."""
    method = {name: value for name, value in report.method.items() if name != "name"}
    console.print(
        f"[bold]{escape(report.method['name'])}[/bold] on {escape(report.data)}: {report.images} images",
        highlight=False,
    )
    facts = ", ".join(f"{name} {value}" for name, value in method.items())
    console.print(escape(facts), style="dim", highlight=False)
    _show_images(report, console)
    if any(score.protocols for score in report.scores):
        _show_protocols(report, console)
    for line in _notes(report):
        console.print(escape(line), highlight=False, soft_wrap=True)  # addresses and paths stay whole
    if any(score.protocols for score in report.scores):
        _show_published(report, console)
    console.print(", ".join(f"{n} {v}" for n, v in report.versions.items()), style="dim", highlight=False)


def _show_images(report: EvaluationReport, console: Console) -> None:
    groups = _groups(report)
    title = "Images" + (", mean over seeds" if len(report.seeds) > 1 else "")
    table = Table("image", title=title, pad_edge=False)  # three protocols fit into 80 columns
    for head in groups:
        table.add_column(head, justify="right")
    names = list(dict.fromkeys(score.name for score in report.scores))
    for name in names[:SHOWN]:
        table.add_row(escape(name), *(_cells(_of_image(report, name), columns) for columns in groups.values()))
    table.add_section()
    table.add_row("mean", *(_cells(report, columns) for columns in groups.values()), style="bold")
    console.print(table)
    if len(names) > SHOWN:
        console.print(f"... and {len(names) - SHOWN} more images, in the CSV")


def _groups(report: EvaluationReport) -> dict[str, list[tuple[str, str | None]]]:
    """Head of each column of the table and the numbers in its cells: one for each protocol, NIQE and brightness."""
    groups: dict[str, list[tuple[str, str | None]]] = {}
    for metric, protocol in report.columns():
        if metric in HEADS:
            groups.setdefault(protocol or HEADS[metric], []).append((metric, protocol))
    return {
        f"{head}\n{' '.join(f'{HEADS[metric]:>5}' for metric, _ in columns)}" if columns[0][1] else head: columns
        for head, columns in groups.items()
    }


def _cells(report: EvaluationReport, columns: list[tuple[str, str | None]]) -> str:
    return " ".join(_cell(report.mean(*column), column[0]) for column in columns)


def _of_image(report: EvaluationReport, name: str) -> EvaluationReport:
    scores = [score for score in report.scores if score.name == name]
    return EvaluationReport(report.method, report.data, report.instruments, scores, {})


def _show_protocols(report: EvaluationReport, console: Console) -> None:
    for protocol in report.instruments.protocols:
        console.print(f"[bold]{protocol.name}[/bold]: {protocol.definition}", highlight=False)
    if not isinstance(report.instruments.lpips, str):
        console.print(f"[bold]LPIPS[/bold]: {report.instruments.lpips.definition}", highlight=False)


def _notes(report: EvaluationReport) -> list[str]:
    paired = any(score.protocols for score in report.scores)
    lines = [] if paired else ["PSNR, SSIM, LPIPS, brightness: not measured (no normal-light images)"]
    tools = {"LPIPS": report.instruments.lpips if paired else None, "NIQE": report.instruments.niqe}
    lines += [f"{name}: not measured ({reason})" for name, reason in tools.items() if isinstance(reason, str)]
    signed, absolute = report.mean("brightness"), report.mean("brightness_abs")
    if signed and absolute:
        values = f"{_cell(signed, 'brightness')} signed, {_cell(absolute, 'brightness_abs')} absolute"
        lines.append(f"brightness error (mean luminance minus the target's, in 1/255): {values}")
    if len(report.seeds) > 1:
        lines.append(f"± is the standard deviation over the {len(report.seeds)} seeds")
    seconds = report.mean("seconds")
    if seconds and report.method["kind"] != "results":
        lines.append(f"time per image: {_cell(seconds, 'seconds')} s")
    return lines


def _show_published(report: EvaluationReport, console: Console) -> None:
    published = load_table()
    table = Table("method", title=published.title)
    for head in ("PSNR", "SSIM", "LPIPS"):
        table.add_column(head, justify="right")
    table.add_column("GT mean")
    table.add_column("source")
    for row in rank(published.rows, _own_rows(report)):
        numbers = [_number(value, row) for value in (row.psnr, row.ssim, row.lpips)]
        table.add_row(row.method, *numbers, row.gt_mean, row.source, style="bold" if row.ours else None)
    console.print(table)
    for name, text in published.sources.items():
        console.print(f"{name}: {text}", style="dim", highlight=False)
    console.print(published.note, style="dim", highlight=False)
    if report.images != LOL_TEST:
        console.print(f"This run measured {report.images} images, not LOL-v1's {LOL_TEST}: for orientation only.")


def _own_rows(report: EvaluationReport) -> list[Row]:
    rows = []
    for protocol in report.instruments.protocols:
        psnr, ssim, lpips = (_value(report.mean(metric, protocol.name)) for metric in METRICS)
        corrected = "yes" if protocol.uses_target else "no"
        rows.append(Row(f"this run, {protocol.name}", psnr, ssim, lpips, corrected, str(report.method["name"]), True))
    return rows


def _value(mean: Mean | None) -> float | None:
    return mean.value if mean else None


def _number(value: float | None, row: Row) -> str:
    """A published number with the digits of its source; our own with four."""
    if value is None:
        return "-" if row.ours else ABSENT
    return f"{value:.4g}" if row.ours else f"{value:g}"


def _cell(mean: Mean | None, metric: str) -> str:
    if mean is None:
        return "-"
    spread = f" ±{mean.spread:.{DIGITS[metric]}f}" if mean.spread else ""
    sign = "+" if metric == "brightness" else ""
    return f"{mean.value:{sign}.{DIGITS[metric]}f}{spread}"
