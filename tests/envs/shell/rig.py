"""A sandbox that is a script, for everything that needs no real one; and an entry to try things on."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from ludora.envs.sandbox.base import Done, Limits
from ludora.envs.shell import env
from ludora.envs.shell.entries import Entry, Script
from ludora.errors import EnvBroken

ENTRY = Entry("7", "Make a folder.", Script("setup"), Script("check"), Script("mkdir it"), ("mkdir",), 1, "one")


@dataclass(slots=True)
class ScriptedSandbox:
    """Answers each script with what `replies` has for it, else with status 0 and no output; `broken` ones break it.

    A script that has run before is answered with what `later` has for it, if anything.
    """

    replies: dict[str, Done] = field(default_factory=dict)
    broken: tuple[str, ...] = ()
    ran: list[tuple[str, bool]] = field(default_factory=list)
    closed: int = 0
    later: dict[str, Done] = field(default_factory=dict)

    def run(self, script: str, *, language: str = "bash", seconds: float | None = None, trusted: bool = False) -> Done:
        again = any(script == before for before, _ in self.ran)
        self.ran.append((script, trusted))
        if script in self.broken:
            raise EnvBroken("it broke")
        first = self.replies.get(script, Done(0, ""))
        return self.later.get(script, first) if again else first

    def close(self) -> None:
        self.closed += 1


def use(monkeypatch: pytest.MonkeyPatch, *sandboxes: ScriptedSandbox, entry: Entry | None = ENTRY) -> list[Limits]:
    """Let environments open these sandboxes, one after the other, on this entry; returns the limits asked for."""
    waiting, asked = list(sandboxes), []

    def open_sandbox(limits: Limits, **_: object) -> ScriptedSandbox:
        asked.append(limits)
        return waiting.pop(0)

    monkeypatch.setattr(env, "open_sandbox", open_sandbox)
    monkeypatch.setattr(env, "facts", lambda *_: {"root": "scripted"})
    if entry is not None:
        monkeypatch.setattr(env.options, "entry_of", lambda task: entry)
    return asked
