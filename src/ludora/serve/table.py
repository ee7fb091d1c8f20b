"""One game in which somebody outside plays one seat, and an opponent of ours the others.

The turns have the identity that `rollout.play` would give them, so the same task and the same moves are the same game,
wherever they are played.
"""

from __future__ import annotations

from dataclasses import replace

from ludora.envs.build import make_env
from ludora.errors import InputError
from ludora.players.base import Player, check_plays
from ludora.rng import stream
from ludora.types import Move, Result, Task, Turn


class Table:
    """A game that waits for the moves of `task.seat`.

    Raises:
        InputError: there is no such environment or seat, or the opponent cannot play it.
        EnvBroken: the environment does not start.
    """

    def __init__(self, task: Task, opponent: Player | None) -> None:
        self.env, self.task, self._opponent = make_env(task), task, opponent
        self._counts = [0] * self.env.num_seats
        self._earned = 0.0
        self.turn: Turn | None = None
        try:
            if not 0 <= task.seat < self.env.num_seats:
                raise InputError(f"there is no seat {task.seat}", f"seats are 0 to {self.env.num_seats - 1}")
            if opponent:
                check_plays(opponent, task.env)
            self._go_on(None)
        except BaseException:  # boundary: whatever fails, the environment is closed
            self.env.close()
            raise

    def move(self, text: str) -> None:
        """Make the move of the seat, and all moves of the others until it must move again or the game is over.

        Raises:
            InputError: the game is over.
            EnvBroken: the environment failed.
        """
        if self.turn is None:
            raise InputError("the game is over", "reset begins another one")
        self._go_on(Move(text))

    def earned(self) -> float:
        """Reward of the seat since the last call."""
        paid, self._earned = self._earned, 0.0
        return paid

    def result(self) -> Result | None:
        """How it ended; None while it goes on."""
        return None if self.turn else self.env.result()

    def _go_on(self, mine: Move | None) -> None:
        seat = self.task.seat
        self._collect()
        while turns := self._turns():
            self.turn = next((turn for turn in turns if turn.seat == seat), None)
            if self.turn and mine is None:
                return
            others = [turn for turn in turns if turn.seat != seat]
            answers = self._opponent.act(others) if self._opponent and others else []
            moves = {turn.seat: answer for turn, answer in zip(others, answers, strict=True)}
            if self.turn and mine:
                moves[seat], mine = mine, None
            self.env.apply(moves)
            for turn in turns:
                self._counts[turn.seat] += 1
            self._collect()
        self.turn = None

    def _turns(self) -> tuple[Turn, ...]:
        seed = self.task.seed
        return tuple(
            replace(turn, number=(number := self._counts[turn.seat]), seed=stream("turn", seed, turn.seat, number))
            for turn in self.env.turns()
        )

    def _collect(self) -> None:
        self._earned += self.env.rewards()[self.task.seat]

    def close(self) -> None:
        """Free the environment. Idempotent."""
        self.env.close()
