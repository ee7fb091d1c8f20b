"""`ludora evaluate`: any player against any player."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ludora.cli.common import Shown, model_options, prints, say

Player = Annotated[
    str, typer.Argument(metavar="PLAYER", help="PLAYER to measure: random, mcts, nash, base, adapter(FOLDER) ...")
]
Task = Annotated[str, typer.Argument(metavar="TASK", help="TASK: leduc_poker, hex(board_size=5), 200000042 ...")]


@prints
@model_options
def evaluate(
    player: Player,
    task: Task,
    against: Annotated[str, typer.Option(help="PLAYER of the other seats.")] = "random",
    compare: Annotated[str, typer.Option(help="PLAYER to compare with, on the same deals, by a paired test.")] = "",
    games: Annotated[int, typer.Option(help="Games per player, all seats equally often; 0 only with --exact.")] = 200,
    seed: Annotated[int, typer.Option(help="Seed of the deals.")] = 0,
    merged: Annotated[
        str, typer.Option(metavar="FOLDER", help="Merge the adapter into FOLDER, and evaluate that model beside it.")
    ] = "",
    exact: Annotated[bool, typer.Option("--exact", help="Add exact values where the game is small enough.")] = False,
    settings: Any = None,
) -> Shown:
    """Measure a player: wins, draws, mean return with intervals, and exact values where the game is small."""
    from ludora.evals.evaluate import evaluate as measure
    from ludora.evals.tables import show
    from ludora.players.build import build_player, player_spec

    for text in (player, against, *([compare] if compare else [])):
        player_spec(text)  # all of them, before a model is loaded for one
    if merged:
        compare = _merge(player, compare, merged, settings)
    found = measure(
        player,
        task,
        build=lambda text: build_player(text, settings, say),
        against=against,
        compare=compare,
        games=games,
        seed=seed,
        exact=exact,
    )
    return Shown(found.to_json(), lambda console: show(found, console))


def _merge(player: str, compare: str, folder: str, settings: Any) -> str:
    """Merge the adapter that a PLAYER names, unless the folder holds that merge; the PLAYER of the merged model."""
    from pathlib import Path

    from ludora.errors import InputError
    from ludora.players.build import player_spec
    from ludora.types import Spec

    spec = player_spec(player)
    if spec.name != "adapter" or compare:
        raise InputError("--merged evaluates one adapter beside its merge", "name an adapter(FOLDER), and no --compare")
    from ludora.models.merge import merge_adapter, merged_from  # torch, which a refusal needs not wait for

    adapter, out = Path(str(spec.args[0])), Path(folder)
    if not merged_from(out, adapter):
        trust = settings.trust_remote_code
        merge_adapter(adapter, out, model=_named(settings), device=settings.device, trust_remote_code=trust, say=say)
    return str(Spec("merged", args=(folder,)))


def _named(settings: Any) -> str:
    """The base model, where one was named; else the adapter says."""
    return str(settings.model) if "model" in settings.model_fields_set else ""
