"""`ludora shell verify`: whether tasks are sound."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ludora.cli.common import Shown, prints, table

if TYPE_CHECKING:
    from rich.console import Console


@prints
def verify(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A task file; left out: the built-in set.")] = "",
    threads: Annotated[int, typer.Option(min=1, max=256, help="Sandboxes at once.")] = 4,
    instances: Annotated[int, typer.Option(min=1, help="Of every built-in template and split.")] = 1,
    seconds: Annotated[float, typer.Option(min=0.1, help="Of one script at most.")] = 20.0,
) -> Shown:
    """Run every reference solution, and nothing at all, each in a fresh sandbox, and let the check judge both.

    Exit code 1 if a reference is not judged correct, or an untouched machine is.
    """
    from pathlib import Path

    from ludora.envs.shell.entries import read_entries
    from ludora.envs.shell.env import Verdict
    from ludora.envs.shell.options import Options
    from ludora.envs.shell.verify import built_in, prove, unsound

    if file:
        entries = list(read_entries(Path(file)).values())
    else:
        entries = [entry for number in range(instances) for entry in built_in(number)]
    with _progress(len(entries)) as step:
        proofs = prove(entries, Options(seconds=seconds), threads=threads, progress=step)
    bad = unsound(proofs)
    data: dict[str, Any] = {
        "tasks": file or "built-in",
        "total": len(proofs),
        "reference_correct": sum(proof.reference is Verdict.CORRECT for proof in proofs),
        "untouched_correct": sum(proof.untouched is Verdict.CORRECT for proof in proofs),
        "unsound": [
            {"entry": p.key, "reference": str(p.reference), "untouched": str(p.untouched), "why": p.why} for p in bad
        ],
    }

    def show(console: Console) -> None:
        facts = [(key, str(value)) for key, value in data.items() if key != "unsound"]
        table("", ("", ""), facts)(console)
        if bad:
            rows = [(p.key, str(p.reference), str(p.untouched), p.why) for p in bad]
            table("", ("entry", "reference", "untouched", "why"), rows)(console)

    return Shown(data, show, exit_code=1 if bad else 0)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """What to call after every entry; on a terminal it moves a bar with the time left."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("tasks", total=total)
        yield lambda: bar.advance(task)
