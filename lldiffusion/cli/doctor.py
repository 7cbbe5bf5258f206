"""`lldiff doctor`: what this machine can run, and the fix for each gap."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from .options import AsJson

app = typer.Typer(add_completion=False)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Check GPU, driver, engines, packages and codecs; exit code 1 when something installed does not work."""
    from lldiffusion.engines.doctor import examine

    findings = examine()
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        for finding in findings:
            typer.echo(f"{finding.state:8} {finding.topic:13} {finding.detail}")
            if finding.fix:
                typer.echo(f"{'':22} -> {finding.fix}")
    if any(finding.state == "broken" for finding in findings):
        raise typer.Exit(1)
