"""Scores of a population: each adapter's are those it has alone, losses are those of plain arithmetic on logits."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import pytest
import torch
from tests.models import rig as rigs
from tests.models.rig import Rig, rig

from ludora.data.questions import Question, Sizes, Splits, choice_answer, messages
from ludora.data.sources import load
from ludora.errors import InputError
from ludora.evals.answers import grade
from ludora.evals.records import Record, totals
from ludora.evals.scoring import Scorer, lesson
from ludora.models.adapters import Adapter
from ludora.models.chat import ChatFormat
from ludora.models.greedy import Greedy
from ludora.models.policy import Policy

CHOICES = Splits(
    "dataset(x)",
    "choice",
    "Choose.",
    (),
    (),
    tuple(
        Question(str(i), f"Which of {i}?", choice_answer(i % 3), ("red", "blue", "green")[: 3 - i % 2])
        for i in (0, 1, 2, 4)
    ),
)


def scorer(r: Rig, tokens: int = 8) -> Scorer:
    return Scorer(r.policy, ChatFormat(r.base.tokenizer), tokens)


def plain_loss(r: Rig, text: str, adapter: Adapter | None, prompt: int) -> tuple[float, int]:
    """Loss of a text's tokens from `prompt` on, from all logits of the whole row."""
    tokens = tuple(r.base.tokenizer.encode(text, add_special_tokens=False))
    [logits] = r.logits([tokens], [adapter])
    picked = logits.detach().double().log_softmax(-1)[torch.arange(prompt - 1, len(tokens) - 1), list(tokens[prompt:])]
    return -float(picked.sum()), len(tokens) - prompt


def test_losses_are_those_of_the_answers_tokens_alone() -> None:
    r = rig("llama")
    adapter = r.add(rank=4)
    data = load("arithmetic", Sizes(test=3))
    found = scorer(r).score(data, data.test, [None, adapter], written=False)
    for who, records in zip([None, adapter], found, strict=True):
        for question, record in zip(data.test, records, strict=True):
            head = (
                f"<|im_start|>system\n{data.instruction}<|im_end|>\n<|im_start|>user\n{question.question}<|im_end|>\n"
            )
            head += "<|im_start|>assistant\n"
            prompt = len(r.base.tokenizer.encode(head, add_special_tokens=False))
            loss, tokens = plain_loss(r, f"{head}{question.answer}<|im_end|>", who, prompt)
            assert (record.nll, record.tokens) == (pytest.approx(loss, rel=1e-4), tokens)
            assert not record.written and record.said == ""


@pytest.mark.parametrize("source", ["arithmetic", "choices"])
def test_a_population_scores_as_each_of_it_alone(source: str) -> None:
    r = rig("llama")
    adapters: list[Adapter | None] = [r.add("one", rank=3), None, r.add("two", seed=2, rank=6)]
    data = CHOICES if source == "choices" else load(source, Sizes(test=5))
    together = scorer(r).score(data, data.test, adapters)
    assert len({record.said for records in together for record in records}) > 3
    for adapter, records in zip(adapters, together, strict=True):
        [alone] = scorer(r).score(data, data.test, [adapter])
        for one, other in zip(records, alone, strict=True):
            assert one.said == other.said and one.option == other.option and one.id == other.id
            assert one.nll == pytest.approx(other.nll, rel=1e-5)
    assert scorer(r).score(data, data.test, adapters[::-1])[0] == together[2]


def test_options_are_scored_through_the_trie() -> None:
    r = rig("llama")
    adapter = r.add(rank=4)
    [records] = scorer(r).score(CHOICES, CHOICES.test, [adapter], written=False)
    for question, record in zip(CHOICES.test, records, strict=True):
        head = (
            f"<|im_start|>system\nChoose.<|im_end|>\n<|im_start|>user\n{messages(question, '')[0].content}<|im_end|>\n"
        )
        head += "<|im_start|>assistant\nThe answer is"
        prompt = len(r.base.tokenizer.encode(head, add_special_tokens=False))
        # the bracket is common to all, so that only the letter decides, and what follows it does not count
        paths = [plain_loss(r, f"{head} ({letter}", adapter, prompt) for letter in "ABC"[: len(question.options)]]
        shared = plain_loss(r, f"{head} (", adapter, prompt)
        log_probs = torch.tensor([shared[0] - loss for loss, _ in paths], dtype=torch.float64).log_softmax(0)
        right = "ABC".index(question.answer[-3])
        assert record.option_nll == pytest.approx(-float(log_probs[right]), rel=1e-4)
        assert record.option == "ABC"[int(log_probs.argmax())] and record.option_right == (
            record.option == "ABC"[right]
        )


