"""`ludora shell verify`: whether tasks are sound."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ludora.cli.common import Shown, prints, progress, table

if TYPE_CHECKING:
    from rich.console import Console


@prints
def verify(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A task file; left out: the built-in set.")] = "",
    threads: Annotated[int, typer.Option(min=1, max=256, help="Sandboxes at once.")] = 4,
    instances: Annotated[
        int | None, typer.Option(min=1, help="Of every built-in template and split; 1 where it is left out.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, max=86_400.0, help="Of one script at most.")] = 20.0,
    backend: Annotated[str, typer.Option(help="namespaces, docker or podman.")] = "namespaces",
    image: Annotated[str, typer.Option(help="With docker or podman: the image.")] = "",
) -> Shown:
    """Run every reference solution, and nothing at all, each in a fresh sandbox, and let the check judge both.

    Exit code 1 if a reference is not judged correct, or an untouched machine is.
    """
    from pathlib import Path

    from ludora.envs.sandbox.build import facts, open_sandbox
    from ludora.envs.shell.entries import read_entries
    from ludora.envs.shell.env import Verdict
    from ludora.envs.shell.options import Options
    from ludora.envs.shell.verify import built_in, prove, unsound
    from ludora.errors import InputError

    if file and instances is not None:
        raise InputError(f"--instances {instances}: every entry of a file is one task", "leave --instances or FILE out")
    if file:
        entries = list(read_entries(Path(file)).values())
    else:
        entries = [entry for number in range(instances or 1) for entry in built_in(number)]
    open_sandbox(backend=backend, image=image).close()  # what cannot be had is refused before anything is tried
    options = Options(seconds=seconds, backend=backend, image=image)
    with progress("tasks", len(entries)) as step:
        proofs = prove(entries, options, threads=threads, progress=step)
    bad = unsound(proofs)
    data: dict[str, Any] = {
        **facts(backend, image),
        "tasks": file or "built-in",
        "total": len(proofs),
        "reference_correct": sum(proof.reference is Verdict.CORRECT for proof in proofs),
        "untouched_correct": sum(proof.untouched is Verdict.CORRECT for proof in proofs),
        "unsound": [
            {"entry": p.key, "reference": str(p.reference), "untouched": str(p.untouched), "why": p.why} for p in bad
        ],
    }

    def show(console: Console) -> None:
        told = [(key, str(value)) for key, value in data.items() if key != "unsound"]
        table("", ("", ""), told)(console)
        if bad:
            rows = [(p.key, str(p.reference), str(p.untouched), p.why) for p in bad]
            table("", ("entry", "reference", "untouched", "why"), rows)(console)

    return Shown(data, show, exit_code=1 if bad else 0)
