"""`ludora list`: what there is to choose from."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ludora.cli.common import Shown, prints, table

app = typer.Typer(help="List games, models, players, data sets or presets.", no_args_is_help=True)


@app.command("games")
@prints
def games(
    all_games: Annotated[
        bool, typer.Option("--all", help="Every game of OpenSpiel, not only the numbered ones.")
    ] = False,
) -> Shown:
    """Games with their task ids and what is known about them, and Ludora's own; --all for every other game."""
    from ludora.envs.build import make_env, own_games
    from ludora.envs.catalogue import BLOCK, CATALOGUE
    from ludora.envs.figures import figures, kind
    from ludora.envs.openspiel_games import game_types
    from ludora.types import Spec, Task

    kinds, known = game_types(), figures()
    numbers = {entry.name: i for i, entry in enumerate(CATALOGUE)}
    names = [*numbers, *sorted(set(kinds) - set(numbers))] if all_games else list(numbers)
    found = []
    for name in names:
        low, high = kinds[name].min_num_players, kinds[name].max_num_players
        row: dict[str, Any] = {
            "index": numbers.get(name),
            "name": name,
            "first_task_id": numbers[name] * BLOCK if name in numbers else None,
            "long_name": kinds[name].long_name,
            "players": str(low) if low == high else f"{low}-{high}",
            "kind": kind(name),
            "dynamics": kinds[name].dynamics.name.lower(),
        }
        if name in known:
            f = known[name]
            row |= {"turns": f.turns, "prompt_tokens": f.tokens, "prompt_tokens_max": f.tokens_max}
            row |= {"options_max": f.legal_max, "exact": f.exact, "search": list(f.search)}
        found.append(row)
    for name, (text, what) in own_games().items():
        row = {"index": None, "name": name, "first_task_id": None, "long_name": text}
        seats = make_env(Task(Spec(name))).num_seats
        found.append({**row, "players": str(seats), "kind": what, "dynamics": "sequential"})
    head = ("game", "index", "players", "kind", "turns", "tokens", "options", "exact", "search")
    return Shown({"games": found}, table("", head, [_game_row(row) for row in found]))


def _game_row(row: dict[str, Any]) -> tuple[str, ...]:
    """One line of the table; what was not measured is left empty."""
    first = (row["name"], "" if row["index"] is None else str(row["index"]), row["players"], row["kind"])
    if "turns" not in row:
        return (*first, "", "", "", "", "")
    tokens = f"{row['prompt_tokens']} ({row['prompt_tokens_max']})"
    search = ", ".join(row["search"]) or "none"
    return (*first, str(row["turns"]), tokens, str(row["options_max"]), "yes" if row["exact"] else "no", search)


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


@app.command("datasets")
@prints
def datasets() -> Shown:
    """Data sets, to evolve on and to evaluate with, and what they need."""
    from ludora.data.sources import FILES, SOURCES

    found = [{"name": name, "description": text, "needs": needs} for name, (text, needs) in SOURCES.items()]
    found.append({"name": "FILE.jsonl", "description": FILES, "needs": ""})
    rows = [(row["name"], row["description"], row["needs"] or "nothing") for row in found]
    return Shown({"datasets": found}, table("", ("data set", "", "needs"), rows))


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
