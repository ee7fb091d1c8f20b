"""Environments behind an address: `openenv(http://127.0.0.1:8000)`, any OpenEnv server whose actions are texts.

Every other option of the TASK goes into the server's `reset` as it is, beside the task's seed:
`openenv(http://127.0.0.1:8000, task=leduc_poker, seat=1, opponent=mcts)`. There is one seat; a server that has more
plays the others itself.

What an observation shows: `messages` (role and content), where there are some; otherwise its one text, or all of its
fields. `legal`, a list of texts, are the actions to choose from. Score and outcome are the observation's own `score`
(0 to 1) and `outcome` where it has them, as Ludora's servers do; otherwise the score is the sum of the rewards, cut to
0..1, and more than a half has won.

A server that cannot be reached, does not answer, refuses or loses its session is a broken environment, never a reward.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import threading
from collections.abc import Coroutine, Mapping
from functools import lru_cache
from typing import Any, TypeGuard, TypeVar
from urllib.parse import urlsplit

from ludora.errors import EnvBroken, InputError, MissingExtra
from ludora.types import End, Message, Move, Outcome, Result, Spec, Task, Turn

TOKEN_VARIABLE = "LUDORA_REMOTE_TOKEN"
CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 120.0  # a shell command, or an opponent that thinks
_ROLES = ("system", "user", "assistant")
_HINT = "for example openenv(http://127.0.0.1:8000) or openenv(http://127.0.0.1:8000, task=leduc_poker)"
_Done = TypeVar("_Done")


def canonical(spec: Spec) -> Spec:
    """The one spec of equal tasks. Nothing is asked of the server yet.

    Raises:
        InputError: there is no address, or it is none of http or https.
    """
    return Spec("openenv", args=(address(spec),), params=spec.params)


def address(spec: Spec) -> str:
    """The server's address, without a slash at its end.

    Raises:
        InputError: there is none, or it is none of http or https.
    """
    url = spec.args[0] if len(spec.args) == 1 and not spec.variant else None
    if not isinstance(url, str):
        raise InputError(f"{str(spec)!r} needs the address of one server", _HINT)
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        good = False
    if not good or parts.username or parts.password or parts.query or parts.fragment:
        raise InputError(f"{url!r} is no address of a server: http or https, a host, a port and a path", _HINT)
    return url.rstrip("/")


class RemoteEnv:
    """One episode on a server, over a connection of its own that opens at the first look.

    Raises:
        InputError: the TASK names no address.
        MissingExtra: openenv is not installed.
    """

    blocking = True
    zero_sum = False
    num_seats = 1

    def __init__(self, task: Task) -> None:
        self.task = task
        self._url = address(task.env)
        self._session: Any = None
        self._field = ""
        self._turn: Turn | None = None
        self._due = self._total = 0.0
        self._last: Mapping[str, Any] = {}
        self._done = False

    def turns(self) -> tuple[Turn, ...]:
        self._begin()
        return (self._turn,) if self._turn else ()

    def apply(self, moves: Mapping[int, Move]) -> None:
        self._begin()
        if self._turn is None or moves.keys() != {0}:
            raise ValueError(
                f"moves of seats {sorted(moves)}, and there is {'no' if self._turn is None else 'one'} turn"
            )
        self._see(self._ask(self._session.act({self._field: moves[0].text})))

    def rewards(self) -> tuple[float, ...]:
        self._begin()
        paid, self._due = self._due, 0.0
        return (paid,)

    def result(self) -> Result:
        if not self._done:
            raise RuntimeError("the game is not over")
        told, said = self._last.get("score"), self._last.get("outcome")
        score = min(1.0, max(0.0, float(told if _is_number(told) else self._total)))
        outcome = Outcome.WON if score > 0.5 else Outcome.LOST
        if said in tuple(Outcome):
            outcome = Outcome(said)
        info = self._last.get("info")
        facts = {k: v for k, v in info.items() if isinstance(v, str) or _is_number(v)} if _is_dict(info) else {}
        end = End.TRUNCATED if outcome is Outcome.TRUNCATED else End.TERMINATED
        return Result(end, (outcome,), (score,), facts)

    def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            asyncio.run_coroutine_threadsafe(session.leave(), _loop())  # nobody waits for a server that is gone

    def _begin(self) -> None:
        if self._session is not None or self._done:
            return
        self._session = _session_class()(self._url, _headers())
        self._field = text_field(self._ask(self._session.schema()))
        if not self._field:
            raise EnvBroken(f"{self._url}: its actions are no single texts")
        wanted = {key: str(value) if isinstance(value, Spec) else value for key, value in self.task.env.params}
        self._see(self._ask(self._session.begin(seed=self.task.seed % 2**64, **wanted)))

    def _ask(self, question: Coroutine[Any, Any, _Done]) -> _Done:
        """What the server answers. It is asked from one thread that all games share.

        Raises:
            EnvBroken: it does not, or refuses.
        """
        try:
            return asyncio.run_coroutine_threadsafe(question, _loop()).result()
        except Exception as error:  # boundary: whatever the connection, the server or its answer does
            why = " ".join(str(error).split()) or type(error).__name__
            raise EnvBroken(f"{self._url}: {why[:300]}") from None

    def _see(self, answer: Any) -> None:
        """Take in an answer of the server."""
        reward, observation = answer.reward, answer.observation
        if not isinstance(observation, dict) or not (reward is None or _is_number(reward)):
            raise EnvBroken(f"{self._url}: the observation is no object, or the reward no number")
        self._due += float(reward or 0.0)
        self._total += float(reward or 0.0)
        self._last, self._done = observation, bool(answer.done)
        legal = observation.get("legal")
        listed = isinstance(legal, list) and legal and all(isinstance(text, str) for text in legal)
        messages = seen(observation)
        self._turn = None if self._done else Turn(0, messages, tuple(legal) if listed and legal else None)


def seen(observation: Mapping[str, Any]) -> tuple[Message, ...]:
    """An observation as chat messages."""
    messages = observation.get("messages")
    if isinstance(messages, list) and messages and all(_is_message(m) for m in messages):
        return tuple(Message(m["role"], m["content"]) for m in messages)
    shown = {key: value for key, value in observation.items() if key != "metadata" and value not in (None, "", [], {})}
    texts = [value for value in shown.values() if isinstance(value, str)]
    text = texts[0] if len(shown) == len(texts) == 1 else json.dumps(shown, ensure_ascii=False, default=str)
    return (Message("user", text),)


def _is_message(message: Any) -> bool:
    return _is_dict(message) and message.get("role") in _ROLES and isinstance(message.get("content"), str)


def _is_dict(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and abs(value) < float("inf")


def text_field(schema: Mapping[str, Any]) -> str:
    """The field of an action that takes the text: the one text that must be there, or else the one that may.

    Empty where actions are no single texts.
    """
    action = schema.get("action")
    fields = action.get("properties") if _is_dict(action) else None
    if not _is_dict(action) or not _is_dict(fields):
        return ""
    texts = [k for k, v in fields.items() if _is_dict(v) and v.get("type") == "string"]
    needed = action.get("required") or []
    for found in ([k for k in texts if k in needed], texts):
        if len(found) == 1 and set(needed) <= set(found):
            return str(found[0])
    return ""


def _headers() -> dict[str, str]:
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    return {"Authorization": f"Bearer {token}"} if token else {}


@lru_cache(maxsize=1)
def _loop() -> asyncio.AbstractEventLoop:
    """The loop that all connections share, in a thread of its own."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="openenv", daemon=True).start()
    return loop


