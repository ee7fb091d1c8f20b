"""Two-player OpenSpiel games in sequence form: numpy arrays from which values, best responses and Nash follow.

A *slot* is one legal action of one information state; slots of an information state lie side by side. A
*sequence* of a seat is the slot it took last (its own earlier ones are implied, as it forgets nothing) or its
empty sequence, numbered S and S + 1 for seats 0 and 1, where S is the number of slots. For slot
probabilities `probs` (S) the realisation r (S + 2) is the product of a seat's own probabilities up to a
sequence, and every expectation over terminals t is  sum_t chance_t * r[seq_t0] * r[seq_t1] * value_t.
(von Stengel, "Efficient computation of behavior strategies", 1996.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from random import Random
from typing import Any

import numpy as np
import pyspiel
from numpy.typing import NDArray

from ludora.envs.openspiel_games import load
from ludora.errors import InputError
from ludora.types import Spec

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# About two seconds and 200 MB to compile; liars_dice with one die each has 295,000 nodes.
NODE_LIMIT = 400_000


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """A compiled game. I information states, S slots, T terminals.

    Information states are ordered by seat, then by how many own moves lead there, then by first visit.
    `states[i]` is one engine state in information state i, `keys[i]` its string. Slots of i are
    `first[i]:first[i + 1]`. `levels[seat]` lists (from, to) ranges of information states, shallow first.
    """

    states: tuple[Any, ...]
    keys: tuple[str, ...]
    seats: Ints  # (I)
    first: Ints  # (I + 1)
    parent: Ints  # (I): the seat's sequence that leads there
    owner: Ints  # (S): information state of a slot
    levels: tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]
    sequences: Ints  # (2, T)
    chance: Floats  # (T)
    payoffs: Floats  # (2, T)
    zero_sum: bool

    @property
    def slots(self) -> int:
        return int(self.first[-1])

    def uniform(self) -> Floats:
        """(S) the uniform policy."""
        counts: Floats = np.diff(self.first).astype(np.float64)
        probs: Floats = 1.0 / counts[self.owner]
        return probs

    def realisation(self, probs: Floats) -> Floats:
        """(S) slot probabilities -> (S + 2) realisations of both seats' sequences."""
        out = np.ones(self.slots + 2)
        for levels in self.levels:
            for start, stop in levels:
                a, b = self.first[start], self.first[stop]
                out[a:b] = probs[a:b] * out[self.parent[self.owner[a:b]]]
        return out

    def gains(self, seat: int, realisation: Floats) -> Floats:
        """(S + 2) what each sequence of `seat` earns at the terminals it ends in, against the other's realisation."""
        weight = self.chance * realisation[self.sequences[1 - seat]] * self.payoffs[seat]
        # NumPy's types call every bincount an integer one; with weights it is not.
        return np.bincount(self.sequences[seat], weight, minlength=self.slots + 2).astype(np.float64, copy=False)

    def best_value(self, seat: int, realisation: Floats) -> float:
        """The most that `seat` can get against the other's realisation."""
        value = self.gains(seat, realisation)
        for start, stop in reversed(self.levels[seat]):
            a, b = self.first[start], self.first[stop]
            best = np.maximum.reduceat(value[a:b], self.first[start:stop] - a)
            np.add.at(value, self.parent[start:stop], best)
        return float(value[self.slots + seat])

    def normalise(self, weights: Floats) -> Floats:
        """(S) non-negative weights -> probabilities per information state; uniform where all are zero."""
        total = np.add.reduceat(weights, self.first[:-1])[self.owner]
        return np.where(total > 0, weights / np.where(total > 0, total, 1.0), self.uniform())


