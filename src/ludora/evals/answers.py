"""What a model's words answer, by the conventions of each style of data set. Pure functions of text; none ever fails.

    style    strict: the form that was asked for, its first place     flexible: what else counts as an answer
    gsm8k    `#### 18`                                                the last number
    final    `Answer: 18`                                             the last number behind it, or of all
                                                                      for words the last line
    choice   `answer is (C)`                                          the last option that is named
    squad    exactly one of the answers                               the same without case, articles, punctuation
    text     exactly the answer                                       the same without case, articles, punctuation

Numbers are compared as numbers: `$1,200.00`, `1200` and `1200.` are one. What comes after a stop text is not read: a
model that goes on to ask itself the next question must not be graded by it.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from ludora.data.questions import LETTERS, Judge, Question

STOPS: Mapping[str, tuple[str, ...]] = {
    "gsm8k": ("Question:",),
    "final": ("Question:",),
    "choice": ("Question:",),
    "squad": ("\n",),
    "text": (),
}

# a minus counts where it is a sign, not between two numbers; commas only between groups of three digits
_NUMBER = re.compile(r"(?:(?<![\w.)\]])[-\u2212])?(?:\$\s?)?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?<![\w.])\.\d+")
_WHOLE = re.compile(r"[-\u2212]?\s?\$?\s?[-\u2212]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d*)?\s?[%.]?")
_HASHES = re.compile(r"####[ \t]*([^\n]*)")
_FINAL = re.compile(r"\banswer\b\W{0,4}?[:=][ \t*_`]*([^\n]*)", re.IGNORECASE)
_STRICT_FINAL = re.compile(r"Answer:[ \t]*([^\n]*)")
_STRICT_CHOICE = re.compile(r"answer is:?\s*(?:\(([A-Z])\)|([A-Z])(?![\w'])(?!\s+\w))")
_NAMED_CHOICE = re.compile(r"\(([A-Z])\)|\b(?i:answer|option|choice)\b(?:\s+is|\s*[:=])?\s*\**([A-Z])(?![\w'])")
_LONE_CHOICE = re.compile(r"\W*([A-Z])(?:[.):]|\W*$)")
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, slots=True)
class Grade:
    """How an answer was read. `answer` is what it comes to ("": nothing could be read), `parsed` whether the form that
    was asked for was there. `f1` is the overlap of words 0..1, of styles that are answered in words.
    """

    answer: str
    strict: bool
    flexible: bool
    fuzzy: bool
    parsed: bool
    f1: float | None = None


def grade(style: str, question: Question, said: str, judge: Judge | None = None) -> Grade:
    """Read an answer and hold it against the reference.

    Args:
        style: of the data set, a key of `data.questions.STYLES`.
        question: with the reference answer.
        said: the model's words.
        judge: where many answers are right: gives the one that was read a score 0..1; 1 is right.
    """
    said = cut(said, style)
    if style in ("squad", "text"):
        return _in_words(question, said)
    truth = final_answer(style, question)
    strict = _strict(style, said)
    loose = strict if strict is not None else _flexible(style, question, said, truth)
    right = _is_right(style, question, loose, truth, judge)
    strictly = right and strict is not None
    if strict and not right and style == "final" and number(truth) is not None and number(strict) is None:
        loose = _last_number(strict) or _last_number(said) or strict  # `Answer: 42 apples`, `Answer: x = 42`
        right = _is_right(style, question, loose, truth, judge)
    return Grade(
        answer=loose,
        strict=strictly,
        flexible=right,
        fuzzy=fuzzy(said, truth),
        parsed=strict is not None,
    )


def _is_right(style: str, question: Question, read: str, truth: str, judge: Judge | None) -> bool:
    return bool(read) and (_same(style, read, truth) or (judge is not None and judge(question, read) >= 1.0))


def cut(said: str, style: str) -> str:
    """The words before the first stop text of the style."""
    said = said.strip()
    ends = [end for stop in STOPS[style] if (end := said.find(stop)) >= 0]
    return said[: min(ends)].strip() if ends else said


def final_answer(style: str, question: Question) -> str:
    """What the reference answer comes to: the number, the letter, the last words."""
    read = _strict(style, question.answer) if style not in ("squad", "text") else None
    return question.answer.strip() if read is None else read


# ---- reading -------------------------------------------------------------------------------------------------------


def _strict(style: str, said: str) -> str | None:
    """The answer in the form that was asked for, or None."""
    if style == "choice":
        match = _STRICT_CHOICE.search(said)
        return str(match[1] or match[2]) if match else None
    match = (_HASHES if style == "gsm8k" else _STRICT_FINAL).search(said)
    if not match or not match[1].strip():
        return None
    if style == "gsm8k":
        number = _NUMBER.match(match[1].strip())
        return number[0].strip() if number else None
    return _trimmed(match[1])


def _trimmed(text: str) -> str:
    text = text.strip().strip("*_`").strip()
    return text[:-1].rstrip() if text.endswith(".") and len(text) > 1 else text


def _flexible(style: str, question: Question, said: str, truth: str) -> str:
    """The answer wherever it is; "" if there is none."""
    if style == "choice":
        return _option(question, said)
    if (inside := boxed(said)) is not None:
        return _trimmed(inside)
    declared = _FINAL.findall(said)
    if number(truth) is not None:
        return _last_number(said)
    lines = [line for line in said.splitlines() if line.strip()]
    return _trimmed(declared[-1] if declared else lines[-1] if lines else "")


def _last_number(said: str) -> str:
    numbers = _NUMBER.findall(said)
    return str(numbers[-1]).strip() if numbers else ""


def _option(question: Question, said: str) -> str:
    """The letter that is named last, else the one that the words begin with, else that of the option's own text."""
    letters = LETTERS[: len(question.options)]
    named = [letter for pair in _NAMED_CHOICE.findall(said) for letter in pair if letter and letter in letters]
    if named:
        return str(named[-1])
    if (lone := _LONE_CHOICE.match(said)) and lone[1] in letters:
        return lone[1]
    words = normalised(said)
    spelt = [letter for letter, option in zip(letters, question.options, strict=True) if normalised(option) == words]
    return spelt[0] if len(spelt) == 1 and words else ""


