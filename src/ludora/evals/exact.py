"""Exact evaluation of players on small two-player games: no games are played, so there is no sampling noise.

A player is asked once for its probabilities in every information state; the rest is arithmetic on the
compiled tree (`envs.openspiel_tree`). Beating a weak opponent by much and being hard to exploit are
different things; this room measures both and mixes them nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ludora.envs.build import is_openspiel
from ludora.envs.openspiel import state_turn
from ludora.envs.openspiel_tree import Floats, Tree, compile_tree, why_not_exact
from ludora.errors import InputError
from ludora.players.base import Explicit
from ludora.types import Spec, Turn

# Model probabilities are products of float32 softmaxes; beyond this a row is a mistake, not rounding.
_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """What a player would do in every information state, in the order of `information_states(spec)`.

    `probs` is one row after the other in one vector; `row(i)` is the i-th.
    """

    spec: Spec
    player: str
    probs: Floats

    def row(self, i: int) -> Floats:
        """Probabilities over `Turn.legal` of the i-th information state."""
        first = compile_tree(self.spec).first
        return self.probs[first[i] : first[i + 1]]


@dataclass(frozen=True, slots=True)
class Payoff:
    """The exact distribution of one seat's result: mean and standard deviation of its return, and how it ends."""

    value: float
    deviation: float
    win: float
    draw: float
    loss: float


def is_exact(spec: Spec) -> bool:
    """Whether exact evaluation is possible: an OpenSpiel game of two seats, sequential, of at most `NODE_LIMIT` nodes.

    Raises:
        InputError: the game itself is unknown or refused.
    """
    return is_openspiel(spec) and why_not_exact(spec) is None


@lru_cache(maxsize=8)
def information_states(spec: Spec) -> tuple[Turn, ...]:
    """One turn per information state: those of seat 0 first, each seat's from the root down, in a fixed order.

    Raises:
        InputError: exact evaluation is not possible, and why.
    """
    tree = compile_tree(spec)
    return tuple(state_turn(spec, state, int(seat)) for state, seat in zip(tree.states, tree.seats, strict=True))


def tabulate(spec: Spec, player: Explicit) -> Table:
    """Ask a player for its probabilities in all information states, in one batch.

    Raises:
        InputError: exact evaluation is not possible, or the player cannot say its probabilities.
        ValueError: the player's rows are not distributions over the legal actions.
    """
    if not isinstance(player, Explicit):
        raise InputError(f"player {player.name} cannot say its probabilities", "evaluate it by playing games")
    turns = information_states(spec)
    rows = player.probabilities(turns)
    wrong = [i for i, (turn, row) in enumerate(zip(turns, rows, strict=True)) if len(row) != len(turn.legal or ())]
    probs = np.array([p for row in rows for p in row], dtype=np.float64)
    if wrong or not np.isfinite(probs).all() or (probs < 0).any():
        raise ValueError(f"{player.name}: probabilities do not fit the legal actions")
    tree = compile_tree(spec)
    sums = np.add.reduceat(probs, tree.first[:-1])
    if np.abs(sums - 1).max() > _TOLERANCE:
        raise ValueError(
            f"{player.name}: probabilities of an information state sum to {sums[np.abs(sums - 1).argmax()]}"
        )
    return Table(spec, player.name, probs / sums[tree.owner])


def _joint(tree: Tree, first: Floats, second: Floats) -> Floats:
    """(T) probability of every terminal when realisation `first` plays seat 0 and `second` seat 1."""
    joint: Floats = tree.chance * first[tree.sequences[0]] * second[tree.sequences[1]]
    return joint


def _seatings(spec: Spec, a: Table, b: Table) -> tuple[Tree, tuple[Floats, Floats]]:
    """The tree, and the terminal probabilities with `a` in seat 0 and with `a` in seat 1."""
    tree = compile_tree(spec)
    ra, rb = tree.realisation(a.probs), tree.realisation(b.probs)
    return tree, (_joint(tree, ra, rb), _joint(tree, rb, ra))


def expected_value(spec: Spec, a: Table, b: Table) -> tuple[float, float]:
    """Expected return of `a` in seat 0 against `b`, and in seat 1."""
    tree, joints = _seatings(spec, a, b)
    return float(joints[0] @ tree.payoffs[0]), float(joints[1] @ tree.payoffs[1])


def payoff(spec: Spec, a: Table, b: Table) -> tuple[Payoff, Payoff]:
    """The distribution of `a`'s result in seat 0 against `b`, and in seat 1."""
    tree, joints = _seatings(spec, a, b)
    return _payoff(tree, joints[0], 0), _payoff(tree, joints[1], 1)


def _payoff(tree: Tree, joint: Floats, seat: int) -> Payoff:
    mine, other = tree.payoffs[seat], tree.payoffs[1 - seat]
    value = float(joint @ mine)
    return Payoff(
        value,
        deviation=float(joint @ (mine - value) ** 2) ** 0.5,
        win=float(joint[mine > other].sum()),
        draw=float(joint[mine == other].sum()),
        loss=float(joint[mine < other].sum()),
    )


def best_response(spec: Spec, table: Table) -> tuple[float, float]:
    """What a best response earns in seat 0 against `table` in seat 1, and in seat 1 against `table` in seat 0."""
    tree = compile_tree(spec)
    realisation = tree.realisation(table.probs)
    return tree.best_value(0, realisation), tree.best_value(1, realisation)


def nash_conv(spec: Spec, table: Table) -> float:
    """What both seats together could gain by deviating when everyone plays `table`; 0 for a Nash equilibrium."""
    return sum(best_response(spec, table)) - sum(expected_value(spec, table, table))


def is_zero_sum(spec: Spec) -> bool:
    """Whether one seat wins what the other loses: only there does exploitability mean something."""
    return compile_tree(spec).zero_sum


def exploitability(spec: Spec, table: Table) -> float:
    """`nash_conv` per seat: what a best response wins on average against `table` in a two-player zero-sum game.

    Raises:
        InputError: the game is not zero-sum, where the word has no meaning.
    """
    if not is_zero_sum(spec):
        raise InputError(f"{spec} is not zero-sum", "use nash_conv")
    return nash_conv(spec, table) / 2
