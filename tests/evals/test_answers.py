"""Reading answers: the known traps as they stand, and no text that breaks a reader."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ludora.data.questions import STYLES, Question, choice_answer
from ludora.evals.answers import STOPS, boxed, cut, final_answer, fuzzy, grade, normalised, number, overlap

GSM = Question("1", "How many?", "He has 9 + 9 = <<9+9=18>>18 eggs.\n#### 18")
MONEY = Question("2", "How much?", "So 29 dollars.\n#### 29")
BIG = Question("3", "How many?", "#### 1,200")
FINAL = Question("4", "What is 20 + 20?", "20 + 20 = 40. Answer: 40")
WORD = Question("5", "Which colour?", "Answer: dark red")
CHOICE = Question("6", "Which?", choice_answer(2), ("iron", "gold", "tin", "lead"))
TEN = Question("7", "Which?", choice_answer(9), tuple(f"option {i}" for i in range(10)))
SQUAD = Question("8", "Where?", "the north", (), "", ("northern Italy",))


@pytest.mark.parametrize(
    ("style", "question", "said", "strict", "flexible"),
    [
        # gsm8k: strict form, then the last number
        ("gsm8k", GSM, "9 + 9 = 18\n#### 18", True, True),
        ("gsm8k", GSM, "9 + 9 = 18", False, True),
        ("gsm8k", GSM, "It is 18.", False, True),  # a final full stop is no decimal point
        ("gsm8k", GSM, "#### 18.", True, True),
        ("gsm8k", GSM, "#### 18.00", True, True),
        ("gsm8k", GSM, "#### $18", True, True),
        ("gsm8k", GSM, "#### 18 eggs", True, True),
        ("gsm8k", GSM, "#### 19", False, False),
        ("gsm8k", GSM, "#### 180", False, False),
        ("gsm8k", GSM, "#### eighteen, 18", False, True),
        ("gsm8k", GSM, "", False, False),
        ("gsm8k", GSM, ", , .", False, False),  # a bare comma is no number
        ("gsm8k", GSM, "18 of them,", False, True),
        ("gsm8k", GSM, "from 36 - 18", False, True),
        ("gsm8k", GSM, "from 36-18", False, True),  # a minus between two numbers is no sign
        ("gsm8k", GSM, "It is -18", False, False),
        ("gsm8k", GSM, "#### 18\n\nQuestion: what is 3 + 4? #### 7", True, True),  # it ran on to another question
        ("gsm8k", GSM, "So 18.\nQuestion: what is 3 + 4? 7", False, True),
        ("gsm8k", GSM, r"so \boxed{18}, not 19", False, True),
        ("gsm8k", MONEY, "#### $29.00", True, True),
        ("gsm8k", MONEY, "That is $29.00.", False, True),
        ("gsm8k", MONEY, "That is $ 29", False, True),
        ("gsm8k", MONEY, "$29.50", False, False),
        ("gsm8k", BIG, "#### 1200", True, True),
        ("gsm8k", BIG, "about 1,200 in all", False, True),
        ("gsm8k", BIG, "1,2, 00", False, False),
        ("gsm8k", BIG, "#### 1,200.0", True, True),
        # final
        ("final", FINAL, "20 + 20 = 40. Answer: 40", True, True),
        ("final", FINAL, "Answer: 40.", True, True),
        ("final", FINAL, "Answer: **40**", True, True),
        ("final", FINAL, "answer: 40", False, True),
        ("final", FINAL, "The result is 40", False, True),
        ("final", FINAL, "Answer: 41\nAnswer: 40", False, False),  # the first one counts
        ("final", FINAL, "Answer:", False, False),
        ("final", FINAL, "Answer: 40 apples", False, True),
        ("final", FINAL, "Answer: 38 + 2 = 40\nThat took 3 steps.", False, True),
        ("final", FINAL, "Answer: x = 40", False, True),
        ("final", FINAL, "38 and 2 are 40. Answer: forty", False, True),
        ("final", FINAL, "Answer: 40 apples, or 41", False, False),
        ("final", FINAL, "It is 40. Answer: 41", False, False),  # a number was given
        ("final", WORD, "Answer: Dark red.", True, True),
        ("final", WORD, "Let me see.\nDark red", False, True),
        ("final", WORD, "The answer: dark red", False, True),
        ("final", WORD, r"it is \boxed{dark red}", False, True),
        ("final", WORD, "dark red is not it: blue", False, False),
        # choice
        ("choice", CHOICE, "The answer is (C).", True, True),
        ("choice", CHOICE, "the answer is C.", True, True),
        ("choice", CHOICE, "The answer is: (C)", True, True),
        ("choice", CHOICE, "The answer is (D).", False, False),
        ("choice", CHOICE, "A good question. The answer is (C).", True, True),
        ("choice", CHOICE, "The answer is A metal, so option C", False, True),  # an article is no option
        ("choice", CHOICE, "C", False, True),
        ("choice", CHOICE, "C. tin", False, True),
        ("choice", CHOICE, "**C**", False, True),
        ("choice", CHOICE, "Answer: C", False, True),
        ("choice", CHOICE, "not (A) but (C)", False, True),
        ("choice", CHOICE, "Tin.", False, True),
        ("choice", CHOICE, "I think about tin", False, False),
        ("choice", CHOICE, "A lot of Copper", False, False),
        ("choice", CHOICE, "Because", False, False),
        ("choice", TEN, "The answer is (J).", True, True),  # ten options, not four
        ("choice", TEN, "J", False, True),
        ("choice", TEN, "I would say option J", False, True),
        # words
        ("squad", SQUAD, "the north", True, True),
        ("squad", SQUAD, "North.", False, True),
        ("squad", SQUAD, "Northern Italy", False, True),
        ("squad", SQUAD, "the north\nof Italy", True, True),  # one line is read
        ("squad", SQUAD, "the south", False, False),
        ("text", Question("9", "Why?", "Because it rains."), "because it rains", False, True),
    ],
)
def test_traps(style: str, question: Question, said: str, strict: bool, flexible: bool) -> None:
    read = grade(style, question, said)
    assert (read.strict, read.flexible) == (strict, flexible), read


def test_parsed_says_whether_the_form_was_there() -> None:
    assert grade("gsm8k", GSM, "#### 7").parsed and not grade("gsm8k", GSM, "18").parsed
    assert grade("choice", CHOICE, "The answer is (A).").parsed and not grade("choice", CHOICE, "C").parsed
    assert grade("final", FINAL, "Answer: no").parsed and not grade("final", FINAL, "40").parsed
    assert grade("squad", SQUAD, "x").parsed and not grade("squad", SQUAD, " ").parsed


def test_what_was_read_is_kept() -> None:
    assert grade("gsm8k", GSM, "7 + 11 is 18 eggs").answer == "18"
    assert grade("choice", CHOICE, "so (B)").answer == "B"
    assert final_answer("gsm8k", GSM) == "18" and final_answer("choice", TEN) == "J"
    assert final_answer("final", WORD) == "dark red" and final_answer("squad", SQUAD) == "the north"


def test_a_judge_decides_where_many_answers_are_right() -> None:
    read = grade("final", WORD, "Answer: (3 + 4)", judge=lambda q, answer: float(answer == "(3 + 4)"))
    assert read.strict and read.flexible
    assert not grade("final", WORD, "Answer: 3", judge=lambda q, answer: 0.99).flexible
    asked: list[str] = []
    grade("final", WORD, "", judge=lambda q, answer: float(len(asked.append(answer) or "")))
    assert asked == []  # where nothing could be read there is nothing to judge


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("18", 18),
        ("-18", -18),
        ("\u221218", -18),
        ("$1,234.50", Decimal("1234.5")),
        ("1,234", 1234),
        ("50%", 50),
        ("18.", 18),
        (".5", Decimal("0.5")),
        ("$ 29", 29),
        ("1,23", None),
        ("", None),
        (",", None),
        ("-", None),
        ("$", None),
        ("1e5", None),
        ("18 eggs", None),
        ("--3", None),
        ("\u0664", None),
    ],
)
def test_numbers(text: str, value: object) -> None:
    assert number(text) == value


@pytest.mark.parametrize(
    ("said", "inside"),
    [
        (r"\boxed{18}", "18"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{1} then \boxed{{2}}", "{2}"),
        (r"\boxed{never closed", None),
        ("nothing", None),
    ],
)
def test_nested_boxes(said: str, inside: str | None) -> None:
    assert boxed(said) == inside


def test_words() -> None:
    assert normalised("The  Cat, a dog!") == "cat dog"
    assert overlap("the river north", "North") == pytest.approx(2 / 3)
    assert overlap("", "") == 1.0 and overlap("", "north") == 0.0
    assert overlap("north north", "north") == pytest.approx(2 / 3)  # each word as often as it occurs
    assert grade("squad", SQUAD, "northern lights").f1 == pytest.approx(0.5)  # the best of all right answers
    assert grade("gsm8k", GSM, "18").f1 is None


@pytest.mark.parametrize(
    ("said", "truth", "passes"),
    [
        ("there are 1894 of them", "18", True),  # why it is only a legacy measure
        ("Surely not A", "A", True),
        ("one two three four", "one two three four five", True),
        ("one two three", "one two three four five", False),
        ("17.9999", "18.0", True),
        ("17.99", "18.0", False),
        ("f b", "b", True),
        ("x d", "c", False),
        ("anything", "", False),
    ],
)
def test_the_legacy_match(said: str, truth: str, passes: bool) -> None:
    assert fuzzy(said, truth) is passes


def test_every_style_can_be_read() -> None:
    assert set(STOPS) == set(STYLES)
    assert cut("18\nQuestion: next", "gsm8k") == "18" and cut("north\nby", "squad") == "north"


QUESTIONS = [("gsm8k", GSM), ("final", FINAL), ("final", WORD), ("choice", CHOICE), ("squad", SQUAD), ("text", SQUAD)]
WORDS = st.lists(
    st.sampled_from(
        ["####", "Answer:", "answer is", "(C)", "C", "$", ",", ".", "-", "18", "1,200", "\\boxed{", "}", "\n", " "]
    )
    | st.text(max_size=5),
    max_size=14,
).map("".join)


@given(st.sampled_from(QUESTIONS), WORDS)
def test_no_text_breaks_a_reader(asked: tuple[str, Question], said: str) -> None:
    style, question = asked
    read = grade(style, question, said)
    assert not read.strict or read.flexible
    assert not read.flexible or read.answer
    assert read.f1 is None or 0 <= read.f1 <= 1
    assert not (read.strict and not read.parsed)


@given(st.sampled_from(QUESTIONS), WORDS)
def test_the_reference_answer_is_right_whatever_question_follows(asked: tuple[str, Question], more: str) -> None:
    style, question = asked
    if STOPS[style]:
        read = grade(style, question, f"{question.answer}{STOPS[style][0]}{more}")
        assert read.strict and read.flexible and read.parsed


@given(st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-(10**9), max_value=10**9))
def test_spellings_of_a_number_are_one(value: Decimal) -> None:
    sign = "-" if value < 0 else ""
    for text in (f"{value}", f"{value:,}", f"{sign}${abs(value):,}", f"{value}0", f"{value}.".replace("..", ".")):
        if text.count(".") < 2:
            assert number(text) == value
    question = Question("1", "?", f"#### {value}")
    assert grade("gsm8k", question, f"It is {value:,}.").flexible
