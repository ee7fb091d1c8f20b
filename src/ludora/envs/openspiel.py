"""Any OpenSpiel game as an environment: `leduc_poker`, `hex(board_size=5)`, `turn_based_simultaneous_game(game=...)`.

Sequential games name one seat per turn, simultaneous ones every seat that has a choice. Chance is drawn from
the task's own stream, by probability. What a seat reads is memoised per game, so equal information states
share the very same `Message` and `legal` objects.

An illegal text forfeits: the game is over and the seat's return becomes the game's minimum. In zero-sum
(and constant-sum) games the other seats share what that leaves; in others they keep what they had earned.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

import pyspiel

from ludora.envs.openspiel_games import View, chance_outcomes, draw, load
from ludora.errors import EnvBroken
from ludora.rng import generator
from ludora.types import End, Move, Outcome, Result, Spec, Task, Turn


@dataclass(frozen=True, slots=True, eq=False)
class SpielHandle:
    """What `Turn.state` holds for bots: the engine's state at this turn, and the action ids behind `Turn.legal`.

    The live state is shared, not copied: nobody may apply an action to it. Once its game has gone on, the
    position is replayed from the history, so an old turn stays true without costing a copy per turn.
    """

    spec: Spec
    live: Any
    ply: int  # length of the history at this turn
    actions: tuple[int, ...]

    @property
    def state(self) -> Any:
        """The pyspiel state of this turn; read-only, clone it to play on."""
        history = self.live.history()  # flat: one action per seat at a simultaneous node
        if len(history) == self.ply:
            return self.live
        state, rest = self.live.get_game().new_initial_state(), history[: self.ply][::-1]
        while rest:
            if state.is_simultaneous_node():
                state.apply_actions([rest.pop() for _ in range(state.num_players())])
            else:
                state.apply_action(rest.pop())
        return state

    def offered(self, action: int) -> int:
        """The action of `actions` that leads where this legal action of the engine does: itself, or an equal one."""
        if action in self.actions:
            return action
        place = str(self.state.child(action))
        return next(other for other in self.actions if str(self.state.child(other)) == place)


def state_turn(spec: Spec, state: Any, seat: int) -> Turn:
    """The turn of a seat that has to move in any pyspiel state: what the environment would show it there."""
    view = load(spec).view(state, seat)
    return Turn(seat, view.messages, view.legal, SpielHandle(spec, state, len(state.history()), view.actions))


@contextmanager
def _engine(spec: Spec) -> Iterator[None]:
    """The actions given to the engine in here are legal ones, so an error of its own is not the player's.

    Raises:
        EnvBroken: the engine failed.
    """
    try:
        yield
    except pyspiel.SpielError as error:
        reason = next(iter(str(error).splitlines()), "no reason is given")
        raise EnvBroken(f"the engine of {spec} failed: {reason}") from None


class OpenSpielEnv:
    """One game of OpenSpiel, played once. `zero_sum` says whether the rewards of all seats always sum to 0.

    Raises:
        InputError: the game is unknown or refused, see `openspiel_games.load`.
    """

    blocking = False

    def __init__(self, task: Task) -> None:
        self.task = task
        self._loaded = loaded = load(task.env)
        self.num_seats = loaded.seats
        self.zero_sum = loaded.zero_sum
        self._state = loaded.game.new_initial_state()
        self._chance: Random | None = None
        self._nothing = (0.0,) * loaded.seats
        self._paid = self._nothing
        self._forfeits: tuple[int, ...] = ()
        self._views: dict[int, View] = {}
        self._turns: tuple[Turn, ...] = ()
        with _engine(task.env):
            self._advance()

    def turns(self) -> tuple[Turn, ...]:
        return self._turns

    def apply(self, moves: Mapping[int, Move]) -> None:
        if moves.keys() != self._views.keys():
            raise ValueError(f"moves of seats {sorted(moves)} where {sorted(self._views)} must move")
        chosen = {seat: view.index.get(moves[seat].text) for seat, view in self._views.items()}
        self._forfeits = tuple(seat for seat, action in chosen.items() if action is None)
        if self._forfeits:
            self._views, self._turns = {}, ()
            return
        with _engine(self.task.env):
            if self._state.is_simultaneous_node():
                # Seats without a choice take part with action 0, as the engine wants it.
                self._state.apply_actions([chosen.get(seat, 0) for seat in range(self.num_seats)])
            else:
                for action in chosen.values():
                    self._state.apply_action(action)
            self._advance()

    def _advance(self) -> None:
        """Play chance until somebody must move, and look up what they read."""
        state = self._state
        while state.is_chance_node():
            self._chance = self._chance or generator("chance", self.task.seed)
            state.apply_action(draw(chance_outcomes(state), self._chance))
        self._views, self._turns = {}, ()
        if state.is_terminal():
            return
        if state.is_simultaneous_node():
            seats = [seat for seat in range(self.num_seats) if state.legal_actions(seat)]
        else:
            seats = [state.current_player()]
        self._views = {seat: self._loaded.view(state, seat) for seat in seats}
        if not seats or not all(view.actions for view in self._views.values()):
            raise EnvBroken(f"{self.task.env} stands still: nobody has a legal action")
        ply = len(state.history())
        self._turns = tuple(
            Turn(seat, v.messages, v.legal, SpielHandle(self.task.env, state, ply, v.actions))
            for seat, v in self._views.items()
        )

    def _totals(self) -> tuple[float, ...]:
        """Return of every seat up to now."""
        earned = self._paid
        if self._loaded.step_rewards or not (self._turns or self._forfeits):
            earned = tuple(self._state.returns())
        if not self._forfeits:
            return earned
        low, rest, losers = self._loaded.low, self._loaded.utility_sum, self._forfeits
        if rest is None:
            return tuple(low if seat in losers else earned[seat] for seat in range(self.num_seats))
        if len(losers) == self.num_seats:  # everyone spoilt the game: nobody wins anything from anybody
            return (rest / self.num_seats,) * self.num_seats
        share = (rest - low * len(losers)) / (self.num_seats - len(losers))
        return tuple(low if seat in losers else share for seat in range(self.num_seats))

    def rewards(self) -> tuple[float, ...]:
        if self._turns and not self._loaded.step_rewards:
            return self._nothing
        totals = self._totals()
        gained = tuple(now - before for now, before in zip(totals, self._paid, strict=True))
        self._paid = totals
        return gained

    def result(self) -> Result:
        if self._turns:
            raise RuntimeError("the game is not over")
        totals = self._totals()
        outcomes = self._loaded.outcomes(totals)
        scores = self._loaded.scores(totals)
        if self._forfeits:
            spoilt = [seat in self._forfeits for seat in range(self.num_seats)]
            outcomes = tuple(Outcome.FORFEITED if bad else Outcome.WON for bad in spoilt)
            if not self._loaded.zero_sum:  # nobody's return tells them apart: the others have earned nothing yet
                scores = tuple(float(not bad) for bad in spoilt)
        return Result(End.TERMINATED, outcomes, scores)

    def standing(self) -> tuple[tuple[float, ...], dict[str, float | str]]:
        """Half a score to all, as nobody is ahead for good; who plays alone has earned what there is."""
        alone = self.num_seats == 1
        return self._loaded.scores(self._state.returns()) if alone else (0.5,) * self.num_seats, {}

    def close(self) -> None:
        """Nothing is held that needs freeing."""
