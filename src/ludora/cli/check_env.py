"""`ludora check-env`: does an environment keep its promises."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from ludora.cli.common import Shown, prints, table


@prints
def check(
    task: Annotated[str, typer.Argument(metavar="TASK", help="TASK to check.")],
    games: Annotated[int, typer.Option(min=1, help="Games to play.")] = 20,
    seed: Annotated[int, typer.Option(help="Seed of the first game.")] = 0,
) -> Shown:
    """Play random games and test what every environment promises. Exit code 1 if a promise is broken."""
    from ludora.envs.build import task_spec
    from ludora.envs.check import check_env

    spec = task_spec(task)
    findings = check_env(spec, games=games, seed=seed)
    passed = all(finding.passed for finding in findings)
    rows = [(f.name, "ok" if f.passed else "BROKEN", f.detail) for f in findings]
    return Shown(
        {"task": str(spec), "games": games, "passed": passed, "findings": [asdict(f) for f in findings]},
        table(f"{spec}, {games} games", ("promise", "", "detail"), rows),
        exit_code=0 if passed else 1,
    )