@lru_cache(maxsize=1)
def _session_class() -> Any:
    """OpenEnv's own client, for one episode. Made on first use: the package takes seconds to load.

    Raises:
        MissingExtra: it is not installed.
    """
    before = random.getstate()
    try:
        import httpx
        from openenv.core import GenericEnvClient
    except ImportError:
        raise MissingExtra("openenv(...) needs the package openenv", "pip install 'ludora[serve]'") from None
    finally:
        random.setstate(before)  # what it imports draws from the generator that everybody shares

    class Session(GenericEnvClient):  # type: ignore[misc]  # openenv is not typed
        """A client that connects once.

        OpenEnv's connects anew when it lost the server, and would make this episode's next move in a session that never
        began it.
        """

        def __init__(self, url: str, headers: dict[str, str]) -> None:
            super().__init__(
                url, connect_timeout_s=CONNECT_SECONDS, message_timeout_s=ANSWER_SECONDS, headers=headers or None
            )
            self._connected = False

        async def _connect_async(self) -> Any:
            if self._connected and self._ws is None:
                raise ConnectionError("the connection was lost")
            if not self._connected:
                self._connected = True
                await super()._connect_async()
            return self

        async def schema(self) -> Any:
            """The JSON schemas of its actions and observations."""
            async with httpx.AsyncClient(timeout=CONNECT_SECONDS, headers=self._headers) as client:
                answer = await client.get(f"{self.base_url}/schema")
                answer.raise_for_status()
                return answer.json()

        # `reset`, `step` and `close` of the client look for a loop in the calling thread; these run in ours.
        begin = GenericEnvClient._reset_async
        act = GenericEnvClient._step_async
        leave = GenericEnvClient._close_async

    return Session
