"""One episode as the benchmark's task server conducts it: what a client's session becomes at each call.

    initial --reset--> running --interact--> running ... --interact--> completed, agent_validation_failed or
    task_limit_reached --complete--> judged

The client's session is trusted with everything but the machine: the history is its own, and so is the status.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ludora.envs.sandbox.base import Done
from ludora.envs.shell import actions
from ludora.envs.shell.entries import Entry, Script
from ludora.envs.shell.env import Status, Verdict
from ludora.errors import LudoraError
from ludora.serve.bodies import Item, Judged, Record, Role, Session

NO_ANSWER: dict[str, str | None] = {"answer": None}
AGENT_FAILED = (Status.AGENT_CONTEXT_LIMIT, Status.AGENT_OUT_OF_MEMORY, Status.AGENT_UNKNOWN_ERROR)


class Machine(Protocol):
    """What an episode runs on (`envs.shell.env.Machine`). Each method but `close` raises LudoraError when it breaks."""

    def open(self) -> object:
        """Start it and set it up."""

    def run(self, script: Script) -> Done:
        """Run a script of the agent's."""

    def verdict(self) -> Verdict:
        """Whether the task was done."""

    def close(self) -> None:
        """Free it. Idempotent."""


OpenMachine = Callable[[Entry, float], Machine]  # an entry, and the seconds that one command may take


class Refused(Exception):
    """The session cannot be taken further like this; the message says why."""


class Episode:
    """A machine, the rounds played on it, and the last answer, for a client that asks the same again.

    Args:
        rounds: answers of the agent that are carried out.
        seconds: that one command may take.
        output: characters of one command's output that are shown.
        act: the form of an answer, see `envs.shell.actions`.
    """

    def __init__(self, entry: Entry, machine: Machine, *, rounds: int, seconds: float, output: int, act: str) -> None:
        self.entry, self.rounds, self.seconds, self.output, self.act = entry, rounds, seconds, output, act
        self._machine = machine
        self._played = 0
        self._asked: tuple[str, Session] | None = None
        self._answer: Session | None = None
        self._closed = self._broken = False

    def close(self) -> None:
        """Free the machine."""
        self._closed = True
        self._machine.close()

    def begin(self, session: Session, prompt: list[Item]) -> Session:
        """Set the machine up; the session is then running, and its history is the prompt and the instruction."""
        session = session.model_copy(deep=True)
        try:
            self._machine.open()
        except LudoraError as error:
            self._broke(session, error)
            return session
        session.sample_status = Status.RUNNING
        session.chat_history.value = [*prompt, Item(role=Role.USER, content=self.entry.instruction)]
        return session

    def interact(self, session: Session) -> Session:
        """Carry out the agent's last answer."""
        return self._once("interact", session, self._interact)

    def complete(self, session: Session) -> Session:
        """Let the entry's check decide, whatever the status."""
        return self._once("complete", session, self._complete)

    def _once(self, call: str, session: Session, answer: Callable[[Session], None]) -> Session:
        """The answer to a call; to the same call again the same answer, and nothing is carried out twice."""
        if self._asked == (call, session) and self._answer is not None:
            return self._answer
        if self._closed:
            raise Refused("this session has ended")
        after = session.model_copy(deep=True)
        answer(after)
        self._asked, self._answer = (call, session), after
        return after

    def _interact(self, session: Session) -> None:
        items = session.chat_history.value
        if session.sample_status in AGENT_FAILED:
            session.task_output = dict(NO_ANSWER)
            return
        if session.sample_status is not Status.RUNNING:
            raise Refused(f"this session is {session.sample_status}, and only a running one goes on")
        if not items or items[-1].role is not Role.AGENT:
            raise Refused("the last item of the chat history must be the agent's")
        if self._played >= self.rounds:
            session.finish_reason = f"the limit of {self.rounds} rounds is reached"
            session.sample_status, session.task_output = Status.TASK_LIMIT_REACHED, dict(NO_ANSWER)
            return
        self._played += 1
        action = actions.read(items[-1].content, self.act)
        if action is None:
            session.finish_reason = "the answer names no action"
            session.sample_status, session.task_output = Status.AGENT_VALIDATION_FAILED, dict(NO_ANSWER)
        elif action.script is None:
            session.sample_status, session.task_output = Status.COMPLETED, dict(NO_ANSWER)
        else:
            self._run(session, action.script)

    def _run(self, session: Session, script: str) -> None:
        try:
            done = self._machine.run(Script(script))
        except LudoraError as error:
            self._broke(session, error)
            return
        shown = actions.observation(done, self.output, self.seconds).content
        session.chat_history.value.append(Item(role=Role.USER, content=shown))

    def _complete(self, session: Session) -> None:
        if session.sample_status in (Status.INITIAL, Status.RUNNING):
            raise Refused(f"this session is {session.sample_status}, and only one that has stopped is judged")
        session.evaluation_record = Record(outcome=Judged.UNKNOWN)
        if not self._broken:
            try:
                session.evaluation_record.outcome = Judged(self._machine.verdict())
            except LudoraError as error:
                session.finish_reason = "; ".join(filter(None, (session.finish_reason, error.message)))

    def _broke(self, session: Session, error: LudoraError) -> None:
        """The machine failed, which is no fault of the agent's: there will be no verdict on it."""
        self._broken = True
        session.sample_status, session.finish_reason = Status.TASK_ENVIRONMENT_ERROR, error.message
        session.task_output = dict(NO_ANSWER)
