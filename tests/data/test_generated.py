"""Made questions: their answers are right by other means, and experts' moves are the experts'."""

from __future__ import annotations

import re
from importlib.util import find_spec

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ludora.data import generated
from ludora.data.generated import home, worked
from ludora.data.questions import LETTERS, Question, Sizes, key_of
from ludora.data.sources import load
from ludora.errors import MissingExtra
from ludora.types import Spec

GYM = pytest.mark.skipif(find_spec("reasoning_gym") is None, reason="needs reasoning-gym")
EQUATION = re.compile(r"(\d+) ([-+*/]) (\d+) = (\d+)")


@given(st.sampled_from(["add", "sub", "mul", "div"]), st.integers(0, 99_999), st.integers(2, 9999))
def test_every_step_of_a_worked_answer_is_right(name: str, a: int, b: int) -> None:
    if name == "sub":
        a, b = max(a, b), min(a, b)
    if name == "div":
        a *= b
    if name == "mul" and a == 0:
        a = 10
    steps, _, final = worked(name, a, b).partition(". Answer: ")
    assert int(final) == {"add": a + b, "sub": a - b, "mul": a * b, "div": a // max(b, 1)}[name]
    found = EQUATION.findall(steps)
    for one, sign, other, result in found:
        assert {"+": int(one) + int(other), "-": int(one) - int(other), "*": int(one) * int(other)}[sign] == int(result)
    assert len(found) >= (0 if name == "div" and a == 0 else 1)


@pytest.mark.parametrize("level", [1, 3, 5])
def test_levels_are_digits(level: int) -> None:
    splits = load(f"arithmetic(level={level}, operations=add+sub+mul+div)", Sizes(train=80))
    assert {q.group for q in splits.train} == {"add", "sub", "mul", "div"}
    for q in splits.train:
        a, sign, b = re.findall(r"\d+|[-+*/]", q.question)
        if sign != "/":
            assert len(a) == level + 1
        assert sign in "*/" or len(b) == level + 1
        assert eval(f"{a} {sign} {b}") == int(q.answer.rpartition(" ")[2])


def test_swapped_factors_stand_in_the_same_split() -> None:
    splits = load("arithmetic(operations=add)", Sizes(1500, 400, 400))
    pairs = [
        {tuple(sorted(re.findall(r"\d+", q.question))) for q in part}
        for part in (splits.train, splits.search, splits.test)
    ]
    assert not pairs[0] & pairs[1] and not pairs[0] & pairs[2] and not pairs[1] & pairs[2]


def test_splits_have_their_shares() -> None:
    homes = [home(f"key {i}") for i in range(5000)]
    assert [round(homes.count(split) / 1000) for split in ("train", "search", "test")] == [3, 1, 1]


def test_snake_moves_are_those_of_the_expert() -> None:
    splits = load("snake-moves(size=5, expert=bfs)", Sizes(30, 8, 8))
    assert splits.style == "choice" and splits.instruction.startswith("You play Snake.")
    assert splits.instruction.endswith("X being its letter.")
    for q in (*splits.train, *splits.search, *splits.test):
        assert q.options == ("up", "down", "left", "right") and "You play Snake" not in q.question
        move = q.options[LETTERS.index(q.answer[-3])]
        assert f"{move} free" in q.question or f"{move} apple" in q.question
    assert home(key_of(splits.test[0])) == "test"


def test_positions_are_labelled_by_an_expert_that_is_sure() -> None:
    splits = load("positions(leduc_poker)", Sizes(6, 2, 2))
    assert "Leduc poker" in splits.instruction
    for q in splits.train:
        assert 2 <= len(q.options) <= 3 and q.answer[-3] in LETTERS[: len(q.options)]
        if "You hold: king, pair" in q.question and "Raise" in q.options:
            assert q.options[LETTERS.index(q.answer[-3])] != "Fold"


@GYM
def test_reasoning_gym_answers_are_judged_by_the_package() -> None:
    splits = load("reasoning-gym(countdown, min_numbers=3, max_numbers=3)", Sizes(4, 2, 2), 1)
    assert splits.judge is not None
    for q in (*splits.train, *splits.test):
        assert splits.judge(q, q.answer.removeprefix("Answer: ")) == 1.0
        assert splits.judge(q, "0") < 1.0 and splits.judge(q, ")(") < 1.0
    other = splits.test[0].answer.removeprefix("Answer: ")
    assert splits.judge(splits.test[0], f"({other})") == 1.0  # another spelling of a right answer


def test_without_the_package_the_hint_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generated, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"reasoning-gym\(chain_sum\) needs the package"):
        generated.reasoning_gym(Spec("reasoning-gym", "", ("chain_sum",)), 0)


@GYM
def test_a_judge_that_breaks_says_no(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(self: object, answer: str, entry: object) -> float:
        raise ZeroDivisionError(answer)

    monkeypatch.setattr("reasoning_gym.arithmetic.chain_sum.ChainSumDataset.score_answer", breaks, raising=False)
    splits = load("reasoning-gym(chain_sum)", Sizes(test=1))
    assert splits.judge is not None
    assert splits.judge(splits.test[0], splits.test[0].answer) == 0.0
    with pytest.raises(KeyError):  # a question that it never made is a mistake of ours, and not hidden
        splits.judge(Question("1", "never asked", "Answer: 1"), "1")
