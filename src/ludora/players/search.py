"""Players that search OpenSpiel states: MCTS, information-set MCTS, and Nash by CFR+.

`mcts` searches the true state, hidden cards included (`sees_hidden`); `ismcts` and `nash` know only what
their seat knows. Every move gets a fresh bot seeded from `Turn.seed`, so the batch decides nothing; the moves
of one batch run in threads, because the engine lets go of Python while it searches.

| strength      | simulations | rollouts | what it is for                                     |
|---------------|-------------|----------|----------------------------------------------------|
| `mcts:weak`   | 25          | 1        | a first opponent; the origin trained against 10    |
| `mcts:medium` | 100         | 1        | the default; a few to 200 ms a move                |
| `mcts:strong` | 1000        | 10       | evaluation; sees a tactic of several moves         |
| `mcts:origin` | by game     | by game  | the origin's evaluation opponent, see `catalogue`  |
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import log, sqrt
from random import Random
from time import monotonic
from typing import Any

import pyspiel

from ludora.envs.build import is_openspiel
from ludora.envs.catalogue import BY_NAME
from ludora.envs.openspiel import SpielHandle
from ludora.envs.openspiel_games import chance_outcomes, draw, load, quiet
from ludora.envs.openspiel_tree import Floats, compile_tree, solve, why_not_exact
from ludora.errors import InputError, nearest
from ludora.players.base import Player
from ludora.players.bots import legal_of, no_options, read_options
from ludora.players.resample import resampler
from ludora.rng import generator, uniform
from ludora.types import Move, Spec, Turn

STRENGTHS: dict[str, tuple[int, int]] = {"weak": (25, 1), "medium": (100, 1), "strong": (1000, 10)}
_MEMORY_MB = 200  # of one search tree; the bot prunes it beyond that


def handle_of(turn: Turn, player: str) -> SpielHandle:
    """The engine handle of a turn.

    Raises:
        InputError: the turn comes from an environment that is not an OpenSpiel game.
    """
    if not isinstance(turn.state, SpielHandle):
        raise foreign(player)
    return turn.state


def foreign(player: str) -> InputError:
    """The refusal of environments that are no OpenSpiel games."""
    return InputError(f"player {player} plays OpenSpiel games only", "choose random, a model or a human instead")


def sees_hidden(player: Player, spec: Spec) -> bool:
    """Whether the player sees what this game hides from its seat."""
    if not getattr(player, "sees_hidden", False) or not is_openspiel(spec):
        return False
    return bool(load(spec).game.get_type().information == pyspiel.GameType.Information.IMPERFECT_INFORMATION)


def build(spec: Spec) -> Player:
    """`mcts`, `ismcts` or `nash` from its PLAYER string.

    Raises:
        InputError: an unknown strength or option, or a value out of range.
    """
    if spec.name == "nash":
        no_options(Spec(spec.name, spec.variant))
        return Nash(**read_options(spec, {"iterations": int}))
    options = read_options(spec, {"simulations": int, "rollouts": int, "seconds": float, "uct": float})
    return {"mcts": MCTS, "ismcts": ISMCTS}[spec.name](spec.variant, **options)


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard to search one game; `seconds` > 0 takes the place of `simulations`, `uct` is in units of return."""

    simulations: int
    rollouts: int
    seconds: float
    uct: float


