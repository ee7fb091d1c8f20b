"""Players on a data set: what each answered, how often it was right, and whether one is better than the other.

Every player answers the same questions, so they are compared question by question.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ludora.data.questions import Question, Sizes, Splits, mark_of
from ludora.data.sources import load, source_spec
from ludora.errors import InputError, nearest
from ludora.evals.records import Record, Totals, totals
from ludora.evals.stats import bootstrap, mcnemar, wilson
from ludora.fields import shown
from ludora.models.known import ORIGIN
from ludora.settings import ACTING, ModelSettings
from ludora.types import Spec

if TYPE_CHECKING:
    from ludora.players.studio import Studio

VERSION = 1
KIND = "questions"  # tells this evaluation.json from one of games
METRICS: Mapping[str, str] = {
    "flexible": "right, read in any form",
    "strict": "right, in the form that was asked for",
    "choice": "the right option is the likeliest",
    "fuzzy": "fuzzy match (legacy)",
}
# What a model that acts in games can be told, and one that answers questions cannot.


_TEXTS = ("id", "question", "reference", "group")  # of an item


@dataclass(frozen=True, slots=True)
class Item:
    """One question, its reference answer, and what each player made of it, in the order of the rows."""

    id: str
    question: str
    reference: str
    group: str
    answers: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class QuizRow:
    """What one player reached; `low` and `high` are the ends of Wilson's interval of `rate`, the share that is right
    by the evaluation's metric.
    """

    player: str
    rate: float
    low: float
    high: float
    totals: Totals


@dataclass(frozen=True, slots=True)
class Paired:
    """`player` against `baseline`, question by question.

    `difference` of the rates, with its paired bootstrap interval; `p_value` is McNemar's exact test of the questions
    that only one of them got right (`improvements`: the player, `regressions`: the baseline). `nll_difference` is the
    mean difference in nats per token of the reference answers, below 0 where the player finds them likelier.
    """

    player: str
    baseline: str
    questions: int
    difference: float
    difference_low: float | None
    difference_high: float | None
    p_value: float
    improvements: int
    regressions: int
    both_right: int
    both_wrong: int
    nll_difference: float | None
    nll_difference_low: float | None
    nll_difference_high: float | None

    @property
    def sentence(self) -> str:
        """The verdict in words; "better" is only said where the test says so at 5 %."""
        ends = ""
        if self.difference_low is not None and self.difference_high is not None:
            ends = f" (95 % interval {100 * self.difference_low:+.1f} to {100 * self.difference_high:+.1f})"
        size = f"{100 * self.difference:+.1f} points{ends}"
        counts = f"{self.improvements} questions improved, {self.regressions} got worse, p = {self.p_value:.2g}"
        if self.p_value > 0.05:
            return f"No reliable difference between {self.player} and {self.baseline}: {size}; {counts}."
        word = "better" if self.difference > 0 else "worse"
        return f"{self.player} is {word} than {self.baseline}: {size}; {counts}."


@dataclass(frozen=True, slots=True)
class Quiz:
    """The one record that the table, `evaluation.json` and the report all read.

    `rows` are the players in the order given, the one in question first. `metric` is what counts as right.
    """

    task: str
    style: str
    seed: int
    metric: str
    rows: tuple[QuizRow, ...]
    comparison: Paired | None
    items: tuple[Item, ...]
    version: int = VERSION
    kind: str = KIND

    def right(self, item: Item, place: int) -> bool:
        """Whether the player of row `place` got this question right."""
        return is_right(item.answers[place], self.metric)

    def changed(self, player: bool, baseline: bool) -> list[Item]:
        """The questions that the first player got right or not, and the second right or not."""
        return [i for i in self.items if (self.right(i, 0), self.right(i, 1)) == (player, baseline)]

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary for `evaluation.json` and `--json`; the verdict in words is added for readers."""
        data: dict[str, Any] = _finite(asdict(self))
        for item, own in zip(data["items"], self.items, strict=True):
            item["answers"] = [answer.to_json() for answer in own.answers]
        if self.comparison is not None:
            data["comparison"]["sentence"] = self.comparison.sentence
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Quiz:
        """The inverse of `to_json`: the figures are computed again from the answers.

        Raises:
            InputError: it is not such an evaluation, or one of another version.
        """
        if data.get("kind") != KIND or data.get("version") != VERSION:
            raise InputError(f"this is no evaluation of questions in version {VERSION}", "evaluate again")
        try:
            items = tuple(
                Item(**{k: str(item[k]) for k in _TEXTS}, answers=tuple(map(Record.from_json, item["answers"])))
                for item in data["items"]
            )
            names = [str(row["player"]) for row in data["rows"]]
            return _sum_up(str(data["task"]), str(data["style"]), int(data["seed"]), str(data["metric"]), names, items)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise InputError(f"this is no evaluation: {error!r}", "evaluate again") from None


def is_right(record: Record, metric: str) -> bool:
    """Whether an answer counts as right by a metric."""
    found = {"flexible": record.flexible, "strict": record.strict, "choice": record.option_right, "fuzzy": record.fuzzy}
    return bool(found[metric])


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# ---- asking --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Asking:
    """How a data set is put: how many questions of its test split, and how answers are measured.

    `metric` "" stands for the likeliest option where there are options, else for a flexible match.
    """

    questions: int = 200
    seed: int = 0
    metric: str = ""
    answer_tokens: int = 256


