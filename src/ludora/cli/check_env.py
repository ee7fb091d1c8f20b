"""`ludora check-env`: do environments keep their promises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ludora.cli.common import Shown, prints, say, table

if TYPE_CHECKING:
    from ludora.envs.check import Finding


@prints
def check(
    tasks: Annotated[list[str], typer.Argument(metavar="TASK...", help="TASKs to check.")],
    games: Annotated[int, typer.Option(min=1, help="Games to play of each.")] = 20,
    seed: Annotated[int, typer.Option(help="Seed of the first game.")] = 0,
    player: Annotated[str, typer.Option(help="PLAYER of all seats; left out: random, reference in a shell.")] = "",
) -> Shown:
    """Play games and test what every environment promises. Exit code 1 if a promise is broken."""
    from ludora.envs.build import able_player, task_spec
    from ludora.envs.check import check_env
    from ludora.players.build import build_player
    from ludora.settings import ModelSettings

    specs = [task_spec(task) for task in tasks]  # a wrong one is told before any is played
    players = [build_player(player or able_player(spec), ModelSettings(), say) for spec in specs]
    found = [
        (str(spec), check_env(spec, games=games, seed=seed, player=playing))
        for spec, playing in zip(specs, players, strict=True)
    ]
    results = [_result(spec, findings, games) for spec, findings in found]
    passed = all(result["passed"] for result in results)
    code = 0 if passed else 1
    if len(found) == 1:
        ((spec, findings),) = found
        rows = [(f.name, "ok" if f.passed else "BROKEN", f.detail) for f in findings]
        return Shown(results[0], table(f"{spec}, {games} games", ("promise", "", "detail"), rows), exit_code=code)
    rows = [(spec, *_summary(findings)) for spec, findings in found]
    data = {"games": games, "passed": passed, "tasks": results}
    return Shown(data, table(f"{games} games each", ("task", "", "broken"), rows), exit_code=code)


def _result(spec: str, findings: Sequence[Finding], games: int) -> dict[str, Any]:
    passed = all(finding.passed for finding in findings)
    return {"task": spec, "games": games, "passed": passed, "findings": [asdict(f) for f in findings]}


def _summary(findings: Sequence[Finding]) -> tuple[str, str]:
    broken = [f"{f.name}: {f.detail}" for f in findings if not f.passed]
    return ("BROKEN" if broken else "ok", "; ".join(broken))
