"""`ludora shell`: the sandboxes that shell tasks run in, and whether tasks are sound."""

from __future__ import annotations

import typer

from ludora.cli import sandbox, verify

app = typer.Typer(help="Sandboxes and tasks of the shell.", no_args_is_help=True)
app.command("setup")(sandbox.setup)
app.command("probe")(sandbox.probe)
app.command("verify")(verify.verify)
