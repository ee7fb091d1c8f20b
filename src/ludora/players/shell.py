"""Scripted players of the shell: one that carries out the reference solution, and one that does nothing.

Between them they prove a task: with the first the check must succeed, with the second it must not.
"""

from __future__ import annotations

from collections.abc import Sequence

from ludora.envs.shell.actions import reference, write
from ludora.envs.shell.env import State
from ludora.errors import InputError
from ludora.players.base import Player
from ludora.players.bots import no_options
from ludora.types import Move, Spec, Turn

PLAYERS = {
    "reference": "carries out the reference solution of a shell task, then finishes",
    "idle": "finishes a shell task at once, having done nothing",
}


class Reference:
    """The reference solution as one answer, then finish; or with `idle`, finish at once."""

    def __init__(self, *, idle: bool = False) -> None:
        self.name, self.idle = "idle" if idle else "reference", idle

    def check(self, spec: Spec) -> None:
        """Whether it can play a task.

        Raises:
            InputError: it is not the shell.
        """
        if spec.name != "shell":
            raise InputError(f"player {self.name} plays shell, not {spec}", "random plays everything else")

    def act(self, turns: Sequence[Turn]) -> list[Move]:
        return [Move(self._answer(turn)) for turn in turns]

    def _answer(self, turn: Turn) -> str:
        state = turn.state
        if not isinstance(state, State):
            raise InputError(f"player {self.name} plays shell, and this is something else", "random plays games")
        done = self.idle or state.number > 0
        return write(None if done else reference(state.entry), state.act)


def build(spec: Spec) -> Player:
    """`reference` or `idle` from their PLAYER string.

    Raises:
        InputError: they have no options.
    """
    no_options(spec)
    return Reference(idle=spec.name == "idle")
