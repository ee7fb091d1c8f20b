"""Tasks in a real shell: `shell`, `shell(level=1, act=line)`, `shell(path=entries.json)`. One seat, free text.

An episode is an instruction and up to `rounds` answers, each one action: commands, whose output is shown, or finish.
Every command is a fresh `bash -c` as root in a sandbox of the episode's own, in which background jobs live on. However
the episode ended, the entry's check then decides, run against pristine system programs, so that replacing `bash` or a
`PATH` earns nothing. What an answer does to the machine can cost the episode, never the process that plays it.

The reward is paid with the last answer: `correct`, `incorrect`, or `unknown` where no verdict could be reached. A
check that runs out of time or memory says incorrect, since what the agent left may be why: a file without end, say.
Unknown is left to a check that needs more memory than there is on the untouched machine too. A sandbox that fails, or
a set-up that does not end with status 0, is no failure of the agent: `EnvBroken`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from ludora.envs.sandbox.base import Done, Limits, Sandbox
from ludora.envs.sandbox.build import facts, open_sandbox
from ludora.envs.shell import actions, options
from ludora.envs.shell.entries import Entry, Script
from ludora.errors import EnvBroken, InputError
from ludora.types import End, Message, Move, Outcome, Result, Spec, Stop, Task, Turn

# A check that begins so waits for background jobs. Nothing of the agent's runs during one, so the wait comes before.
_WAITS = re.compile(r"\s*(sleep\s+[0-9.]+)[^\S\n]*(?:;|&&|\n)\s*")
_GRACE = "sleep 0.5"  # more, for jobs that take just as long as the check waits, and are killed after it


class Status(StrEnum):
    """Where a session stands, in the benchmark's words."""

    INITIAL = "initial"
    RUNNING = "running"
    COMPLETED = "completed"  # the agent said that it had finished
    AGENT_VALIDATION_FAILED = "agent_validation_failed"  # an answer named no action
    TASK_LIMIT_REACHED = "task_limit_reached"  # the rounds were used up
    TASK_ENVIRONMENT_ERROR = "task_environment_error"  # the sandbox or the set-up failed
    TASK_UNKNOWN_ERROR = "task_unknown_error"
    AGENT_CONTEXT_LIMIT = "agent_context_limit"
    AGENT_OUT_OF_MEMORY = "agent_out_of_memory"
    AGENT_UNKNOWN_ERROR = "agent_unknown_error"


class Verdict(StrEnum):
    """What the check said."""

    UNSET = "unset"  # it has not run
    CORRECT = "correct"
    INCORRECT = "incorrect"
    UNKNOWN = "unknown"  # it cannot be run to its end, whatever the agent does


@dataclass(frozen=True, slots=True)
class State:
    """What scripted players see of a turn."""

    entry: Entry
    act: str
    number: int  # answers given before


class Machine:
    """An entry's sandbox: opened and set up on first use, closed once."""

    def __init__(self, entry: Entry, limits: Limits, open_: Callable[[], Sandbox]) -> None:
        self.entry, self.limits = entry, limits
        self._open = open_
        self._sandbox: Sandbox | None = None

    def run(self, script: Script, *, trusted: bool = False) -> Done:
        """Run a script in the sandbox.

        Raises:
            EnvBroken: the sandbox failed, or the entry's set-up did.
        """
        return self.open().run(script.text, language=script.language, trusted=trusted)

    def open(self) -> Sandbox:
        """Start and set up the sandbox, unless that was done.

        Raises:
            EnvBroken: the sandbox failed, or the entry's set-up did.
        """
        if self._sandbox is None:
            self._sandbox = self._open()
            self._set_up(self._sandbox)
        return self._sandbox

    def _set_up(self, sandbox: Sandbox) -> None:
        setup = self.entry.setup
        done = sandbox.run(setup.text, language=setup.language)
        if done.code != 0:
            how = f"ended with status {done.code}" if done.code is not None else "ran out of time"
            last = done.output.strip().splitlines()[-1:] or ["no output"]
            raise EnvBroken(f"the set-up of entry {self.entry.key} {how}: {last[0][:200]}")

    def check(self) -> Done:
        """Run the check, against pristine system programs, with nothing of the agent's running.

        Once more where it was stopped for memory: jobs of the agent's that a check about processes had left to it may
        have held too much, and no such job is left.

        Raises:
            EnvBroken: the sandbox failed, or the entry's set-up did.
        """
        check, waits = self.entry.check, _WAITS.match(self.entry.check.text)
        if waits and check.language == "bash":
            self.run(Script(f"{waits[1]}; {_GRACE}"))
            check = Script(check.text[waits.end() :])
        done = self.run(check, trusted=True)
        return self.run(check, trusted=True) if done.out_of_memory else done

    def verdict(self) -> Verdict:
        """What the check says.

        Raises:
            EnvBroken: the sandbox failed, or the entry's set-up did.
        """
        return self.judge(self.check())

    def judge(self, done: Done) -> Verdict:
        """What the end of the check says. One that was stopped for memory is tried on an untouched machine, too.

        Raises:
            EnvBroken: that machine's sandbox failed.
        """
        if done.code == 0 and not done.out_of_memory:
            return Verdict.CORRECT
        return Verdict.UNKNOWN if done.out_of_memory and self._untouched() else Verdict.INCORRECT

    def _untouched(self) -> bool:
        """Whether the check is stopped for memory where the agent has done nothing."""
        fresh = Machine(self.entry, self.limits, self._open)
        try:
            return fresh.check().out_of_memory
        finally:
            fresh.close()

    def close(self) -> None:
        if self._sandbox is not None:
            self._sandbox.close()