def test_written_answers_are_read_and_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is graded is what the model wrote; a stop text ends the writing at once."""
    r = rig("llama")
    data = load("arithmetic", Sizes(test=3))
    tokenizer = r.base.tokenizer
    lines = [q.answer for q in data.test]
    script = [tokenizer.encode(f"{line}\nQuestion: and then?", add_special_tokens=False) for line in lines]
    overs: list[int] = []

    def write(
        self: Greedy, prompts: object, adapters: Sequence[object], tokens: int, over: object, progress: object
    ) -> object:
        from ludora.types import Stop

        out = []
        for row in range(len(adapters)):
            said: list[int] = []
            for token in script[row]:
                said.append(token)
                if over(row, said):  # type: ignore[operator]
                    break
            overs.append(len(said))
            out.append((tuple(said), Stop.END if row else Stop.LENGTH))
        return out

    monkeypatch.setattr(Greedy, "answer", write)
    [records] = scorer(r).score(data, data.test, [None])
    assert all(record.strict and record.parsed and record.written for record in records)
    assert [record.truncated for record in records] == [True, False, False]
    assert [record.answer for record in records] == [line.rpartition(" ")[2] for line in lines]
    assert all(record.said.endswith("Question:") for record in records)
    assert all(n < len(tokens) for n, tokens in zip(overs, script, strict=True))


def test_the_base_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    r = rig("llama")
    one = r.add(rank=2)
    data = load("arithmetic", Sizes(test=4))
    score = scorer(r)
    first = score.score(data, data.test[:3], [None])
    asked: list[int] = []
    plain = Policy.token_losses
    monkeypatch.setattr(
        Policy, "token_losses", lambda self, texts, who: asked.append(len(texts)) or plain(self, texts, who)
    )
    again = score.score(data, data.test[:3], [None, one])
    assert again[0] == first[0] and asked == [3]  # the adapter's three
    score.score(data, data.test, [None])
    assert asked == [3, 1]  # the new question
    score.score(data, data.test[:3], [None], written=False)  # other work, so not the same
    assert asked == [3, 1, 3]


def test_numbers_that_are_not_finite_cost_the_adapter_and_nobody_else() -> None:
    r = rig("llama")
    bad, good = r.add("bad", rank=2), r.add("good", seed=3, rank=2)
    data = load("arithmetic", Sizes(test=2))
    before = scorer(r).score(data, data.test, [good])[0]
    with torch.no_grad():
        bad.flat[0] = math.nan
    found = scorer(r).score(data, data.test, [bad, good])
    assert found[1] == before and all(math.isinf(record.nll) for record in found[0])
    data = CHOICES
    [records] = scorer(r).score(data, data.test, [bad], written=False)
    assert all(record.option_nll == math.inf for record in records)
    assert totals(records).perplexity == math.inf


def test_records_survive_json() -> None:
    for record in (
        Record("1", True, "said", "read", True, True, False, True, False, 3.5, 4, 0.5, "A", True, 0.25),
        Record("2", nll=math.inf, tokens=3, option="B", option_right=False, option_nll=math.inf),
        Record("3"),
    ):
        assert Record.from_json(json.loads(json.dumps(record.to_json(), allow_nan=False))) == record
    for damage in ({"id": "1"}, {"id": "1", "nll": "x"}, {"id": "1", "nll": 1.0, "colour": 2}):
        with pytest.raises(InputError):
            Record.from_json(damage)


def test_totals_by_hand() -> None:
    records = [
        Record("1", True, "a", "a", True, True, True, True, False, 2.0, 1, 1.0, "A", True, 0.5),
        Record("2", True, "b", "b", False, True, True, False, True, 4.0, 5, 0.5, "B", False, 1.5),
    ]
    found = totals(records)
    assert (found.questions, found.strict, found.flexible, found.fuzzy) == (2, 0.5, 1.0, 1.0)
    assert (found.unparsed, found.truncated, found.f1, found.options) == (0.5, 0.5, 0.75, 0.5)
    assert found.perplexity == pytest.approx(math.e) and found.bits_per_token == pytest.approx(1 / math.log(2))
    assert found.option_nll == 1.0
    unwritten = totals([Record("1", nll=1.0, tokens=2)])
    assert (unwritten.strict, unwritten.unparsed, unwritten.options, unwritten.f1) == (None, None, None, None)
    with pytest.raises(ValueError):
        totals([])


def test_another_temperature_is_refused() -> None:
    r = rig("llama")
    with pytest.raises(InputError, match="temperature 1"):
        Scorer(Policy(r.engine, rigs.END, 0.7), ChatFormat(r.base.tokenizer))


def test_what_is_learnt_is_what_is_scored() -> None:
    r = rig("llama")
    chat = ChatFormat(r.base.tokenizer)
    question = CHOICES.test[0]
    text = lesson(chat, question, CHOICES.instruction, rigs.END)
    assert r.base.tokenizer.decode(text.targets) == f"{question.answer}<|im_end|>"
    assert text.row.prefix > 0  # the instruction is computed once for all questions
    assert grade("choice", question, question.answer).strict
