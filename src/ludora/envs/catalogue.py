"""The 22 games that have a number, and what a task id means: `id = index * 100_000_000 + config`.

The origin's table listed variants that its engine refuses, and one that it takes and ignores; they are mended here:
- oware: the engine's parameter is `num_seeds_per_house` (the origin wrote `seeds_per_house`);
- bridge: the engine has no chicago or duplicate switch. What those change for a single deal is who is
  vulnerable, so config 1 makes the dealer's side vulnerable and config 2 both sides;
- hearts: where no cards are passed the engine draws a direction of passing all the same, and then passes
  (see `openspiel_games.chance_outcomes`).

An index past the catalogue is an error; `wrap=True`, and the task `wrap(ID)`, count on from the first game as the
origin did.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ludora.errors import InputError, nearest
from ludora.types import Spec

BLOCK = 100_000_000
Params = Mapping[str, int | float | bool | str]


@dataclass(frozen=True, slots=True)
class Entry:
    """One numbered game.

    `params` gives the parameters of a config number. `mcts` is the origin's full strength (simulations,
    rollouts), None where it had no search opponent. `success` is the score above which a game alone
    counts as won, None for the usual rule.
    """

    name: str
    params: Callable[[int], Params]
    mcts: tuple[int, int] | None = None
    success: float | None = None


def _square(c: int) -> Params:
    return {"rows": 5 + c % 3, "columns": 5 + c % 3}


def _hearts(c: int) -> Params:
    return {"pass_cards": bool(c & 1), "jd_bonus": bool(c & 2), "avoid_all_tricks_bonus": bool(c & 4)}


def _bridge(c: int) -> Params:
    return ({}, {"dealer_vul": True}, {"dealer_vul": True, "non_dealer_vul": True})[c % 3]


# 2048 and solitaire are scored as a part of a perfect game, which nobody reaches; their marks lie at about
# twice what random play scores (2048: 0.06 of the maximum, solitaire: 0.2).
CATALOGUE: tuple[Entry, ...] = (
    Entry("goofspiel", lambda c: {"players": 2, "num_cards": 8 + 2 * (c % 5), "points_order": "random"}),
    Entry("liars_dice", lambda c: {"players": 2, "numdice": 5}, (3000, 200)),
    Entry("leduc_poker", lambda c: {"players": 2}, (3000, 200)),
    Entry("gin_rummy", lambda c: {"hand_size": 7 + (c // 3) % 3, "knock_card": 10 - c % 3}, (500, 10)),
    Entry("othello", lambda c: {}, (1000, 20)),
    Entry("backgammon", lambda c: {}, (600, 15)),
    Entry("hex", lambda c: {"board_size": 5 + 2 * (c % 4)}, (1000, 50)),
    Entry("clobber", _square, (1500, 100)),
    Entry("hearts", _hearts, (500, 50)),
    Entry("euchre", lambda c: {"allow_lone_defender": bool(c & 1), "stick_the_dealer": bool(c & 2)}, (1000, 100)),
    Entry("dots_and_boxes", lambda c: {"num_rows": 3 + c % 3, "num_cols": 3 + c % 3}, (1200, 100)),
    Entry("go", lambda c: {"board_size": 5 + 2 * (c % 2), "komi": 7.5}, (300, 30)),
    Entry("chess", lambda c: {}, (200, 20)),
    Entry("checkers", lambda c: {}, (500, 50)),
    Entry("quoridor", lambda c: {"board_size": 7 + 2 * ((c // 2) % 2), "wall_count": 8 + 2 * (c % 2)}, (800, 80)),
    Entry("blackjack", lambda c: {}),
    Entry("phantom_ttt", lambda c: {"obstype": ("reveal-nothing", "reveal-numturns")[c % 2]}, (3000, 150)),
    Entry("2048", lambda c: {}, success=0.12),
    Entry("solitaire", lambda c: {}, success=0.4),
    Entry("bridge", _bridge, (200, 30)),
    Entry("amazons", lambda c: {"board_size": (6, 8, 10)[c % 3]}, (200, 20)),
    Entry("oware", lambda c: {"num_seeds_per_house": (4, 3, 5)[c % 3]}, (300, 30)),
)
BY_NAME: Mapping[str, Entry] = {entry.name: entry for entry in CATALOGUE}


def encode(name: str, config: int = 0) -> int:
    """The task id of a game and a config number.

    Raises:
        InputError: the game has no number, or the config number lies outside 0 .. 99,999,999.
    """
    indices = {entry.name: i for i, entry in enumerate(CATALOGUE)}
    if name not in indices:
        raise InputError(f"{name!r} is not in the catalogue", nearest(name, indices))
    if not 0 <= config < BLOCK:
        raise InputError(f"config {config} is out of range", f"configs run from 0 to {BLOCK - 1}")
    return indices[name] * BLOCK + config


def decode(task_id: int, *, wrap: bool = False) -> Spec:
    """The game and parameters of a task id; config numbers that give the same parameters give equal specs.

    Args:
        task_id: index * 100_000_000 + config.
        wrap: an index past the catalogue counts on from the first game, as in the origin.

    Raises:
        InputError: the id is negative or, without `wrap`, its game index lies past the catalogue.
    """
    index, config = divmod(task_id, BLOCK)
    if wrap and index >= 0:
        index %= len(CATALOGUE)
    if not 0 <= index < len(CATALOGUE):
        last = len(CATALOGUE) * BLOCK - 1
        hint = f"ids run from 0 to {last}: index * {BLOCK} + config"
        hint += f"; wrap({task_id}) counts on from the first game" if index > 0 else ""
        raise InputError(f"task id {task_id} is out of range", hint)
    entry = CATALOGUE[index]
    return Spec(entry.name, params=tuple(sorted(entry.params(config).items())))