def boxed(said: str) -> str | None:
    r"""What is inside the last `\boxed{...}`, whose own braces may be nested; None if there is none."""
    start = said.rfind("\\boxed{")
    if start < 0:
        return None
    depth, begin = 0, start + len("\\boxed{") - 1
    for at in range(begin, len(said)):
        depth += (said[at] == "{") - (said[at] == "}")
        if depth == 0:
            return said[begin + 1 : at]
    return None


# ---- comparing -----------------------------------------------------------------------------------------------------


def _same(style: str, read: str, truth: str) -> bool:
    if style == "choice":
        return read == truth
    one, other = number(read), number(truth)
    if one is not None and other is not None:
        return one == other
    return normalised(read) == normalised(truth) if normalised(truth) else read.strip() == truth.strip()


def number(text: str) -> Decimal | None:
    """The number that a text is, but for `$`, `%`, commas and a final full stop; None if it is something else."""
    text = text.strip()
    if not _WHOLE.fullmatch(text) or not any(c in string.digits for c in text):
        return None
    plain = re.sub(r"[\s$,%]", "", text).replace("\u2212", "-").rstrip(".")
    return Decimal(plain) if plain.count("-") < 2 and plain.isascii() else None


def normalised(text: str) -> str:
    """Words alone: no case, articles, punctuation or double spaces (the convention of SQuAD)."""
    return " ".join(_ARTICLES.sub(" ", text.casefold().translate(_PUNCTUATION)).split())


def _in_words(question: Question, said: str) -> Grade:
    truths = (question.answer, *question.also)
    words = normalised(said)
    return Grade(
        answer=said,
        strict=any(said == truth.strip() for truth in truths),
        flexible=any(words == normalised(truth) for truth in truths),
        fuzzy=any(fuzzy(said, truth.strip()) for truth in truths),
        parsed=bool(said),
        f1=max(overlap(said, truth) for truth in truths),
    )


def overlap(said: str, truth: str) -> float:
    """F1 of the words that two texts share, each as often as it occurs; two empty texts agree."""
    ours, theirs = normalised(said).split(), normalised(truth).split()
    if not ours or not theirs:
        return float(ours == theirs)
    shared = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * shared / (len(ours) + len(theirs))


def fuzzy(said: str, truth: str) -> bool:
    """Legacy, for comparison only: the answer somewhere in the words, 80 % of its words there, any number equal to its
    number, or its letter the first of a to e. Nearly everything that is long passes; no selection should go by it.
    """
    said, truth = said.casefold(), truth.casefold()
    if not truth:
        return False
    if truth in said:
        return True
    if len(truth) == 1 and truth in "abcde":
        return next((c for c in said if c in "abcde"), "") == truth
    wanted = number(truth)
    if wanted is not None:
        found = (number(text) for text in _NUMBER.findall(said))
        return any(value is not None and abs(value - wanted) < Decimal("0.001") for value in found)
    words, there = set(truth.split()), set(said.split())
    return len(words & there) >= 0.8 * len(words)
