"""`ludora list`: what there is to choose from."""

from __future__ import annotations

from typing import Annotated

import typer

from ludora.cli.common import Shown, prints, table

app = typer.Typer(help="List games, models, players or presets.", no_args_is_help=True)


@app.command("games")
@prints
def games(
    all_games: Annotated[
        bool, typer.Option("--all", help="Every game of OpenSpiel, not only the numbered ones.")
    ] = False,
) -> Shown:
    """Games with their task ids, and Ludora's own; --all for every other game that can be named."""
    from ludora.envs.build import make_env, own_games
    from ludora.envs.catalogue import BLOCK, CATALOGUE
    from ludora.envs.openspiel_games import game_types
    from ludora.types import Spec, Task

    kinds = game_types()
    numbers = {entry.name: i for i, entry in enumerate(CATALOGUE)}
    names = [*numbers, *sorted(set(kinds) - set(numbers))] if all_games else list(numbers)
    found = [
        {
            "name": name,
            "first_task_id": numbers[name] * BLOCK if name in numbers else None,
            "long_name": kinds[name].long_name,
            "players": f"{kinds[name].min_num_players}-{kinds[name].max_num_players}",
            "dynamics": kinds[name].dynamics.name.lower(),
        }
        for name in names
    ]
    for name, text in own_games().items():
        seats = make_env(Task(Spec(name))).num_seats
        row = {"name": name, "first_task_id": None, "long_name": text}
        found.append({**row, "players": f"{seats}-{seats}", "dynamics": "sequential"})
    for row in found:
        low, high = str(row["players"]).split("-")
        row["players"] = low if low == high else row["players"]
    columns = ("name", "first_task_id", "players", "dynamics", "long_name")
    rows = [tuple("" if row[c] is None else str(row[c]) for c in columns) for row in found]
    return Shown({"games": found}, table("", ("game", "first task id", "players", "dynamics", ""), rows))


@app.command("models")
@prints
def models() -> Shown:
    """Base models, and how to name others."""
    from ludora.models.known import models as known

    return _pairs("models", known())


@app.command("players")
@prints
def players() -> Shown:
    """Players, and the options they take."""
    from ludora.players.build import PLAYERS

    return _pairs("players", list(PLAYERS.items()))


@app.command("presets")
@prints
def presets() -> Shown:
    """Configs that can be used by name."""
    from ludora.config import presets as known

    found = [{"name": name, "kind": kind, "description": text} for name, (_, kind, text) in known().items()]
    rows = [(row["name"], row["kind"], row["description"]) for row in found]
    return Shown({"presets": found}, table("", ("preset", "kind", ""), rows))


def _pairs(what: str, found: list[tuple[str, str]]) -> Shown:
    data = {what: [{"name": name, "description": text} for name, text in found]}
    return Shown(data, table("", (what.removesuffix("s"), ""), [(name, text) for name, text in found]))
