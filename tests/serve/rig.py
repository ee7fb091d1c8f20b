"""Servers for tests: over machines that only pretend, in a thread, or as a process that dies when it is told to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.testclient import TestClient

from ludora.envs.sandbox.base import Done
from ludora.envs.shell.entries import Entry, Script
from ludora.envs.shell.env import Verdict
from ludora.errors import EnvBroken
from ludora.serve.guard import Rules
from ludora.serve.items import PromptItems
from ludora.serve.run import Served, bind, make_server
from ludora.serve.sessions import Sessions
from ludora.serve.tasks import Tasks, task_app

SKILLS = {"0": ("mkdir", "chmod"), "1": ("mkdir",), "2": ("grep", "odd")}


def entry(key: str) -> Entry:
    """A task that is done once somebody has said `solve KEY`; entry 2 has a set-up that fails."""
    setup = "broken" if key == "2" else "true"
    texts = Script(setup), Script("check"), Script(f"solve {key}")
    return Entry(key, f"Do number {key}.", *texts, SKILLS[key], level=int(key))


@dataclass
class Pretended:
    """A machine that answers `echo WORD`, is solved by `solve KEY`, and breaks at `break`."""

    entry: Entry
    said: list[str] = field(default_factory=list)
    solved: bool = False
    closed: bool = False
    gate: threading.Event | None = None  # `wait` waits for it

    def open(self) -> None:
        if self.entry.setup.text == "broken":
            raise EnvBroken("the set-up failed")

    def run(self, script: Script) -> Done:
        self.said.append(script.text)
        if self.closed or script.text == "break":
            raise EnvBroken("the machine broke")
        if script.text == "wait" and self.gate:
            self.gate.wait(30)
            if self.closed:
                raise EnvBroken("the machine was closed")
        if script.text.startswith("solve "):
            self.solved = script.text == self.entry.solution.text
        word = script.text.removeprefix("echo ")
        return Done(0, f"{word}\n" if script.text.startswith("echo ") else "")

    def verdict(self) -> Verdict:
        if self.closed:
            raise EnvBroken("the machine broke")
        return Verdict.CORRECT if self.solved else Verdict.INCORRECT

    def close(self) -> None:
        self.closed = True
        if self.gate:
            self.gate.set()  # as a sandbox that is closed wakes who waits for it


@dataclass
class Workshop:
    """A task server over pretended machines, and those machines."""

    machines: list[Pretended]
    tasks: Tasks
    items: PromptItems

    def app(self) -> Starlette:
        return task_app(self.tasks)


def workshop(sessions: int = 8, idle: float = 600.0, **options: Any) -> Workshop:
    machines: list[Pretended] = []

    def open_machine(wanted: Entry, seconds: float) -> Pretended:
        machines.append(Pretended(wanted))
        return machines[-1]

    items = PromptItems("act", 5)
    entries = {key: entry(key) for key in SKILLS}
    return Workshop(machines, Tasks(entries, open_machine, items, Sessions(sessions, idle, **options)), items)


class Client:
    """Calls of the benchmark's routes, without the network."""

    def __init__(self, app: Starlette) -> None:
        self.http = TestClient(app, raise_server_exceptions=False)

    def post(self, route: str, body: Any = None, status: int = 200) -> Any:
        answer = self.http.post(f"/api/{route}", json={} if body is None else body)
        assert answer.status_code == status, answer.text
        return answer.json()

    def reset(self, key: str | int = "0", status: int = 200) -> dict[str, Any]:
        found = self.post("reset", {"session": {"task_name": "os_interaction", "sample_index": key}}, status)
        return dict(found["session"] if status == 200 else found)

    def call(self, route: str, session: dict[str, Any], status: int = 200) -> dict[str, Any]:
        found = self.post(route, {"session": session}, status)
        return dict(found["session"] if status == 200 else found)

    def say(self, session: dict[str, Any], text: str) -> dict[str, Any]:
        return self.call("interact", answered(session, text))

    def bash(self, session: dict[str, Any], script: str) -> dict[str, Any]:
        return self.say(session, f"Act: bash\n```bash\n{script}\n```")

    def finish(self, session: dict[str, Any]) -> dict[str, Any]:
        return self.call("complete", self.say(session, "Act: finish"))


def answered(session: dict[str, Any], text: str) -> dict[str, Any]:
    """The session with one more answer of the agent."""
    value = [*session["chat_history"]["value"], {"role": "agent", "content": text}]
    return {**session, "chat_history": {"value": value}}


@contextmanager
def running(
    *apps: Starlette,
    rules: Rules = Rules(),  # noqa: B008  frozen
    stop: Callable[[], None] = lambda: None,
) -> Iterator[list[str]]:
    """Real servers in a thread; their addresses."""
    served = [Served(app, bind("127.0.0.1", 0), stop) for app in apps]
    urls, started = [s.url for s in served], threading.Event()
    server = make_server(served, rules, started.set)
    thread = threading.Thread(target=server.run, args=([s.socket for s in served],))
    thread.start()
    try:
        assert started.wait(60)
        yield urls
    finally:
        server.should_exit = True
        thread.join()