class _Builder:
    """Walks the tree once and numbers information states and slots in order of first visit."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.game = load(spec).game
        self.place: dict[tuple[int, str], int] = {}
        self.states: list[Any] = []
        self.counts: list[int] = []
        self.first: list[int] = []
        self.parent: list[int] = []
        self.depth: list[int] = []
        self.seats: list[int] = []
        self.ends: list[tuple[int, int, float, float, float]] = []  # sequences, chance, payoffs

    def walk(self) -> None:
        # A seat's sequence while walking: visit-order slot, or -1 for its empty one; with its number of own moves.
        stack: list[tuple[Any, float, tuple[int, int], tuple[int, int]]] = [
            (self.game.new_initial_state(), 1.0, (-1, -1), (0, 0))
        ]
        nodes = 0
        while stack:
            state, chance, seq, depth = stack.pop()
            nodes += 1
            if nodes > NODE_LIMIT:
                raise too_large(self.spec)
            if state.is_terminal():
                returns = state.returns()
                self.ends.append((*seq, chance, returns[0], returns[1]))
            elif state.is_chance_node():
                for action, probability in reversed(state.chance_outcomes()):
                    stack.append((state.child(action), chance * probability, seq, depth))
            else:
                seat = state.current_player()
                actions = state.legal_actions()
                slot = self.visit(state, seat, seq[seat], depth[seat], len(actions))
                deeper = (depth[0] + 1, depth[1]) if seat == 0 else (depth[0], depth[1] + 1)
                for i in range(len(actions) - 1, -1, -1):
                    after = (slot + i, seq[1]) if seat == 0 else (seq[0], slot + i)
                    stack.append((state.child(actions[i]), chance, after, deeper))

    def visit(self, state: Any, seat: int, parent: int, depth: int, count: int) -> int:
        """First slot of the information state of `state`."""
        key = (seat, state.information_state_string(seat))
        i = self.place.get(key)
        if i is None:
            i = self.place[key] = len(self.states)
            self.first.append(self.first[-1] + self.counts[-1] if i else 0)
            self.states.append(state)
            self.counts.append(count)
            self.parent.append(parent)
            self.depth.append(depth)
            self.seats.append(seat)
        elif self.parent[i] != parent:
            raise InputError(f"{self.spec}: a seat forgets what it did", "exact evaluation needs perfect recall")
        return self.first[i]

    def tree(self) -> Tree:
        """Sort the information states by (seat, depth) so that every level is one range of slots."""
        seats, depth, counts = np.array(self.seats), np.array(self.depth), np.array(self.counts)
        order = np.lexsort((depth, seats))  # stable, so first visit decides the rest
        first = np.concatenate([[0], np.cumsum(counts[order])])
        slots = int(first[-1])
        renumber = np.empty(slots + 2, dtype=np.int64)  # visit-order slot -> slot; the last two stand for -1
        for new, old in enumerate(order):
            renumber[self.first[old] : self.first[old] + counts[old]] = np.arange(first[new], first[new + 1])
        seq = np.array([end[:2] for end in self.ends], dtype=np.int64).T
        parent = np.array(self.parent, dtype=np.int64)[order]
        keys = list(self.place)
        return Tree(
            states=tuple(self.states[i] for i in order),
            keys=tuple(keys[i][1] for i in order),
            seats=seats[order],
            first=first,
            parent=np.where(parent < 0, slots + seats[order], renumber[parent]),
            owner=np.repeat(np.arange(len(order)), counts[order]),
            levels=(_levels(seats[order], depth[order], 0), _levels(seats[order], depth[order], 1)),
            sequences=np.stack([np.where(seq[p] < 0, slots + p, renumber[seq[p]]) for p in (0, 1)]),
            chance=np.array([end[2] for end in self.ends]),
            payoffs=np.array([end[3:] for end in self.ends]).T.copy(),
            zero_sum=load(self.spec).zero_sum,
        )


def _levels(seats: Ints, depth: Ints, seat: int) -> tuple[tuple[int, int], ...]:
    mine = np.flatnonzero(seats == seat)
    if not len(mine):
        return ()
    cuts = [0, *(np.flatnonzero(np.diff(depth[mine])) + 1), len(mine)]
    return tuple((int(mine[0]) + a, int(mine[0]) + b) for a, b in pairwise(cuts))


def too_large(spec: Spec) -> InputError:
    """The refusal of a game whose tree has more nodes than we compile."""
    return InputError(f"{spec} is too large to solve exactly", f"its tree has more than {NODE_LIMIT} nodes; play games")


def why_not_exact(spec: Spec) -> InputError | None:
    """Why a game cannot be compiled, None if it can. Does not compile it.

    Raises:
        InputError: the game itself is unknown or refused.
    """
    loaded = load(spec)
    kind = loaded.game.get_type()
    if loaded.seats != 2:
        return InputError(f"{spec} has {loaded.seats} seats", "exact evaluation is for two")
    if kind.dynamics != pyspiel.GameType.Dynamics.SEQUENTIAL:
        hint = f"wrap it: turn_based_simultaneous_game(game={spec})"
        return InputError(f"{spec} has simultaneous moves", hint)
    if not kind.provides_information_state_string:
        return InputError(f"{spec} has no information states", "play games instead")
    return None if _small(spec) else too_large(spec)


@lru_cache(maxsize=256)
def _small(spec: Spec) -> bool:
    """Whether the tree has at most NODE_LIMIT nodes.

    Counting chess up to the limit would take a minute, so random descents first estimate the size: the product of the
    branching factors on the way down is an unbiased estimate (Knuth 1975). The median of them is far below the mean,
    so only a game that is hopeless by that measure is refused unseen.
    """
    game = load(spec).game
    probes = sorted(_probe(game, Random(i)) for i in range(15))
    if probes[len(probes) // 2] > 100 * NODE_LIMIT:
        return False
    return all(count < NODE_LIMIT for count, _ in enumerate(_nodes(game)))


def _probe(game: Any, random: Random) -> float:
    state, width, total = game.new_initial_state(), 1.0, 1.0
    while not state.is_terminal() and total < 1e15:
        actions = state.legal_actions()
        width *= len(actions)
        total += width
        state.apply_action(random.choice(actions))
    return total


def _nodes(game: Any) -> Iterator[None]:
    stack = [game.new_initial_state()]
    while stack:
        state = stack.pop()
        yield None
        if not state.is_terminal():
            stack.extend(state.child(action) for action in state.legal_actions())


@lru_cache(maxsize=8)
def compile_tree(spec: Spec) -> Tree:
    """Compile a game once; later calls with an equal spec return the same tree.

    Raises:
        InputError: not for two seats, not sequential, without information states, too large, or without recall.
    """
    if error := why_not_exact(spec):
        raise error
    builder = _Builder(spec)
    builder.walk()
    return builder.tree()


def solve(tree: Tree, iterations: int) -> Floats:
    """(S) an approximate Nash equilibrium of a zero-sum game: CFR+, alternating updates, linear averaging.

    (Tammelin, "Solving large imperfect information games using CFR+", 2014.)
    """
    probs = tree.uniform()
    regrets, average = np.zeros(tree.slots), np.zeros(tree.slots)
    slot_seat = tree.seats[tree.owner]
    for t in range(1, iterations + 1):
        for seat in (0, 1):
            _collect_regrets(tree, seat, probs, regrets)
            probs = np.where(slot_seat == seat, tree.normalise(regrets), probs)
        average += t * tree.realisation(probs)[: tree.slots]
    return tree.normalise(average)


def _collect_regrets(tree: Tree, seat: int, probs: Floats, regrets: Floats) -> None:
    """Add the counterfactual regrets of one seat's slots to `regrets`, floored at zero."""
    value = tree.gains(seat, tree.realisation(probs))
    for start, stop in reversed(tree.levels[seat]):
        a, b = tree.first[start], tree.first[stop]
        mean = np.add.reduceat(probs[a:b] * value[a:b], tree.first[start:stop] - a)
        regrets[a:b] = np.maximum(regrets[a:b] + value[a:b] - mean[tree.owner[a:b] - start], 0.0)
        np.add.at(value, tree.parent[start:stop], mean)
