"""Questions with reference answers, and how they are put to a model: the ground of evolution and of data sets' scores.

A data set has a *style*: what its answers look like. The style says what the model is told to answer like, and
`evals.answers` reads answers by it.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import NamedTuple

from ludora.types import Message

LETTERS = string.ascii_uppercase
OPTION_STEM = "The answer is"  # a letter in brackets follows, in what is taught and in what is scored alike

# style -> what the model is told before every question, so that base and adapter know the form alike
STYLES: Mapping[str, str] = {
    "gsm8k": "Solve the problem step by step. End with a line '#### ' and the number.",
    "final": "Work it out step by step. End with 'Answer: ' and the result.",
    "choice": f"Choose one of the options. End with '{OPTION_STEM} (X).', X being its letter.",
    "squad": "Answer the question in a few words, taken from the text.",
    "text": "",
}


@dataclass(frozen=True, slots=True)
class Question:
    """One question. `answer` is what is taught: the worked answer in the form of its style.

    `options` are the choices of a multiple-choice question, in the order of their letters. `group` names what questions
    share (a subject, an article, a game). `also` are further answers that count as right.
    """

    id: str
    question: str
    answer: str
    options: tuple[str, ...] = ()
    group: str = ""
    also: tuple[str, ...] = ()


Judge = Callable[[Question, str], float]


class Sizes(NamedTuple):
    """How many questions are wanted: to learn, to select by, and for the one test at the end."""

    train: int = 0
    search: int = 0
    test: int = 0


@dataclass(frozen=True, slots=True)
class Splits:
    """A data set: three disjoint lists of questions. `source` is its canonical name.

    `instruction` is the system message before every question, `duplicates` counts questions that were left out because
    they came up before, `empty` rows of a named data set without a question or an answer. `judge`, where many answers
    are right, gives the score 0..1 of an answer that was read.
    """

    source: str
    style: str
    instruction: str
    train: tuple[Question, ...]
    search: tuple[Question, ...]
    test: tuple[Question, ...]
    duplicates: int = 0
    judge: Judge | None = field(default=None, compare=False)
    empty: int = 0

    @property
    def gaps(self) -> str:
        """What has to be said of rows that were left out, or nothing."""
        return f"{self.empty} rows with an empty question or answer are left out" if self.empty else ""


def key_of(question: Question) -> str:
    """What makes two questions the same: their words and options, but for case and white space."""
    return "\x1f".join(" ".join(text.casefold().split()) for text in (question.question, *question.options))


def mark_of(question: Question) -> str:
    """A short hash of what makes a question the same, by which an adapter remembers what it has seen."""
    return sha256(key_of(question).encode()).hexdigest()[:12]


def messages(question: Question, instruction: str) -> tuple[Message, ...]:
    """How a question is put to a model."""
    lines = [f"{letter}. {option}" for letter, option in zip(LETTERS, question.options, strict=False)]
    user = Message("user", "\n".join([question.question, *lines]))
    return (Message("system", instruction), user) if instruction else (user,)


def choice_answer(index: int) -> str:
    """The answer that names an option by its letter."""
    return f"{OPTION_STEM} ({LETTERS[index]})."
