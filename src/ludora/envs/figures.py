"""What was measured about the numbered games, and the page of the documentation that shows it.

The figures are made by `benchmarks/games.py --write` and lie beside this file. Everything that can be asked of the
engine in no time is asked of it instead.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ludora.envs.catalogue import BLOCK, CATALOGUE
from ludora.envs.openspiel_games import game_types
from ludora.errors import InputError
from ludora.players.search import build
from ludora.types import Spec

CONFIGS = range(9)  # config numbers that give every variant of every numbered game
FILE = Path(__file__).with_name("games.json")
SEARCHERS = ("mcts", "ismcts", "nash")


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one numbered game, between uniform players.

    `turns` (of all seats) and `tokens` (of one prompt, rules included, SmolLM2's tokenizer) are medians of config 0;
    the others are the most met in configs 0 to 8, which make `variants` different games. `exact`: the tree of config
    0 can be solved. `search`: the players of `SEARCHERS` that can play it.
    """

    turns: int
    turns_max: int
    tokens: int
    tokens_max: int
    legal_max: int
    exact: bool
    search: tuple[str, ...]
    variants: int


@lru_cache(maxsize=1)
def _file() -> Mapping[str, Any]:
    data: Mapping[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return data


def figures() -> dict[str, Figures]:
    """The figures of every numbered game, by name."""
    return {name: Figures(**{**row, "search": tuple(row["search"])}) for name, row in _file()["figures"].items()}


def checked() -> Mapping[str, str]:
    """The result of the conformance check by TASK: `ok`, or what is broken."""
    found: Mapping[str, str] = _file()["checked"]
    return found


def search_players(spec: Spec) -> tuple[str, ...]:
    """Which search players can play a game."""
    found = []
    for name in SEARCHERS:
        player: Any = build(Spec(name))
        try:
            player.check(spec)
        except InputError:
            continue
        found.append(name)
    return tuple(found)


_SUMS = {
    "ZERO_SUM": "zero-sum",
    "CONSTANT_SUM": "constant-sum",
    "GENERAL_SUM": "general-sum",
    "IDENTICAL": "common-payoff",  # all get the same
}


def kind(name: str) -> str:
    """What kind of game it is, in a few words: simultaneous moves, chance, hidden information, who wins what."""
    game = game_types()[name]
    words = ["simultaneous"] if game.dynamics.name != "SEQUENTIAL" else []
    words += ["chance"] if game.chance_mode.name != "DETERMINISTIC" else []
    words += ["hidden"] if game.information.name == "IMPERFECT_INFORMATION" else []
    words.append(_SUMS[game.utility.name])
    if game.max_num_players == 1:
        words[-1] = "alone"
    return ", ".join(words)


def further() -> tuple[str, ...]:
    """Thirty games without a number that the conformance check is run on: every kind that the engine has."""
    return (
        "battleship",
        "blotto",
        "breakthrough",
        "chinese_checkers",
        "catch",
        "cliff_walking",
        "coin_game",
        "colored_trails",
        "connect_four",
        "cribbage",
        "cursor_go",
        "dark_hex(board_size=3)",
        "deep_sea",
        "first_sealed_auction",
        "go_fish",
        "havannah(board_size=4)",
        "kuhn_poker(players=3)",
        "lewis_signaling",
        "mancala",
        "matching_pennies_3p",
        "matrix_pd",
        "nim",
        "oh_hell",
        "oshi_zumo",
        "pentago",
        "pig",
        "sheriff",
        "skat",
        "tic_tac_toe",
        "y(board_size=9)",
    )


def page() -> str:
    """`docs/games.md`, from the file of figures."""
    found = figures()
    lines = [
        "# Games",
        "",
        "Made by `python benchmarks/games.py --write`; `ludora list games` shows the same.",
        "",
        "A task id is `index * 100_000_000 + config`; configs that give the same parameters give the same game. Turns "
        "and tokens are those of games between uniform players with the rules in the prompt, options as letters where "
        "there are at most 26, and no history, counted with SmolLM2's tokenizer: the median of config 0, and the most "
        "met in configs 0 to 8. *Options* is the largest number of legal actions met there. *Exact*: values and "
        "exploitability can be computed (`--exact`). *Search*: which search players can play it; `mcts` sees what is "
        "hidden, "
        "`ismcts` does not, and each refuses what it is not listed for.",
        "",
        "| index | game | variants | players | kind | turns, median (most) | tokens, median (most) | options | exact "
        "| search |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for index, entry in enumerate(CATALOGUE):
        f, game = found[entry.name], game_types()[entry.name]
        players = {"players": game.min_num_players} | dict(entry.params(0))
        lines.append(
            f"| {index} | `{entry.name}` | {f.variants} | {players['players']} | {kind(entry.name)} | "
            f"{f.turns} ({f.turns_max}) | {f.tokens} ({f.tokens_max}) | {f.legal_max} | {'yes' if f.exact else 'no'} | "
            f"{', '.join(f.search) or 'none'} |"
        )
    numbered = {spec for spec in checked() if spec not in further()}
    broken = [f"`{spec}` ({what})" for spec, what in checked().items() if what != "ok"]
    lines += [
        "",
        "## Conformance",
        "",
        f"`ludora check-env` was run on the {len(numbered)} games that configs 0 to 8 of the {len(CATALOGUE)} numbered "
        f"games make, and on {len(further())} others: {', '.join(f'`{text}`' for text in further())}. "
        + (f"Broken: {'; '.join(broken)}." if broken else "All promises were kept."),
        "",
        *_NOTES,
    ]
    return "\n".join(lines) + "\n"


_NOTES = (
    "## Where the engine is not as one would think",
    "",
    "- 2048: when it is asked whether a move is allowed, a merge into a tile that the last move made by merging does "
    "not count. The rules text says so.",
    "- backgammon: doubles are played in two turns of two moves. Moves that are written the same lead to the same "
    "position and are offered once.",
    "- bridge: the bidding alone; the tricks are those of double-dummy play. The engine has no switch for Chicago or "
    "duplicate; what those change for one deal is who is vulnerable: nobody in config 0, the dealer's side in config 1 "
    "(`dealer_vul`), both sides in config 2 (`non_dealer_vul` too).",
    "- euchre: where a defender plays alone, the defenders score 4 for any euchre. The engine's own text calls some "
    "bids of the second round by the wrong name; ours is made from the history.",
    "- gin_rummy: equal deadwood is a draw, and so is a hand in which both take the same upcard and discard it again, "
    "or the upcard is taken for the 50th time. The rules text says so.",
    "- go: a stone that brings back an earlier position ends the game as a draw; a ko may not be taken back at once. "
    "The rules text says so.",
    "- hearts: who takes no trick gets no points for that where somebody takes all 26. The rules text says so.",
    "- hearts: where no cards are passed the engine still draws a direction and then passes; mended here.",
    "- hearts: about one deal in twenty that the engine resamples for `ismcts` cannot be played to its end; the search "
    "then counts what has been won by then.",
    "- oware: the seeds that a house begins with are the parameter `num_seeds_per_house`; `seeds_per_house` is none.",
    "- solitaire: cards turned up count as moves, of which there are 119; an empty column has no number.",
    "- go and quoridor end after so many moves at the latest; the rules say when, and who wins then. Chess and "
    "checkers are drawn after so many moves without a capture (in chess: or a pawn move), their only limit.",
)
assert len(CATALOGUE) * BLOCK < 10**12  # every id fits the padded spelling of twelve digits
