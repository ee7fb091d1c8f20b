"""`ludora report`: a run as one page."""

from __future__ import annotations

from typing import Annotated

import typer

from ludora.cli.common import DEFAULT_RUNS, RunsDir, Shown, prints


@prints
def report(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run, by name or folder.")],
    runs_dir: RunsDir = DEFAULT_RUNS,
) -> Shown:
    """Write report.html and report.md into a run folder: learning curves, evaluation, games move by move."""
    from ludora.evals.report import write_report
    from ludora.runs.listing import find_whole_run

    path = write_report(find_whole_run(runs_dir, run))
    return Shown({"report": str(path)}, lambda console: console.print(str(path), markup=False, soft_wrap=True))
