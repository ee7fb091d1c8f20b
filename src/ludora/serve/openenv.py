"""Ludora's environments as OpenEnv serves them: one WebSocket is one session, and a session plays games one by one.

    reset   task, seed, seat, opponent     every one of them optional; what is not served is refused
    step    {"text": "..."}                one of the legal actions, or free text where `legal` is null

The protocol, the client and the check of a running server are those of the `openenv` package.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from openenv.core.env_server import Action, ConcurrencyConfig, Environment, Observation, State, create_fastapi_app
from openenv.core.env_server.types import EnvironmentMetadata, ServerMode
from pydantic import Field

from ludora import __version__
from ludora.envs.build import num_players, task_spec
from ludora.errors import EnvBroken, InputError, LudoraError, nearest
from ludora.grammar import parse
from ludora.players.build import scripted_player
from ludora.serve.table import Table
from ludora.types import Spec, Task

NAME = "ludora"
SEEDS = 2**64  # a seed is below this


class TextAction(Action):  # type: ignore[misc]  # openenv is not typed
    """What the seat says or chooses."""

    text: str = Field(description="one of the legal actions, or free text where there are none listed")


class TurnObservation(Observation):  # type: ignore[misc]
    """What the seat sees, and how the game ended for it."""

    messages: list[dict[str, str]] = Field(default_factory=list, description="chat messages: role and content")
    legal: list[str] | None = Field(default=None, description="the legal actions; null: any text is an answer")
    seat: int = Field(default=0, description="which seat this is")
    outcome: str = Field(
        default="", description="won, drew, lost, forfeited or truncated; empty while the game goes on"
    )
    score: float | None = Field(default=None, description="0 to 1; null while the game goes on")
    info: dict[str, float | str] = Field(default_factory=dict, description="facts of the finished game")


class GameState(State):  # type: ignore[misc]
    """Which game a session plays."""

    task: str = ""
    seed: int = 0
    seat: int = 0
    opponent: str = ""


@dataclass(frozen=True, slots=True)
class Menu:
    """What clients may ask for; the first of each is what they get unasked. Nothing else is opened for them.

    Attributes:
        tasks: by their canonical text.
        seats: of each, in the same order.
        opponents: PLAYER strings.
    """

    tasks: Mapping[str, Spec]
    seats: Mapping[str, int]
    opponents: Sequence[str]

    def task(self, text: str | None) -> str:
        """The canonical text of a task that a client asks for. Its text is parsed and compared, and never opened."""
        found = next(iter(self.tasks)) if text is None else str(parse(text))
        if found not in self.tasks:
            raise InputError("this task is not served", "served: " + ", ".join(self.tasks))
        return found

    def opponent(self, text: str | None, seats: int) -> str:
        """The PLAYER of the other seats; empty where there are none."""
        if seats == 1 and text is not None:
            raise InputError("this task has one seat and no opponent", "leave opponent out")
        found = self.opponents[0] if text is None else str(parse(text))
        if found not in self.opponents:
            raise InputError("this opponent is not served", "served: " + ", ".join(self.opponents))
        return found if seats > 1 else ""


def menu(tasks: Sequence[str], opponents: Sequence[str]) -> Menu:
    """Check what is to be served.

    Raises:
        InputError: no such task, or an opponent that needs a model or a person.
    """
    specs = {str(spec): spec for spec in map(task_spec, tasks)}
    seats = {text: num_players(spec) for text, spec in specs.items()}
    return Menu(specs, seats, [scripted_player(text).name for text in opponents])


class LudoraEnvironment(Environment):  # type: ignore[misc]
    """One session. A game begins with `reset` and ends when an observation is `done`."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, offered: Menu) -> None:
        super().__init__()
        self._offered = offered
        self._table: Table | None = None
        self._state = GameState()

    def reset(
        self,
        seed: int | None = None,
        episode_id: str | None = None,
        task: str | None = None,
        seat: int = 0,
        opponent: str | None = None,
        **unknown: Any,
    ) -> TurnObservation:
        """Begin a game.

        Args:
            seed: that decides everything random; without one, a fresh one (`state` tells which).
            episode_id: a name for the game, kept in `state`.
            task: TASK, one of those that are served.
            seat: the one that the client plays.
            opponent: PLAYER of the other seats, one of those that are served.
        """
        if unknown:
            known = ("seed", "episode_id", "task", "seat", "opponent")
            raise InputError(f"reset takes no {next(iter(unknown))!r}", nearest(next(iter(unknown)), known))
        self.close()
        text = self._offered.task(task)
        seats = self._offered.seats[text]
        against = self._offered.opponent(opponent, seats)
        number = secrets.randbelow(2**31) if seed is None else seed
        if type(number) is not int or not 0 <= number < SEEDS:
            raise InputError("seed is a whole number from 0", "for example seed=7")
        if type(seat) is not int:
            raise InputError("seat is a whole number", "seats count from 0")
        player = scripted_player(against) if against else None
        self._table = Table(Task(self._offered.tasks[text], number, seat, (against,) * (seats - 1)), player)
        self._state = GameState(episode_id=episode_id, task=text, seed=number, seat=seat, opponent=against)
        return self._observe()

    def step(self, action: TextAction, timeout_s: float | None = None, **_: Any) -> TurnObservation:
        """Make a move. An illegal one forfeits the game."""
        if self._table is None:
            raise InputError(
                "there is no game", "reset begins one; a session that was idle for too long has lost its own"
            )
        try:
            self._table.move(action.text)
        except EnvBroken:
            self.close()
            raise
        self._state.step_count += 1
        return self._observe()

    def _observe(self) -> TurnObservation:
        assert self._table is not None
        table, seat = self._table, self._state.seat
        seen = TurnObservation(seat=seat, reward=table.earned())
        if table.turn:
            seen.messages = [{"role": m.role, "content": m.content} for m in table.turn.messages]
            seen.legal = None if table.turn.legal is None else list(table.turn.legal)
        elif result := table.result():
            seen.done, seen.outcome, seen.score = True, str(result.outcomes[seat]), result.scores[seat]
            seen.info = dict(result.info)
        return seen

    @property
    def state(self) -> GameState:
        """Which game is played."""
        return self._state

    def get_metadata(self) -> EnvironmentMetadata:
        """What is served."""
        told = f"Tasks: {', '.join(self._offered.tasks)}. Opponents: {', '.join(self._offered.opponents)}."
        return EnvironmentMetadata(name=NAME, description=told, version=__version__)

    def close(self) -> None:
        """End the game, if there is one."""
        if self._table is not None:
            self._table.close()
            self._table = None


def openenv_app(offered: Menu, sessions: int, idle_seconds: float) -> FastAPI:
    """The application: at most `sessions` at once; the game of an idle one is closed."""
    app: FastAPI = create_fastapi_app(
        partial(LudoraEnvironment, offered),
        TextAction,
        TurnObservation,
        concurrency_config=ConcurrencyConfig(max_concurrent_envs=sessions, session_timeout=idle_seconds),
        env_name=NAME,
        state_cls=GameState,
        mode=ServerMode.SIMULATION,
    )
    app.add_exception_handler(LudoraError, _refused)
    return app


async def _refused(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": " ".join(str(error).split())}, 409)
