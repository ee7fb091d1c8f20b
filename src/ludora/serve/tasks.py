"""The task server: shell tasks over the routes of LifelongAgentBench, many sessions at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from anyio.to_thread import current_default_thread_limiter
from fastapi import APIRouter, Body, FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from ludora.envs.shell.entries import Entry
from ludora.envs.shell.env import Status
from ludora.serve.app import Value, add_general, new_app
from ludora.serve.bodies import (
    SESSION_KEY,
    TASK_NAME,
    Indices,
    MaybeSession,
    Metric,
    Partials,
    Record,
    Session,
    WithSession,
)
from ludora.serve.episodes import Episode, OpenMachine, Refused
from ludora.serve.items import PromptItems
from ludora.serve.metric import metric
from ludora.serve.sessions import Full, Sessions, Unknown
from ludora.serve.turns import WAITING, Crowded, Turns

# Where a client of the benchmark finds the class of the other server's client; we name it and never load it.
ITEMS_CLIENT = "src.factories.chat_history_item.online.client.ChatHistoryItemFactoryClient"
CLIENT_TIMEOUT = 120  # seconds
SPARE_THREADS = 8  # for calls that wait for no machine
RANGES: Mapping[str, tuple[int, int]] = {"max_round": (1, 100), "command_execution_timeout": (1, 600)}


@dataclass(slots=True)
class Tasks:
    """What the task server serves, and the two settings that clients may change for sessions that begin afterwards.

    Attributes:
        entries: tasks by key.
        open_machine: makes the machine of an entry; it starts when it is opened.
        items: the fixed items of the prompt.
        sessions: the open ones.
        max_round: answers of the agent that are carried out.
        command_execution_timeout: seconds that one command may take.
        act: the form of an answer.
        output: characters of a command's output that are shown.
        items_address: of the other server, for clients that ask for it.
    """

    entries: Mapping[str, Entry]
    open_machine: OpenMachine
    items: PromptItems
    sessions: Sessions[Episode]
    max_round: int = 5
    command_execution_timeout: float = 20.0
    act: str = "act"
    output: int = 800
    items_address: str = ""
    _turns: Turns = field(default_factory=Turns)

    # ---- attributes ------------------------------------------------------------------------------------------------

    def attribute(self, name: str) -> Value | Mapping[str, Any] | None:
        """What `get_attribute` answers."""
        if name == "task_name":
            return TASK_NAME
        if name == "chat_history_item_factory" and self.items_address:
            told = {"server_address": self.items_address, "request_timeout": CLIENT_TIMEOUT}
            return {"module": ITEMS_CLIENT, "parameters": told}
        return getattr(self, name) if name in RANGES else None

    def set_attribute(self, name: str, value: Value) -> None:
        """What `set_attribute` does."""
        if name not in RANGES:
            raise HTTPException(422, f"that attribute cannot be set; these can: {', '.join(RANGES)}")
        low, high = RANGES[name]
        if isinstance(value, str) or not low <= value <= high or value != int(value):
            raise HTTPException(422, f"{name} is a whole number from {low} to {high}")
        setattr(self, name, int(value))

    # ---- sessions --------------------------------------------------------------------------------------------------

    def reset(self, session: Session) -> Session:
        """Begin an episode."""
        entry = self._entry(session.sample_index)
        if session.task_name != TASK_NAME:
            raise HTTPException(422, f"the tasks here are {TASK_NAME}")
        if session.sample_status is not Status.INITIAL or session.chat_history.value:
            raise HTTPException(409, "a session begins as initial, with an empty chat history")

        def make() -> Episode:
            seconds = self.command_execution_timeout
            machine = self.open_machine(entry, seconds)
            return Episode(entry, machine, rounds=self.max_round, seconds=seconds, output=self.output, act=self.act)

        try:
            number, episode = self.sessions.open(make)
        except Full:
            raise HTTPException(429, "as many sessions are open as may be", headers={"Retry-After": "5"}) from None
        try:
            with self._use(number):
                begun = episode.begin(session, self.items.opening())
            begun.evaluation_record = Record(detail_dict={SESSION_KEY: number})
            begun.model_dump_json()  # what cannot be sent would leave the session to nobody
        except BaseException:  # boundary: whatever fails, its place is free again
            self.sessions.end(number)
            raise
        return begun

    async def in_turn(self, call: Callable[[Session], Session], session: Session) -> Session:
        """What a call answers, in a thread of its own, after the calls for the same session that came before."""
        try:
            async with self._turns.of(self._number(session)):
                return await run_in_threadpool(call, session)
        except Crowded:
            told = f"{WAITING} calls for this session wait already"
            raise HTTPException(429, told, headers={"Retry-After": "5"}) from None

    def interact(self, session: Session) -> Session:
        """Carry out the agent's last answer."""
        with self._use(self._number(session)) as episode:
            return episode.interact(session)

    def complete(self, session: Session) -> Session:
        """Judge a session and close its machine."""
        number = self._number(session)
        with self._use(number) as episode:
            judged = episode.complete(session)
            self.sessions.end(number)
        return judged

    def release(self, session: Session | None) -> None:
        """Give up a session. Without one nothing happens: whose it is could only be guessed; idle ones expire."""
        if session:
            self.sessions.end(self._number(session))

    def _entry(self, index: int | str) -> Entry:
        try:
            return self.entries[str(index)]
        except KeyError:
            raise HTTPException(404, "there is no such sample_index; get_sample_index_list has them all") from None

    def _number(self, session: Session) -> int:
        """The number that `reset` gave the session. It may come back as a float."""
        number = (session.evaluation_record.detail_dict or {}).get(SESSION_KEY)
        if not isinstance(number, int | float) or number != int(number):
            raise HTTPException(422, f"evaluation_record.detail_dict has no {SESSION_KEY}: /reset gives it")
        return int(number)

    @contextmanager
    def _use(self, number: int) -> Iterator[Episode]:
        try:
            with self.sessions.use(number) as episode:
                yield episode
        except Unknown:
            raise HTTPException(404, "there is no such session: it has ended, or was idle for too long") from None
        except Refused as error:
            raise HTTPException(409, str(error)) from None

    def metric(self, partials: Partials) -> Metric:
        """Rates over sessions that were judged."""
        for partial in partials.session_partial_list:
            self._entry(partial.sample_index)
        return Metric(metric=metric(partials.session_partial_list, self.entries))


