"""What a variant is selected by: its answers to held-out questions, or what it is worth in a game."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ludora.data.batches import Item, digest
from ludora.data.questions import Question, Sizes, mark_of
from ludora.data.sources import load
from ludora.evals.quiz import Quiz, check_metric, from_records, is_right
from ludora.evals.records import Record, totals
from ludora.evals.scoring import Scorer, lesson
from ludora.evolve.history import WORST, Score
from ludora.evolve.settings import EvolveConfig
from ludora.learn.pupil import chunks
from ludora.models.adapters import Adapter
from ludora.models.policy import Text
from ludora.players.studio import Studio

MOST_PERPLEXITY = 1000.0  # of one question, as in the seed's fitness
FINAL, TEST, RUNG = "final", "test", "rung"  # blocks of questions; the others are the generations' numbers
TOGETHER = 64  # questions whose frozen part is computed side by side


@dataclass(frozen=True, slots=True)
class Answers:
    """One adapter's answers to a block, and what they come to. `records` are empty where no questions are asked."""

    score: Score
    records: list[Record] = field(default_factory=list)


class Fitness(Protocol):
    """What is learnt, and what a learner is worth. Higher is better.

    `exact` means that measuring twice gives the same; `digest` is a hash of everything learnt and asked. `seen` is what
    an adapter's folder records of the data set: its name, seed and sizes, and hashes of what was learnt or selected by.
    """

    items: list[Item]
    exact: bool
    digest: str
    about: str
    seen: Mapping[str, Any]

    def measure(self, adapters: Sequence[Adapter | None], block: str) -> list[Score]:
        """What each is worth on a block of questions; all that are given are in the pack."""
        ...

    def examine(self, adapters: Sequence[Adapter | None], block: str) -> list[Answers]:
        """The same with every single answer, whatever is selected by: for the test."""
        ...

    def quiz(self, found: Mapping[str, Answers]) -> Quiz | None:
        """The comparison of players on the test, question by question; None where no questions are asked."""
        ...


def make_fitness(config: EvolveConfig, studio: Studio) -> Fitness:
    """The fitness that a config names.

    Raises:
        InputError: the data or the game cannot be had.
    """
    if config.game:
        from ludora.evolve.games import GameFitness  # needs the games' own packages

        return GameFitness(config, studio)
    return DataFitness(config, studio)


class DataFitness:
    """A data set: its training questions are learnt; answers to others are selected by.

    The questions to select by are cut into blocks, in this order: those of the rungs, of the finals, and of one
    generation after the other (or one for all generations).
    """

    exact = False

    def __init__(self, config: EvolveConfig, studio: Studio) -> None:
        self.config, self.studio = config, studio
        rung = config.rung_questions if config.rungs else 0
        final = config.eval_size if config.finalists else 0
        blocks = config.generations if config.fresh_questions else 1
        search = rung + final + blocks * config.eval_size
        sizes = Sizes(config.train_size, search, config.test_size)
        splits = load(config.data, sizes, config.seed)
        check_metric(config.metric, splits)
        self.splits = splits
        self.scorer = Scorer(studio.policy, studio.chat, config.answer_tokens)
        if config.metric != "choice":
            self.scorer.check_room(splits, [*splits.search, *splits.test])
        self.items: list[Item] = [self._text(question) for question in splits.train]
        self._blocks = {RUNG: splits.search[:rung], FINAL: splits.search[rung : rung + final], TEST: splits.test}
        for number in range(config.generations):
            start = rung + final + (number * config.eval_size if config.fresh_questions else 0)
            self._blocks[str(number)] = splits.search[start : start + config.eval_size]
        asked = [self._text(question) for question in (*splits.search, *splits.test)]
        self.digest = digest([*self.items, *asked])
        gaps = f"; {splits.gaps}" if splits.gaps else ""
        marks = sorted(mark_of(question) for question in (*splits.train, *splits.search))
        self.seen: Mapping[str, Any] = {"source": splits.source, "seed": config.seed, **sizes._asdict(), "seen": marks}
        self.about = f"{splits.source}, {config.eval_size} questions a generation{gaps}"

    def _text(self, question: Question) -> Text:
        """A question and its reference answer as they are learnt."""
        return lesson(self.studio.chat, question, self.splits.instruction, self.studio.policy.end)

    def measure(self, adapters: Sequence[Adapter | None], block: str) -> list[Score]:
        """See `Fitness`. Nothing is written where likelihoods are selected by, or a rung is decided."""
        if self.config.fitness == "nll" or block == RUNG:
            found = self._records(adapters, block, written=False)
            return [_score([-loss for loss in _losses(records)], _measures(records, "")) for records in found]
        return [answers.score for answers in self.examine(adapters, block)]

    def examine(self, adapters: Sequence[Adapter | None], block: str) -> list[Answers]:
        """See `Fitness`."""
        found = self._records(adapters, block, written=self.config.metric != "choice")
        return [Answers(self._of_records(records), records) for records in found]

    def quiz(self, found: Mapping[str, Answers]) -> Quiz | None:
        """See `Fitness`."""
        records = {name: answers.records for name, answers in found.items()}
        return from_records(self.splits, self._blocks[TEST], self.config.seed, self.config.metric, records)

    def _records(self, adapters: Sequence[Adapter | None], block: str, *, written: bool) -> list[list[Record]]:
        questions = self._blocks[block]
        for part in chunks([self._text(question).row for question in questions], TOGETHER):
            self.studio.engine.keep(list(dict.fromkeys(part)))  # so that all adapters share it
        return self.scorer.score(self.splits, questions, adapters, written=written)

    def _of_records(self, records: Sequence[Record]) -> Score:
        right = [float(is_right(record, self.config.metric)) for record in records]
        losses = _losses(records)
        values = {
            "accuracy": right,
            "nll": [-loss for loss in losses],
            "seed": [r - _perplexity(loss) / 100 for r, loss in zip(right, losses, strict=True)],
        }
        return _score(values[self.config.fitness], _measures(records, self.config.metric))


def _losses(records: Sequence[Record]) -> list[float]:
    """Mean loss per token of each reference answer, in nats."""
    return [record.nll / max(1, record.tokens) for record in records]


def _perplexity(loss: float) -> float:
    """Of one question, with the seed's bound."""
    return min(math.exp(min(loss, 700.0)), MOST_PERPLEXITY)


def _measures(records: Sequence[Record], metric: str) -> dict[str, float]:
    """Figures beside the fitness; those of written answers only where there are some. What is infinite is left out."""
    n, sums = len(records), totals(records)
    found = {"perplexity": sums.perplexity}
    if metric:
        found["accuracy"] = sum(is_right(record, metric) for record in records) / n
    if sums.unparsed is not None and sums.truncated is not None:
        found |= {"unparsed": sums.unparsed, "truncated": sums.truncated}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _score(values: Sequence[float], measures: dict[str, float]) -> Score:
    """Mean and variance. What is not finite makes the mean the worst there is."""
    if not all(map(math.isfinite, values)):
        return Score(len(values), WORST, 0.0, measures)
    mean = math.fsum(values) / len(values)
    variance = math.fsum((v - mean) ** 2 for v in values) / max(1, len(values) - 1)
    return Score(len(values), mean, variance, measures, tuple(values))