def machine(entry: Entry, chosen: options.Options) -> Machine:
    """The machine of an entry, as a TASK's options want it."""
    limits = Limits(seconds=chosen.seconds)
    return Machine(entry, limits, lambda: open_sandbox(limits, backend=chosen.backend, image=chosen.image))


def canonical(spec: Spec) -> Spec:
    """The one spec of equal tasks; see `options.canonical`."""
    return options.canonical(spec)


def singles(spec: Spec) -> tuple[Spec, ...]:
    """A spec for each entry of a task file; see `options.singles`."""
    return options.singles(spec)


def setting(spec: Spec) -> Mapping[str, str]:
    """What the sandboxes of a task start from, for the record of a result; nothing where none can be had here."""
    chosen = options.options_of(spec)
    try:
        return facts(chosen.backend, chosen.image)
    except InputError:
        return {}


class ShellEnv:
    """One episode. `status` and `verdict` say how it stands.

    Raises:
        InputError: an option is wrong, see `options.options_of`.
    """

    blocking = True
    zero_sum = False
    num_seats = 1

    def __init__(self, task: Task) -> None:
        self.task = task
        self.options = options.options_of(task.env)
        self.entry = options.entry_of(task)
        self.status, self.verdict = Status.RUNNING, Verdict.UNSET
        self._machine = machine(self.entry, self.options)
        self._number = 0
        self._due = 0.0
        rules = actions.rules(self.options.act, self.options.rounds)
        self._messages: tuple[Message, ...] = (rules, Message("user", self.entry.instruction))

    def turns(self) -> tuple[Turn, ...]:
        if self.status is not Status.RUNNING:
            return ()
        return (Turn(0, self._messages, None, State(self.entry, self.options.act, self._number)),)

    def apply(self, moves: Mapping[int, Move]) -> None:
        if self.status is not Status.RUNNING or moves.keys() != {0}:
            raise ValueError(f"moves of seats {sorted(moves)} at an episode that is {self.status}")
        answer = moves[0].text
        action = actions.read(answer, self.options.act)
        self._number += 1
        try:
            if moves[0].stop is Stop.CONTEXT:
                self.status = Status.AGENT_CONTEXT_LIMIT
            elif action is None:
                self.status = Status.AGENT_VALIDATION_FAILED
            elif action.script is None:
                self.status = Status.COMPLETED
            else:
                self._run(answer, action.script)
            if self.status is not Status.RUNNING:
                self._judge()
        except EnvBroken:
            self.status = Status.TASK_ENVIRONMENT_ERROR
            raise

    def _run(self, answer: str, script: str) -> None:
        done = self._machine.run(Script(script))
        seen = actions.observation(done, self.options.output, self.options.seconds)
        self._messages = (*self._messages, Message("assistant", answer), seen)
        if self._number == self.options.rounds:
            self.status = Status.TASK_LIMIT_REACHED

    def _judge(self) -> None:
        """Let the check decide, whatever the status, and pay for it."""
        self.verdict = self._machine.verdict()
        paid = {
            Verdict.CORRECT: self.options.correct,
            Verdict.INCORRECT: self.options.incorrect,
            Verdict.UNKNOWN: self.options.unknown,
        }
        self._due += paid[self.verdict]

    def rewards(self) -> tuple[float, ...]:
        paid, self._due = self._due, 0.0
        return (paid,)

    def result(self) -> Result:
        if self.verdict is Verdict.UNSET:
            raise RuntimeError(f"there is no verdict on an episode that is {self.status}")
        correct = self.verdict is Verdict.CORRECT
        outcome = Outcome.WON if correct else Outcome.LOST
        if not correct and self.status is Status.AGENT_VALIDATION_FAILED:
            outcome = Outcome.FORFEITED
        elif self.verdict is Verdict.UNKNOWN:
            outcome = Outcome.DREW
        return Result(End.TERMINATED, (outcome,), (0.5 if outcome is Outcome.DREW else float(correct),), self.info())

    def standing(self) -> tuple[tuple[float, ...], dict[str, float | str]]:
        """Nothing is done until it is judged."""
        return (0.0,), self.info()

    def info(self) -> dict[str, float | str]:
        """Status, verdict, rounds, and what kind of task it was."""
        return {
            "status": str(self.status),
            "verdict": str(self.verdict),
            "rounds": self._number,
            "skills": " ".join(self.entry.skills),
            "template": self.entry.template,
            "level": self.entry.level,
            "entry": self.entry.key,
        }

    def close(self) -> None:
        self._machine.close()