class MCTS:
    """OpenSpiel's C++ MCTS with random rollouts. It sees hidden cards and dice: a strong, unfair opponent there.

    Args:
        strength: a row of the table above; `medium` if nothing is given.
        simulations: descents per move, instead of the strength's.
        rollouts: random games averaged per new leaf, instead of the strength's.
        seconds: search each move for so long instead of counting simulations. Play then depends on the machine
            and its load, and cannot be replayed.
        uct: exploration constant, in units of half the range of returns (1.4). Without that unit a game whose
            stakes are 13 chips is hardly explored: 0.8 chips a hand in leduc_poker. The origin had none.

    Raises:
        InputError: an unknown strength, a value that is not positive, or `seconds` with a number of simulations.
    """

    kind = "mcts"
    strengths: tuple[str, ...] = (*STRENGTHS, "origin")
    sees_hidden = True

    def __init__(
        self,
        strength: str = "",
        *,
        simulations: int | None = None,
        rollouts: int | None = None,
        seconds: float | None = None,
        uct: float | None = None,
    ) -> None:
        if strength and strength not in self.strengths:
            raise InputError(f"{self.kind} has no strength {strength!r}", nearest(strength, self.strengths))
        options = {"simulations": simulations, "rollouts": rollouts, "seconds": seconds, "uct": uct}
        given = {key: value for key, value in options.items() if value is not None}
        for key, value in given.items():
            if not 0 < value < 2**31:  # the engine counts in 32 bits
                raise InputError(
                    f"{self.kind}: {key} must be more than 0 and below 2^31, not {value}", f"for example {key}=1"
                )
        if seconds is not None and (strength or simulations):
            hint = f"write {self.kind}(seconds={seconds:g}) or leave it out"
            raise InputError(f"{self.kind}: seconds takes the place of a number of simulations", hint)
        self.name = str(Spec(self.kind, strength, params=tuple(sorted(given.items()))))
        self._strength = strength or "medium"
        self._simulations, self._rollouts, self._seconds, self._uct = simulations, rollouts, seconds or 0.0, uct
        self._efforts: dict[Spec, Effort] = {}

    def check(self, spec: Spec) -> None:
        """Refuse a game before it begins.

        Raises:
            InputError: this player cannot play it.
        """
        if not is_openspiel(spec):
            raise foreign(self.name)
        if spec not in self._efforts:
            self._efforts[spec] = self._effort(spec)

    def act(self, turns: Sequence[Turn]) -> list[Move]:
        for turn in turns:
            self.check(handle_of(turn, self.name).spec)
        with ThreadPoolExecutor(max(1, min(len(turns), os.cpu_count() or 1))) as pool:
            return list(pool.map(self._move, turns))

    def _move(self, turn: Turn) -> Move:
        handle = handle_of(turn, self.name)
        # A state of its own: another thread may be searching the same one for another seat.
        action = self._search(handle.state.clone(), turn, self._efforts[handle.spec])
        index = handle.actions.index(handle.offered(action))
        return Move(legal_of(turn, self.name)[index], index=index)

    def _effort(self, spec: Spec) -> Effort:
        """How to search a game; raises InputError if this player cannot."""
        game = load(spec).game
        kind = game.get_type()
        if kind.dynamics != pyspiel.GameType.Dynamics.SEQUENTIAL:
            hint = f"wrap it: turn_based_simultaneous_game(game={spec})"
            raise InputError(f"{self.name} cannot play simultaneous moves", hint)
        if kind.reward_model != pyspiel.GameType.RewardModel.TERMINAL:
            raise InputError(f"{self.name} cannot play {kind.short_name}, which pays as it goes", "choose random")
        half_range = (game.max_utility() - game.min_utility()) / 2
        if self._strength != "origin":
            (simulations, rollouts), uct = STRENGTHS[self._strength], 1.4 * half_range
        else:
            entry = BY_NAME.get(kind.short_name)
            if entry is None or entry.mcts is None:
                hint = "choose weak, medium or strong"
                raise InputError(f"the origin had no search settings for {kind.short_name}", hint)
            (simulations, rollouts), uct = entry.mcts, 1.414
        return Effort(
            self._simulations or simulations,
            self._rollouts or rollouts,
            self._seconds,
            uct if self._uct is None else self._uct * half_range,
        )

    def _search(self, state: Any, turn: Turn, effort: Effort) -> int:
        """The action to take in `state`, which may be changed."""
        bot = pyspiel.MCTSBot(
            state.get_game(),
            # Two streams from the halves of the turn's seed; the engine's seeds have 31 bits.
            pyspiel.RandomRolloutEvaluator(effort.rollouts, turn.seed & 0x7FFFFFFF),
            effort.uct,
            effort.simulations,
            _MEMORY_MB,
            True,  # solve: back up proven wins
            turn.seed >> 32 & 0x7FFFFFFF,
            False,  # verbose
            max_wall_clock_time=effort.seconds or -1.0,  # the engine's word for no limit
        )
        return int(bot.step(state))


