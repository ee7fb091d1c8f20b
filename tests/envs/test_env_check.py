"""The conformance check finds every broken promise, and none in environments that keep them."""

from __future__ import annotations

import random
from collections.abc import Mapping

import numpy as np
import pytest

from ludora.envs.check import PROPERTIES, Finding, check_env
from ludora.envs.openspiel import OpenSpielEnv
from ludora.errors import InputError
from ludora.grammar import parse
from ludora.players.bots import ScriptedPlayer
from ludora.rng import generator
from ludora.types import End, Message, Move, Outcome, Result, Spec, Task, Turn

_SHARED: list[int] = []


class Pennies:
    """Seats take turns at odds and evens against a hidden coin; the task's parameter `fault` breaks one promise."""

    blocking = False
    zero_sum = True

    def __init__(self, task: Task) -> None:
        self.task = task
        self.fault = task.env.get("fault", "")
        self.num_seats = 2
        self._random = generator("pennies", task.seed)
        self._left = 6
        self._spoilt: int | None = None
        self._due = [0.0, 0.0]
        self._looks = 0
        self._closed = False
        _SHARED.append(task.seed)
        if self.fault == "interface":
            self.task = Task(task.env, seed=task.seed + 1)
        if self.fault == "global_rng":
            random.random()
        if self.fault == "numpy_rng":
            np.random.random()

    def turns(self) -> tuple[Turn, ...]:
        self._looks += 1
        if self._left == 0:
            return ()
        seat = self._left % 2
        legal: tuple[str, ...] | None = ("odd", "even")
        text = f"Seat {seat}, {self._left} left."
        if self.fault == "repeatable":
            text += f" Look {self._looks}."
        if self.fault == "deterministic":
            text += f" Games so far: {len(_SHARED)}."
        if self.fault == "legal":
            legal = ("odd", "odd")
        if self.fault == "legal_empty":
            legal = ()
        if self.fault == "legal_blank":
            legal = ("odd", "")
        if self.fault == "free_text":
            legal = None
        message = Message("narrator" if self.fault == "messages" else "user", text)
        messages = () if self.fault == "messages_none" else (message,)
        turn = Turn(seat + 2 if self.fault == "seats" else seat, messages, legal)
        return (turn, turn) if self.fault == "seats_twice" else (turn,)

    def apply(self, moves: Mapping[int, Move]) -> None:
        ((seat, move),) = moves.items()
        if self.fault != "terminates":
            self._left -= 1
        if move.text not in ("odd", "even") and self.fault not in ("free_text", "forfeit"):
            self._spoilt, self._left = seat, 0
            self._due[seat] -= 1
            self._due[1 - seat] += 1
            return
        won = 1.0 if (self._random.random() < 0.5) == (move.text == "odd") else -1.0
        if self.fault == "rewards":
            won *= float("inf")
        self._due[seat] += won
        self._due[1 - seat] -= 0.0 if self.fault == "zero_sum" else won

    def rewards(self) -> tuple[float, ...]:
        due = tuple(self._due)
        if self.fault != "rewards_twice":
            self._due = [0.0, 0.0]
        return (*due, 0.0) if self.fault == "rewards_length" else due

    def result(self) -> Result:
        if self._left and self.fault != "early_result":
            raise RuntimeError("not over")
        if self.fault == "result":
            return Result(End.TERMINATED, (Outcome.DREW, Outcome.DREW), (0.5, 1.5))
        if self.fault == "result_length":
            return Result(End.TERMINATED, (Outcome.DREW,), (0.5,))
        outcomes, scores = [Outcome.DREW, Outcome.DREW], [0.5, 0.5]
        if self._spoilt is not None:
            outcomes[self._spoilt], outcomes[1 - self._spoilt] = Outcome.FORFEITED, Outcome.WON
            scores[self._spoilt], scores[1 - self._spoilt] = 0.0, 1.0
            if self.fault == "forfeit_outcome":
                outcomes[self._spoilt] = Outcome.LOST
            if self.fault == "forfeit_score":
                scores[self._spoilt] = 1.0
        return Result(End.TERMINATED, tuple(outcomes), tuple(scores))

    def close(self) -> None:
        if self._closed and self.fault == "close":
            raise RuntimeError("already closed")
        self._closed = True


def pennies(fault: str = "") -> Spec:
    return Spec("pennies", params=(("fault", fault),) if fault else ())


def failed(findings: list[Finding]) -> set[str]:
    assert [f.name for f in findings] == list(PROPERTIES)
    return {f.name for f in findings if not f.passed}


@pytest.mark.parametrize(
    "text",
    [
        "kuhn_poker",
        "leduc_poker",
        "tic_tac_toe",
        "hearts",
        "goofspiel(num_cards=5)",
        "oshi_zumo",
        "2048",
        "blackjack",
        "liars_dice(numdice=5)",
        "phantom_ttt",
        "matching_pennies_3p",
        "go(board_size=5)",
        "oware",
    ],
)
def test_openspiel_keeps_its_promises(text: str) -> None:
    findings = check_env(parse(text), games=3)
    assert not failed(findings), findings


def test_a_good_environment_passes() -> None:
    findings = check_env(pennies(), make=Pennies, games=5)
    assert not failed(findings), findings
    assert not any(f.detail for f in findings)


FAULTS = [
    ("interface", "interface"),
    ("repeatable", "repeatable"),
    ("seats", "seats"),
    ("seats_twice", "seats"),
    ("legal", "legal"),
    ("legal_empty", "legal"),
    ("legal_blank", "legal"),
    ("messages", "messages"),
    ("messages_none", "messages"),
    ("rewards", "rewards"),
    ("rewards_length", "rewards"),
    ("rewards_twice", "rewards"),
    ("zero_sum", "zero_sum"),
    ("early_result", "early_result"),
    ("result", "result"),
    ("result_length", "result"),
    ("forfeit", "forfeit"),
    ("forfeit_outcome", "forfeit"),
    ("forfeit_score", "forfeit"),
    ("deterministic", "deterministic"),
    ("terminates", "terminates"),
    ("global_rng", "global_rng"),
    ("numpy_rng", "global_rng"),
    ("close", "close"),
]


@pytest.mark.parametrize(("fault", "name"), FAULTS)
def test_every_broken_promise_is_found(fault: str, name: str) -> None:
    findings = check_env(pennies(fault), make=Pennies, games=5, max_turns=50)
    assert name in failed(findings)
    detail = next(f.detail for f in findings if f.name == name)
    assert detail.startswith("task seed ")


def test_every_property_has_a_fault_that_breaks_it() -> None:
    assert {name for _, name in FAULTS} == set(PROPERTIES)


def test_free_text_needs_a_player_and_says_what_was_not_tested() -> None:
    with pytest.raises(InputError, match="legal actions"):
        check_env(pennies("free_text"), make=Pennies)
    findings = check_env(pennies("free_text"), make=Pennies, player=ScriptedPlayer(lambda turn: "odd"))
    assert not failed(findings)
    assert [f.detail for f in findings if f.name == "forfeit"] == ["not tested: no turn listed legal actions"]


def test_an_unclaimed_zero_sum_is_said_to_be_untested() -> None:
    findings = check_env(parse("hearts"), games=1)
    assert [f.detail for f in findings if f.name == "zero_sum"] == ["not tested: not claimed"]


def test_the_check_leaves_the_global_generators_alone() -> None:
    before = random.getstate()
    check_env(parse("leduc_poker"), games=2, make=OpenSpielEnv)
    assert random.getstate() == before
