"""What an environment is: a referee over seats. Built from a task, played once, closed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from ludora.types import Move, Result, Task, Turn


@runtime_checkable
class Env(Protocol):
    """A referee. Single-use, with its own random generator; never touches the process-wide ones.

    `blocking` is True where `apply` waits for something slow (a shell, a server): the rollout then runs it
    in a thread, and the other games go on.
    """

    task: Task
    num_seats: int
    blocking: bool

    def turns(self) -> tuple[Turn, ...]:
        """Every seat that must move now, in seat order; empty when the game is over."""

    def apply(self, moves: Mapping[int, Move]) -> None:
        """Make the moves of exactly the seats that `turns` named.

        A text that is not legal forfeits the game for its seat: it is never replaced by another move.

        Raises:
            EnvBroken: the environment failed for reasons that are not the player's.
        """

    def rewards(self) -> tuple[float, ...]:
        """Reward of every seat since the last call."""

    def result(self) -> Result:
        """How it ended. Only valid once `turns` is empty."""

    def close(self) -> None:
        """Free what the environment holds. Idempotent."""


@runtime_checkable
class Standing(Protocol):
    """An environment that can say how a game stands that is stopped before its end."""

    def standing(self) -> tuple[tuple[float, ...], Mapping[str, float | str]]:
        """The score of every seat up to now, in 0..1, and the facts that a result has."""


@runtime_checkable
class Pictured(Protocol):
    """A `Turn.state` that people look at, in place of the text that a model reads."""

    @property
    def legend(self) -> str:
        """What the signs of `picture` are."""

    def picture(self) -> str:
        """The state as lines of text."""