class ISMCTS(MCTS):
    """Information-set MCTS: samples what its seat cannot see anew for every descent. Options as for `mcts`.

    For games whose hidden information can be resampled (see `resample`; nobody can for solitaire). The states are
    OpenSpiel's; the search is ours, because the engine's own bot breaks ties by memory addresses: with equal seeds
    one move in ten differed. 100 simulations take 2 ms a move in leduc_poker.
    """

    kind = "ismcts"
    strengths = tuple(STRENGTHS)  # the origin had no such opponent
    sees_hidden = False

    def _effort(self, spec: Spec) -> Effort:
        effort = super()._effort(spec)
        game = load(spec).game
        if game.get_type().information != pyspiel.GameType.Information.IMPERFECT_INFORMATION:
            hint = f"use mcts, which sees nothing hidden in {spec}"
            raise InputError(f"{self.name} is for games with hidden information", hint)
        state, random = game.new_initial_state(), Random(0)
        while state.is_chance_node():
            state.apply_action(draw(chance_outcomes(state), random))
        try:
            with quiet():
                resampler(state, state.current_player())(random)
        except pyspiel.SpielError as error:
            hint = "use mcts (it sees hidden information)" if game.num_players() > 1 else "choose random"
            raise InputError(f"nobody can resample hidden information in {spec}", hint) from error
        return effort

    def _search(self, state: Any, turn: Turn, effort: Effort) -> int:
        actions: list[int] = state.legal_actions()
        if len(actions) == 1:  # some games cannot be resampled where there is no choice
            return actions[0]
        tree = _InformationTree(state, effort, turn.seed)
        resample = resampler(state, turn.seat)
        end = monotonic() + effort.seconds
        done = 0
        while monotonic() < end if effort.seconds else done < effort.simulations:
            tree.descend(resample(tree.random))
            done += 1
        return tree.best(actions)


class _InformationTree:
    """Visits and returns by information state and action (Cowling, Powley, Whitehouse 2012)."""

    def __init__(self, state: Any, effort: Effort, seed: int) -> None:
        self.random = generator("ismcts", seed)
        self._effort = effort
        kind = state.get_game().get_type()
        self._by_state = kind.provides_information_state_string
        self._root: dict[int, list[float]] = {}  # action -> [visits, sum of returns]
        self._nodes = {self._key(state): self._root}

    def _key(self, state: Any) -> tuple[int, str]:
        seat = state.current_player()
        return seat, state.information_state_string(seat) if self._by_state else state.observation_string(seat)

    def descend(self, state: Any) -> None:
        """One simulation from a sampled root state, which is used up."""
        path: list[tuple[int, list[float]]] = []
        returns: Sequence[float] | None = None
        while returns is None:
            if state.is_terminal():
                returns = state.returns()
            elif state.is_chance_node():
                state.apply_action(draw(state.chance_outcomes(), self.random))
            elif (node := self._nodes.get(key := self._key(state))) is None:
                self._nodes[key] = {}
                returns = self._playouts(state)
            elif not (legal := state.legal_actions()):
                returns = state.returns()
            else:
                action = self._choose(node, legal)
                path.append((state.current_player(), node[action]))
                state.apply_action(action)
        for seat, edge in path:
            edge[0] += 1
            edge[1] += returns[seat]

    def _playouts(self, state: Any) -> list[float]:
        """Mean returns of random games from `state`; the engine's evaluator cannot be called from Python."""
        rollouts, random = self._effort.rollouts, self.random.random
        sums = [0.0] * state.num_players()
        for i in range(rollouts):
            game = state if i == rollouts - 1 else state.clone()
            while not game.is_terminal():
                if game.is_chance_node():
                    game.apply_action(draw(game.chance_outcomes(), self.random))
                elif actions := game.legal_actions():
                    game.apply_action(actions[int(random() * len(actions))])
                else:  # one in twenty deals of hearts that the engine resamples ends so: what is won by then counts
                    break
            sums = [a + b for a, b in zip(sums, game.returns(), strict=True)]
        return [total / rollouts for total in sums]

    def _choose(self, node: dict[int, list[float]], legal: Sequence[int]) -> int:
        """An untried action, or the one with the highest upper confidence bound among those legal in this sample."""
        untried = [action for action in legal if action not in node]
        if untried:
            action = untried[int(self.random.random() * len(untried))]
            node[action] = [0, 0.0]
            return action
        log_total = log(sum(node[action][0] for action in legal))

        def bound(action: int) -> float:
            visits, total = node[action]
            return total / visits + self._effort.uct * sqrt(log_total / visits)

        return max(legal, key=bound)

    def best(self, actions: Sequence[int]) -> int:
        """The most visited action of the root, by mean return among equals."""
        seen = [(edge[0], edge[1] / edge[0], action) for action, edge in self._root.items() if edge[0]]
        return max(seen)[2] if seen else actions[0]