def task_app(tasks: Tasks) -> FastAPI:
    """The application of the task server."""
    router = APIRouter()
    add_general(router, tasks.attribute, tasks.set_attribute)

    @router.post("/get_sample_index_list")
    def get_sample_index_list() -> Indices:
        """All tasks. The body is ignored."""
        return Indices(sample_index_list=list(tasks.entries))

    @router.post("/reset")
    def reset(data: WithSession) -> WithSession:
        """Begin an episode: a fresh machine, and the chat history with the instruction in it."""
        return WithSession(session=tasks.reset(data.session))

    @router.post("/interact")
    async def interact(data: WithSession) -> WithSession:
        """Carry out the agent's last answer. The same body again gets the same answer, and nothing is done twice."""
        return WithSession(session=await tasks.in_turn(tasks.interact, data.session))

    @router.post("/complete")
    async def complete(data: WithSession) -> WithSession:
        """Judge a session that has stopped, whatever its status, and end it."""
        return WithSession(session=await tasks.in_turn(tasks.complete, data.session))

    @router.post("/release")
    def release(data: MaybeSession | None = Body(default=None)) -> None:  # noqa: B008  that is how FastAPI is told
        """Give up a session without judging it. Without one, nothing happens."""
        tasks.release(data.session if data else None)

    @router.post("/calculate_metric")
    def calculate_metric(data: Partials) -> Metric:
        """Rates by skill, by difficulty, and over all."""
        return tasks.metric(data)

    text = "Shell tasks over the routes of LifelongAgentBench. A session travels with its client."
    return new_app("Ludora task server", text, router, lambda app: _open_hours(tasks.sessions))


@asynccontextmanager
async def _open_hours(sessions: Sessions[Episode]) -> AsyncIterator[None]:
    """While the server runs: a thread for every session, and idle ones are swept out; afterwards all are closed."""
    current_default_thread_limiter().total_tokens = sessions.most + SPARE_THREADS

    async def sweep() -> None:
        while True:
            await asyncio.sleep(min(30.0, sessions.idle_seconds / 4))
            await asyncio.to_thread(sessions.sweep)

    sweeping = asyncio.create_task(sweep())
    try:
        yield
    finally:
        sweeping.cancel()
        await asyncio.to_thread(sessions.close)
