"""The nouns: frozen, hashable, comparable by value, and free of third parties."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from ludora.grammar import parse
from ludora.types import End, Message, Move, Outcome, Result, Spec, Step, Stop, Task, Trajectory, Turn

SPEC = Spec("hex", params=(("board_size", 5),))
TASK = Task(SPEC, 3, 1, ("random",))
TURN = Turn(0, (Message("user", "go"),), ("a", "b"), number=2, seed=9)
MOVE = Move("a", (4, 5), (-0.5, -0.25), prompt=(1, 2), choices=((4, 5), (6,)), index=0)
HASHABLE = [SPEC, TASK, Message("user", "x"), TURN, MOVE, Result(End.TERMINATED, (Outcome.WON,), (1.0,))]
STEP = Step(TURN, MOVE, 1.0)
ALL = [*HASHABLE, STEP, Trajectory(TASK, 0, "random", (STEP,), Outcome.WON, 1.0, End.TERMINATED, 0.5)]


@pytest.mark.parametrize("noun", ALL, ids=lambda noun: type(noun).__name__)
def test_what_has_happened_cannot_be_edited(noun: object) -> None:
    for field in dataclasses.fields(noun):  # type: ignore[arg-type]
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(noun, field.name, None)
        with pytest.raises(dataclasses.FrozenInstanceError):
            delattr(noun, field.name)
    assert not hasattr(noun, "__dict__")  # slots: no room for other attributes either
    assert dataclasses.replace(noun) == noun  # type: ignore[type-var]


@pytest.mark.parametrize("noun", HASHABLE, ids=lambda noun: type(noun).__name__)
def test_hashable(noun: object) -> None:
    assert len({noun, dataclasses.replace(noun)}) == 1  # type: ignore[type-var]


@pytest.mark.parametrize("others", [("f(1)", "f(true)", "f(1.0)"), ("f(a=0)", "f(a=false)", "f(a=0.0)")])
def test_values_of_different_types_are_different(others: tuple[str, ...]) -> None:
    specs = [parse(text) for text in others]
    assert len(set(specs)) == len(specs) and specs == [parse(text) for text in others]
    assert specs[0] != others[0]


def test_a_task_is_a_key_and_says_everything() -> None:
    tasks = {Task(parse("hex(board_size=5)"), 3, 1, ("random",)): "same"}
    assert tasks[TASK] == "same"
    others = [Task(SPEC, 4, 1, ("random",)), Task(SPEC, 3, 0, ("random",)), Task(SPEC, 3, 1), Task(Spec("hex"), 3, 1)]
    assert not any(task in tasks for task in others)


def test_total_counts_every_reward_once() -> None:
    steps = (Step(TURN, MOVE, 1.5), Step(TURN, MOVE, -0.25))
    assert Trajectory(TASK, 0, "random", steps, Outcome.WON, 1.0, End.TERMINATED, 0.5).total == 1.75
    assert Trajectory(TASK, 0, "random", (), Outcome.DREW, 0.5, End.TRUNCATED, -2.0).total == -2.0


def test_enums_are_their_words() -> None:
    assert [str(x) for x in (Outcome.FORFEITED, End.TRUNCATED, Stop.INVALID)] == ["forfeited", "truncated", "invalid"]
    assert Stop("length") is Stop.LENGTH


def test_the_nouns_need_the_standard_library_only() -> None:
    code = (
        "import sys; before = set(sys.modules); import ludora.types;"
        "new = {name.split('.')[0] for name in set(sys.modules) - before};"
        "print(sorted(new - set(sys.stdlib_module_names) - {'ludora'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
