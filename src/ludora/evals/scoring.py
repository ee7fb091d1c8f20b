"""How well adapters answer: every question under every adapter of a population, in shared batches.

    written      the greedy answer, read by the conventions of `evals.answers`
    likelihood   loss of the reference answer's tokens, the one that ends it included; nothing of the question counts
    options      of multiple choice: probability of each option's letter after "The answer is", through the trie

What the base (None) answers never changes, so it is asked once per `Scorer`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from ludora.data.batches import single
from ludora.data.questions import LETTERS, OPTION_STEM, Question, Splits, choice_answer, messages
from ludora.errors import InputError
from ludora.evals.answers import STOPS, Grade, final_answer, grade
from ludora.evals.records import Record, Totals, totals
from ludora.models.adapters import Adapter
from ludora.models.chat import ChatFormat
from ludora.models.greedy import Greedy
from ludora.models.policy import Policy, Query, Text
from ludora.types import Stop

__all__ = ["Record", "Scorer", "Totals", "lesson", "totals"]

_Pair = tuple[Question, Adapter | None]
_TAIL = 24  # tokens in which a stop text that has just been completed must lie
_TEXTS = 256  # reference answers in one call; the engine cuts it into passes


def lesson(chat: ChatFormat, question: Question, instruction: str, end: int) -> Text:
    """A question and its reference answer as what is learnt, and what is scored."""
    asked = messages(question, instruction)
    return single(chat.opening(asked), len(chat.prefix(asked)), chat.answer(question.answer), end)


class Scorer:
    """Scores adapters of one pack on questions.

    Args:
        policy: of the pack's engine; its temperature must be 1.
        chat: how questions are put.
        max_new_tokens: of a written answer.

    Raises:
        InputError: the policy has another temperature.
    """

    def __init__(self, policy: Policy, chat: ChatFormat, max_new_tokens: int = 256) -> None:
        if policy.temperature != 1.0:
            raise InputError("answers are scored at temperature 1", "leave temperature out")
        self.policy, self.chat, self.max_new_tokens = policy, chat, max_new_tokens
        self.greedy = Greedy(policy, chat.stop_ids)
        self._known: dict[tuple[str, bool, Question], Record] = {}  # of the base

    def check_room(self, data: Splits, questions: Sequence[Question]) -> None:
        """Refuse an answer's length that the model's context has no room for, before anything is computed.

        Raises:
            InputError: the longest question and an answer are longer than the context.
        """
        context = self.policy.engine.context
        longest = max((len(self.chat.opening(messages(q, data.instruction))) for q in questions), default=0)
        if context is not None and longest + self.max_new_tokens - 1 > context:  # the last token is not read again
            raise InputError(
                f"answer_tokens = {self.max_new_tokens} and a question of {longest} tokens are more than the {context} "
                f"that {self.policy.engine.base.name} takes",
                f"{context - longest} at most" if longest < context else "choose a model with a longer context",
            )

    def score(
        self,
        data: Splits,
        questions: Sequence[Question],
        adapters: Sequence[Adapter | None],
        *,
        written: bool = True,
        progress: Callable[[], None] = lambda: None,
    ) -> list[list[Record]]:
        """The records of every adapter (None: the base), in the order of the questions.

        Args:
            data: the set that the questions are of: its style, instruction and judge.
            questions: what is asked, any part of the set.
            adapters: each at most once.
            written: have answers written, too; else only likelihoods are computed, at a tenth of the cost or less.
            progress: called after every answer that is written.

        Raises:
            InputError: a question does not fit into the model's context.
        """
        asked = [a for a in adapters if a is not None]
        new = [q for q in questions if (data.source, written, q) not in self._known] if None in adapters else []
        pairs: list[_Pair] = [(q, a) for a in asked for q in questions]
        pairs += [(q, None) for q in dict.fromkeys(new)]
        records = self._score(data, pairs, written, progress)
        for (question, adapter), record in zip(pairs, records, strict=True):
            if adapter is None:
                self._known[data.source, written, question] = record
        n = len(questions)
        by_adapter = {id(a): records[i * n : (i + 1) * n] for i, a in enumerate(asked)}
        base = [self._known[data.source, written, q] for q in questions] if None in adapters else []
        return [base if a is None else by_adapter[id(a)] for a in adapters]

    @torch.no_grad()
    def _score(self, data: Splits, pairs: list[_Pair], written: bool, progress: Callable[[], None]) -> list[Record]:
        records = [
            replace(record, nll=nll, tokens=tokens)
            for record, (nll, tokens) in zip(self._options(data, pairs), self._losses(data, pairs), strict=True)
        ]
        if not written:
            return records
        return [
            replace(
                record,
                written=True,
                said=said,
                answer=read.answer,
                strict=read.strict,
                flexible=read.flexible,
                fuzzy=read.fuzzy,
                parsed=read.parsed,
                truncated=stop is Stop.LENGTH,
                f1=read.f1,
            )
            for record, (said, stop, read) in zip(records, self._write(data, pairs, progress), strict=True)
        ]

    def _write(self, data: Splits, pairs: list[_Pair], progress: Callable[[], None]) -> list[tuple[str, Stop, Grade]]:
        prompts = {q: self.chat.opening(messages(q, data.instruction)) for q, _ in pairs}
        stops = STOPS[data.style]

        def over(row: int, said: list[int]) -> bool:
            return any(stop in self._text(said[-_TAIL:]).lstrip() for stop in stops)

        answers = self.greedy.answer(
            [prompts[q] for q, _ in pairs],
            [a for _, a in pairs],
            self.max_new_tokens,
            over if stops else _never,
            progress,
        )
        texts = [(self._text(tokens), stop) for tokens, stop in answers]
        return [
            (said, stop, grade(data.style, question, said, data.judge))
            for (said, stop), (question, _) in zip(texts, pairs, strict=True)
        ]

    def _text(self, tokens: Sequence[int]) -> str:
        return str(self.chat.tokenizer.decode(list(tokens), skip_special_tokens=True))

    def _losses(self, data: Splits, pairs: list[_Pair]) -> list[tuple[float, int]]:
        """(loss in nats, tokens) of each reference answer."""
        texts = {q: lesson(self.chat, q, data.instruction, self.policy.end) for q, _ in pairs}
        found: list[tuple[float, int]] = []
        for start in range(0, len(pairs), _TEXTS):
            part = pairs[start : start + _TEXTS]
            losses = self.policy.token_losses([texts[q] for q, _ in part], [a for _, a in part])
            for each in torch.split(losses.double().cpu(), [len(texts[q].targets) for q, _ in part]):
                total = float(each.sum())
                found.append((total if math.isfinite(total) else math.inf, len(each)))
        return found

    def _options(self, data: Splits, pairs: list[_Pair]) -> list[Record]:
        """Records that hold the options' part alone."""
        records = [Record(q.id) for q, _ in pairs]
        places = [i for i, (q, _) in enumerate(pairs) if q.options]
        queries = [self._query(pairs[i][0], data.instruction) for i in places]
        for start in range(0, len(places), _TEXTS):
            part = places[start : start + _TEXTS]
            table = self.policy.action_log_probs(queries[start : start + _TEXTS], [pairs[i][1] for i in part])
            for i, row in zip(part, table.double().cpu().tolist(), strict=True):
                question = pairs[i][0]
                right = LETTERS.index(final_answer("choice", question))
                values = [v if math.isfinite(v) else -math.inf for v in row[: len(question.options)]]
                best = values.index(max(values))
                records[i] = replace(
                    records[i], option=LETTERS[best], option_right=best == right, option_nll=-values[right]
                )
        return records

    def _query(self, question: Question, instruction: str) -> Query:
        """The options' letters as continuations of the stem that taught answers have."""
        asked = messages(question, instruction)
        labels = [choice_answer(i).removeprefix(OPTION_STEM)[:-1].strip() for i in range(len(question.options))]
        tokens = self.chat.label_tokens(labels, OPTION_STEM)
        return Query(self.chat.opening(asked, OPTION_STEM), len(self.chat.prefix(asked)), tokens)


def _never(row: int, said: list[int]) -> bool:
    return False
