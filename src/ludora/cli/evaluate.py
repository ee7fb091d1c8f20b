"""`ludora evaluate`: any player against any player."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ludora.cli.common import Shown, model_options, prints, say

Player = Annotated[
    str, typer.Argument(metavar="PLAYER", help="PLAYER to measure: random, mcts, nash, base, adapter(FOLDER) ...")
]
Tasks = Annotated[
    list[str], typer.Argument(metavar="TASK", help="One or more: leduc_poker, hex(board_size=5), 200000042 ...")
]


@prints
@model_options
def evaluate(
    player: Player,
    tasks: Tasks,
    against: Annotated[str, typer.Option(help="PLAYER of the other seats.")] = "random",
    compare: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PLAYER", help="Compare with it on the same deals, by a paired test; as often as you like."
        ),
    ] = None,
    games: Annotated[int, typer.Option(help="Games per player, all seats equally often; 0 only with --exact.")] = 200,
    seed: Annotated[int, typer.Option(help="Seed of the deals.")] = 0,
    exact: Annotated[bool, typer.Option("--exact", help="Add exact values where the game is small enough.")] = False,
    settings: Any = None,
) -> Shown:
    """Measure a player: wins, draws, mean return with intervals, and exact values where the game is small."""
    from ludora.evals.evaluate import evaluate as measure
    from ludora.evals.tables import show
    from ludora.players.build import build_player, player_spec

    for text in (player, against, *(compare or ())):
        player_spec(text)  # all of them, before a model is loaded for one
    found = measure(
        player,
        tasks,
        build=lambda text: build_player(text, settings, say),
        against=against,
        compare=compare or (),
        games=games,
        seed=seed,
        exact=exact,
    )
    return Shown(found.to_json(), lambda console: show(found, console))