class Nash:
    """An approximate Nash equilibrium of a small two-player zero-sum game, by CFR+.

    Computed when it first meets a game: 1,000 iterations take 0.2 s for leduc_poker (NashConv 0.0005).

    Args:
        iterations: more come nearer to equilibrium; NashConv falls faster than 1 / iterations.
    """

    sees_hidden = False

    def __init__(self, *, iterations: int = 1000) -> None:
        if iterations < 1:
            raise InputError(
                f"nash: iterations must be at least 1, not {iterations}", "for example nash(iterations=1000)"
            )
        self.name = str(Spec("nash", params=(("iterations", iterations),) if iterations != 1000 else ()))
        self._iterations = iterations
        self._policies: dict[Spec, dict[tuple[int, str], Floats]] = {}

    def check(self, spec: Spec) -> None:
        """Refuse a game before it begins.

        Raises:
            InputError: it is not a small two-player zero-sum game.
        """
        if not is_openspiel(spec):
            raise foreign(self.name)
        if error := why_not_exact(spec):
            raise error
        if not load(spec).zero_sum:
            raise InputError(f"{spec} is not zero-sum", "nash solves two-player zero-sum games only")

    def act(self, turns: Sequence[Turn]) -> list[Move]:
        moves = []
        for turn, probabilities in zip(turns, self.probabilities(turns), strict=True):
            rest, index = uniform(turn.seed), 0
            while index < len(probabilities) - 1 and rest >= probabilities[index]:
                rest -= probabilities[index]
                index += 1
            moves.append(Move(legal_of(turn, self.name)[index], index=index))
        return moves

    def probabilities(self, turns: Sequence[Turn]) -> list[list[float]]:
        out = []
        for turn in turns:
            handle = handle_of(turn, self.name)
            policy = self._policies.get(handle.spec) or self._solve(handle.spec)
            row = policy[turn.seat, handle.state.information_state_string(turn.seat)]
            out.append([float(p) for p in row])
        return out

    def _solve(self, spec: Spec) -> dict[tuple[int, str], Floats]:
        self.check(spec)
        tree = compile_tree(spec)
        probs = solve(tree, self._iterations)
        rows = (probs[a:b] for a, b in zip(tree.first, tree.first[1:], strict=False))
        policy = {(int(seat), key): row for seat, key, row in zip(tree.seats, tree.keys, rows, strict=True)}
        self._policies[spec] = policy
        return policy