def check_asking(players: Sequence[Spec], task: str, settings: ModelSettings, asking: Asking) -> None:
    """Refuse what cannot be honoured, before anything is loaded.

    Raises:
        InputError: no such data set or metric, a player without a model, or an option for games.
    """
    source_spec(task)
    for spec in players:
        if spec.name not in ("base", "adapter"):
            raise InputError(f"{spec} answers no questions", "base and adapter(FOLDER) do")
    if len({str(spec) for spec in players}) < len(players):
        raise InputError(f"contenders must differ, got {players[0]} twice", "compare with another player")
    if asking.questions < 1 or asking.answer_tokens < 1:
        raise InputError("at least one question, and one token for its answer, is needed", "--games 200")
    if asking.metric and asking.metric not in METRICS:
        raise InputError(f"there is no metric {asking.metric!r}", nearest(asking.metric, METRICS))
    for key in (*ACTING, "temperature"):
        if (value := getattr(settings, key)) != type(settings).model_fields[key].default:
            raise InputError(f"{key} = {shown(value)} has no effect on a data set", f"leave {key} out")


def questions(task: str, asking: Asking) -> Splits:
    """The questions to be asked: `asking.questions` of the test split.

    Raises:
        InputError: the data set cannot be loaded, or the metric does not fit it.
    """
    data = load(task, Sizes(test=asking.questions), asking.seed)
    check_metric(asking.metric, data)
    return data


def check_unseen(players: Sequence[Spec], data: Splits) -> None:
    """Refuse test questions that an adapter learnt or was selected by, as its folder records them.

    Raises:
        InputError: there is one.
    """
    for folder in (str(spec.args[0]) for spec in players if spec.args):
        origin = _origin(Path(folder))
        known = set(origin.get("seen") or ())
        if met := sum(mark_of(question) in known for question in data.test):
            source, asked = origin.get("source"), len(data.test)
            raise InputError(
                f"adapter({folder}) has seen {met} of these {asked} test questions: it was evolved on {source}",
                f"a test share no larger than there keeps them apart: {source}",
            )


def _origin(folder: Path) -> Mapping[str, Any]:
    """What an adapter's folder says of the data set that it learnt; nothing where there is no such record."""
    try:
        found = json.loads((folder / ORIGIN).read_text(encoding="utf-8"))["data"]
        return found if isinstance(found, dict) and isinstance(found.get("seen"), list) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def check_metric(metric: str, data: Splits) -> None:
    """Refuse a metric that no question of a data set can be measured by.

    Raises:
        InputError: the likeliest option is asked for, and there are none.
    """
    if metric == "choice" and data.style != "choice":
        raise InputError(f"metric = choice needs options, which {data.source} has not", "leave the metric out")


def quiz(
    players: Sequence[Spec],
    data: Splits,
    studio: Studio,
    asking: Asking,
    progress: Callable[[], None] = lambda: None,
) -> Quiz:
    """Put the same questions to players that have a model; the first is the one in question. `progress` is called
    after every answer.

    Raises:
        InputError: an adapter cannot be loaded, or a question does not fit into the model's context.
    """
    from ludora.evals.scoring import Scorer  # torch, which a report does not need

    adapters = [studio.load(str(spec.args[0])) if spec.args else None for spec in players]
    scorer = Scorer(studio.policy, studio.chat, asking.answer_tokens)
    metric = asking.metric or ("choice" if data.style == "choice" else "flexible")
    scorer.check_room(data, data.test)
    found = scorer.score(data, data.test, adapters, progress=progress)
    return from_records(data, data.test, asking.seed, metric, dict(zip(map(str, players), found, strict=True)))


def from_records(
    data: Splits, questions: Sequence[Question], seed: int, metric: str, found: Mapping[str, Sequence[Record]]
) -> Quiz:
    """The evaluation that answers come to: `found` maps a player's name to its records, in the order of the questions.

    The first player is the one in question; a second one is what it is compared with.
    """
    answers = zip(*found.values(), strict=True)
    items = tuple(
        Item(q.id, "\n".join([q.question, *_lettered(q)]), q.answer, q.group, tuple(each))
        for q, each in zip(questions, answers, strict=True)
    )
    return _sum_up(data.source, data.style, seed, metric, list(found), items)


def _lettered(question: Question) -> list[str]:
    return [f"{chr(ord('A') + i)}. {option}" for i, option in enumerate(question.options)]


def _sum_up(task: str, style: str, seed: int, metric: str, names: Sequence[str], items: tuple[Item, ...]) -> Quiz:
    columns = [[item.answers[place] for item in items] for place in range(len(names))]
    rows = []
    for name, records in zip(names, columns, strict=True):
        rate = wilson(sum(is_right(r, metric) for r in records), len(records))
        rows.append(QuizRow(name, rate.mean, rate.low or 0.0, rate.high or 0.0, totals(records)))
    pair = _pair(names, columns, metric, seed) if len(names) > 1 else None
    return Quiz(task, style, seed, metric, tuple(rows), pair, items)


def _pair(names: Sequence[str], columns: Sequence[Sequence[Record]], metric: str, seed: int) -> Paired:
    ours, theirs = ([is_right(r, metric) for r in column] for column in columns[:2])
    both = list(zip(ours, theirs, strict=True))
    gain = bootstrap([float(a) - float(b) for a, b in both], seed=seed)
    losses = [a.nll / max(1, a.tokens) - b.nll / max(1, b.tokens) for a, b in zip(*columns[:2], strict=True)]
    nll = bootstrap(losses, seed=seed) if all(map(math.isfinite, losses)) else None
    improved, worse = both.count((True, False)), both.count((False, True))
    return Paired(
        player=names[0],
        baseline=names[1],
        questions=len(both),
        difference=gain.mean,
        difference_low=gain.low,
        difference_high=gain.high,
        p_value=mcnemar(improved, worse),
        improvements=improved,
        regressions=worse,
        both_right=both.count((True, True)),
        both_wrong=both.count((False, False)),
        nll_difference=nll.mean if nll else None,
        nll_difference_low=nll.low if nll else None,
        nll_difference_high=nll.high if nll else None,
    )
