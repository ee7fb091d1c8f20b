"""Data sets of others: five by name, from the Hugging Face hub or a copy of them, and files of JSON or JSON lines.

Nothing stands in for a data set that cannot be loaded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ludora.data.lines import Reading, Unreadable, need, need_texts, read_lines, short
from ludora.data.questions import LETTERS, STYLES, Question, choice_answer
from ludora.errors import BadLines, InputError, MissingExtra, nearest

Row = Mapping[str, Any]
_ASKED = ("question", "text", "instruction")
_ANSWERED = ("answer", "label", "response", "output")


@dataclass(frozen=True, slots=True)
class Pool:
    """The questions there are. `test` holds those of a test split that the data set itself has, else nothing.

    `empty` counts rows that were left out because their question or answer is empty.
    """

    style: str
    rest: Sequence[Question]
    test: Sequence[Question] = ()
    empty: int = 0


# ---- by name -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Named:
    """Where a data set lies on the hub, which of its splits are used, and how a row of it becomes a question."""

    hub: str
    config: str
    split: str
    test: str
    style: str
    read: Callable[[Row, int], Question]


def _gsm8k(row: Row, number: int) -> Question:
    return Question(str(number), need(row, "question", str), need(row, "answer", str))


def _mmlu_pro(row: Row, number: int) -> Question:
    options = tuple(need_texts(row, "options"))
    index = need(row, "answer_index", int)
    if need(row, "answer", str) != LETTERS[index : index + 1] or index >= len(options):
        raise Unreadable(f"its answer {row['answer']!r} is not option {index} of {len(options)}")
    asked, group = need(row, "question", str), need(row, "category", str)
    return Question(str(row.get("question_id", number)), asked, choice_answer(index), options, group)


def _squad(row: Row, number: int) -> Question:
    texts = need_texts(need(row, "answers", dict), "text")
    if not texts:
        raise Unreadable("it has no answer")
    asked = f"{need(row, 'context', str)}\n\n{need(row, 'question', str).strip()}"
    answer, *also = dict.fromkeys(text.strip() for text in texts)
    return Question(need(row, "id", str), asked, answer, (), need(row, "title", str), tuple(also))


def _alpaca(row: Row, number: int) -> Question:
    given = need(row, "input", str).strip()
    asked = need(row, "instruction", str)
    return Question(str(number), f"{asked}\n\n{given}" if given else asked, need(row, "output", str))


def _dolly(row: Row, number: int) -> Question:
    given = need(row, "context", str).strip()
    asked = need(row, "instruction", str)
    asked = f"{given}\n\n{asked}" if given else asked
    return Question(str(number), asked, need(row, "response", str), (), need(row, "category", str))


NAMED: Mapping[str, _Named] = {
    "mmlu-pro": _Named("TIGER-Lab/MMLU-Pro", "default", "test", "", "choice", _mmlu_pro),
    "gsm8k": _Named("openai/gsm8k", "main", "train", "test", "gsm8k", _gsm8k),
    "squad": _Named("rajpurkar/squad", "plain_text", "train", "validation", "squad", _squad),
    "alpaca": _Named("tatsu-lab/alpaca", "default", "train", "", "text", _alpaca),
    "dolly": _Named("databricks/databricks-dolly-15k", "default", "train", "", "text", _dolly),
}


def named(name: str, path: str = "") -> Pool:
    """A data set by name, from the hub or from the folder of a copy.

    Rows whose question or answer is empty are left out: alpaca as it is published has such answers.

    Raises:
        MissingExtra: the package `datasets` is not there.
        InputError: it cannot be loaded, or has other columns.
    """
    known = NAMED[name]
    if find_spec("datasets") is None:
        raise MissingExtra(f"the data set {name} needs the package datasets", "pip install 'ludora[datasets]'")
    if path and not Path(path).is_dir():
        raise InputError(f"there is no folder {path}", f"path is a copy of the repository {known.hub}")
    rows = [
        _questions(_rows(name, path, split), known.read, f"{name}, {split}") if split else []
        for split in (known.split, known.test)
    ]
    rest, test = ([question for question in part if _is_filled(question)] for part in rows)
    return Pool(known.style, rest, test, sum(map(len, rows)) - len(rest) - len(test))


def _rows(name: str, path: str, split: str) -> Iterable[Row]:
    from datasets import get_dataset_config_names, load_dataset

    known = NAMED[name]
    where = path or known.hub
    try:
        config = known.config
        if path and config not in get_dataset_config_names(path):  # a copy of the files alone has no named parts
            config = "default"
        return load_dataset(where, config, split=split)  # type: ignore[no-any-return]
    except Exception as error:  # boundary: the hub's client and its file readers raise what their libraries do
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise InputError(
            f"cannot load the data set {name} from {where}: {reason}",
            f"with no way to the hub, copy its repository here and write dataset({name}(path=FOLDER)); "
            "dataset(arithmetic) needs no download",
        ) from None


def _questions(rows: Iterable[Row], read: Callable[[Row, int], Question], where: str) -> list[Question]:
    found = []
    for number, row in enumerate(rows):
        try:
            found.append(read(row, number))
        except Unreadable as error:
            raise InputError(f"{where}, row {number}: {error}", "is this a copy of that data set?") from None
    return found


def _is_filled(question: Question) -> bool:
    return bool(question.question.strip() and question.answer.strip())


# ---- files ---------------------------------------------------------------------------------------------------------


def local(path: str, style: str = "") -> Pool:
    """Questions of a JSON file (a list of objects) or a file of JSON lines.

    A question is in the column `question`, `text` or `instruction`, its answer in `answer`, `label`, `response` or
    `output`; `options`, `group` and `id` may stand beside them. Without a style, the answers tell it.

    Raises:
        InputError: there is no such file, a line cannot be used, or there is no such style.
    """
    file = Path(path).expanduser()
    if style and style not in STYLES:
        raise InputError(f"there is no style {style!r}", nearest(style, STYLES))
    if not file.is_file():
        raise InputError(f"there is no file {path}", "a file of JSON lines, or a data set: see ludora list datasets")
    if file.suffix == ".json":
        found = _questions(_json_rows(file), _local_row, path)
    else:
        reading: Reading[Question] = read_lines(file, lambda row, place: _local_row(row, place.number - 1))
        if reading.bad:
            raise BadLines(reading.complaint, "a line is an object with a question and an answer")
        found = list(reading.items)
    if not found:
        raise InputError(f"{path} holds no question", "a line is an object with a question and an answer")
    style = style or _style_of(found)
    if odd := [q.id for q in found if bool(q.options) != (style == "choice")]:
        what = "has options" if style != "choice" else "has no options"
        raise InputError(f"{path}: question {odd[0]} {what}, which does not go with style={style}", "split the file")
    return Pool(style, found)


def _json_rows(file: Path) -> list[Row]:
    try:
        data = json.loads(file.read_text(encoding="utf-8-sig"))  # which may begin with a mark of the byte order
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is not JSON: {' '.join(str(error).split())}", "JSON lines end in .jsonl") from None
    if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
        raise InputError(f"{file} is not a list of objects", 'for example [{"question": "1 + 1?", "answer": "2"}]')
    return data


def _local_row(row: Row, number: int) -> Question:
    asked, answered = (next((k for k in keys if k in row), keys[0]) for keys in (_ASKED, _ANSWERED))
    name = str(row.get("id", number))
    group = need(row, "group", str) if row.get("group") is not None else ""
    options = tuple(need_texts(row, "options")) if row.get("options") is not None else ()
    answer = _as_text(row, answered)
    if options:
        answer = choice_answer(_place(answer, options))
    question = Question(name, need(row, asked, str), answer, options, group)
    if not _is_filled(question):
        raise Unreadable("its question or answer is empty")
    return question


def _as_text(row: Row, key: str) -> str:
    """An answer may be a number in the file."""
    value = row.get(key)
    return str(value) if type(value) in (int, float) else str(need(row, key, str))


def _place(answer: str, options: Sequence[str]) -> int:
    """The option that an answer names by its text or its letter."""
    if len(options) > len(LETTERS):
        raise Unreadable(f"it has {len(options)} options, more than letters")
    named = [i for i, option in enumerate(options) if option.strip() == answer.strip()]
    lettered = LETTERS.find(answer.strip().upper()) if len(answer.strip()) == 1 else -1
    if len(named) == 1:
        return named[0]
    if 0 <= lettered < len(options):
        return lettered
    raise Unreadable(f"its answer {short(answer)} is none of its options")


def _style_of(questions: Sequence[Question]) -> str:
    """What the answers look like, all of them."""
    if all(q.options for q in questions):
        return "choice"
    if all("####" in q.answer for q in questions):
        return "gsm8k"
    return "final" if all("Answer:" in q.answer for q in questions) else "text"
