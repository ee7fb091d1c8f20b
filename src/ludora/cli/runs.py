"""`ludora runs`: list, show and delete run folders."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from ludora.cli.common import DEFAULT_RUNS, RunsDir, Shown, prints, say, table
from ludora.errors import InputError

if TYPE_CHECKING:
    from ludora.runs.listing import RunInfo

app = typer.Typer(help="List, show and delete run folders.", no_args_is_help=True)


@app.command("list")
@prints
def list_(runs_dir: RunsDir = DEFAULT_RUNS) -> Shown:
    """All runs, the most recently changed first."""
    from ludora.runs.listing import list_runs

    found = list_runs(runs_dir)
    rows = [_row(info) for info in found]
    columns = ("run", "task", "model", "step", "best", "state", "changed", "size")
    show = table("" if rows else f"no runs in {runs_dir}", columns, rows)
    return Shown({"runs": [info.to_json() for info in found]}, show)


@app.command("show")
@prints
def show(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run, by name or folder.")],
    runs_dir: RunsDir = DEFAULT_RUNS,
) -> Shown:
    """One run: what it is, its checkpoints and sample episodes, and its last metrics."""
    from ludora.runs import episodes
    from ludora.runs.listing import find_whole_run, run_info
    from ludora.runs.store import Run

    path = find_whole_run(runs_dir, run)
    opened = Run.read(path)
    last: dict[str, object] = {}
    for last in opened.rows("metrics.jsonl"):  # noqa: B007  only the last one is wanted
        pass
    samples = [str(file) for file in episodes.found(opened.episodes).values()]
    data = {**run_info(path).to_json(), "checkpoints": opened.steps, "episodes": samples, "metrics": last}
    rows = [(key, str(value)) for key, value in data.items() if key != "metrics"]
    rows += [(f"last {key}", f"{value:.5g}" if isinstance(value, float) else str(value)) for key, value in last.items()]
    return Shown(data, table("", ("", run), rows))


@app.command("clean")
@prints
def clean(
    keep: Annotated[int, typer.Option(min=0, help="How many of the newest runs to keep.")],
    runs_dir: RunsDir = DEFAULT_RUNS,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> Shown:
    """Delete all but the newest runs. Asks first; a run in use is never deleted."""
    from ludora.runs.listing import clean as delete
    from ludora.runs.listing import outdated

    doomed = [info.name for info in outdated(runs_dir, keep) if not info.in_use]
    if doomed and not yes:
        say(f"this deletes {len(doomed)} runs in {runs_dir}: {', '.join(doomed)}")
        if not sys.stdin.isatty():
            raise InputError("nobody is there to confirm this", "add --yes")
        typer.confirm("Delete them?", abort=True, err=True)
    deleted, left = delete(runs_dir, keep)
    data = {"deleted": [str(path) for path in deleted], "in_use": [info.path for info in left]}
    text = "\n".join(
        [f"deleted {path}" for path in data["deleted"]] + [f"in use, kept: {path}" for path in data["in_use"]]
    )
    return Shown(data, lambda console: console.print(text or "nothing to delete", markup=False, highlight=False))


def _row(info: RunInfo) -> tuple[str, ...]:
    state = "in use" if info.in_use else "finished" if info.finished else "stopped"
    changed = time.strftime("%Y-%m-%d %H:%M", time.localtime(info.changed))
    steps = _step(info.last_step), _step(info.best_step)
    return (info.name, info.task, info.model, *steps, state, changed, f"{info.size / 1e6:.1f} MB")


def _step(step: int | None) -> str:
    return "" if step is None else str(step)
