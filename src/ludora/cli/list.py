"""`ludora list`: what there is to choose from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ludora.cli.common import Shown, prints, table

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(help="List games, models, players, data sets or presets.", no_args_is_help=True)


@app.command("games")
@prints
def games(
    all_games: Annotated[
        bool, typer.Option("--all", help="Every game of OpenSpiel, not only the numbered ones.")
    ] = False,
) -> Shown:
    """Games with their task ids and what is known about them, and Ludora's own; --all for every other game."""
    from ludora.envs.build import own_games
    from ludora.envs.catalogue import BLOCK, CATALOGUE
    from ludora.envs.figures import figures, kind
    from ludora.envs.openspiel_games import game_types

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
    for name, (text, what, seats) in own_games().items():
        row = {"index": None, "name": name, "first_task_id": None, "long_name": text}
        found.append({**row, "players": str(seats), "kind": what, "dynamics": "sequential"})
    return Shown({"games": found}, lambda console: _show_games(found, console))


# One letter for each word, so that a line has room on 80 columns.
_KINDS = {
    "simultaneous": "s",
    "chance": "c",
    "hidden": "h",
    "zero-sum": "z",
    "constant-sum": "k",
    "general-sum": "g",
    "alone": "a",
}
_SEARCH = {"mcts": "m", "ismcts": "i", "nash": "n"}
_LEGEND = """\
no        task ids begin at no x 100,000,000
seats     players it is for
kind      s simultaneous moves, c chance, h hidden information; z zero-sum,
          k constant-sum, g general-sum, a alone
turns     of all seats in a game between uniformly random players, median
tokens    of a prompt, from the median to the most met
legal     actions to choose from, most met
exact     whether expected values and exploitability can be computed
bots      that can play it: m mcts, i ismcts, n nash
"""


def _show_games(found: list[dict[str, Any]], console: Console) -> None:
    """The numbered games with what was measured, what the columns mean, and all others in words."""
    head = ("game", "no", "seats", "kind", "turns", "tokens", "legal", "exact", "bots")
    measured = [row for row in found if "turns" in row]
    table("", head, [_measured(row) for row in measured])(console)
    console.print(_LEGEND, markup=False, highlight=False)
    others = [(row["name"], row["players"], row["kind"]) for row in found if "turns" not in row]
    table("", ("game", "seats", "kind"), others)(console)


def _measured(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        row["name"],
        str(row["index"]),
        row["players"],
        "".join(_KINDS[word] for word in row["kind"].split(", ")),
        str(row["turns"]),
        f"{row['prompt_tokens']}-{row['prompt_tokens_max']}",
        str(row["options_max"]),
        "yes" if row["exact"] else "no",
        "".join(_SEARCH[name] for name in row["search"]) or "-",
    )


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
