"""Greedy answers: those of plain transformers, in any company, under any adapter, with any family."""

from __future__ import annotations

import pytest
import torch
from tests.models import rig as rigs
from tests.models.rig import Rig, rig

from ludora.errors import InputError
from ludora.models import writing
from ludora.models.adapters import Adapter
from ludora.models.greedy import Greedy
from ludora.models.rows import Row, Tokens
from ludora.types import Stop

FAMILIES = ["llama", "gpt2", "gemma2", "mistral", "phi3", "bloom", "gpt_neo"]


def slowly(r: Rig, prompt: Tokens, adapter: Adapter | None, count: int) -> list[int]:
    """Token by token, each from the whole row on its own."""
    said: list[int] = []
    for _ in range(count):
        row = Row((*prompt, *said))
        with torch.no_grad():
            state = r.engine.encode([row], [(len(row.tokens) - 1,)], [adapter])
        said.append(int(r.policy.logits(state)[0].argmax()))
    return said


@pytest.mark.parametrize("model_type", FAMILIES)
def test_many_rows_and_adapters_answer_as_each_alone(model_type: str) -> None:
    r = rig(model_type)
    adapters = [None, r.add("one", rank=3), r.add("two", seed=2, rank=5)]
    prompts = [rigs.text(5 + 9 * i, i) for i in range(4)]
    rows = [(prompt, adapter) for prompt in prompts for adapter in adapters]
    said = Greedy(r.policy, ()).answer([p for p, _ in rows], [a for _, a in rows], 7)
    assert len({answer for answer, _ in said[:3]}) > 1  # the adapters do change something
    for (prompt, adapter), (answer, stop) in zip(rows, said, strict=True):
        assert list(answer) == slowly(r, prompt, adapter, 7) and stop is Stop.LENGTH


def test_the_base_answers_as_transformers_do() -> None:
    r, model = rig("llama"), rigs.plain("llama")
    prompts = [rigs.text(12, 1), rigs.text(40, 2)]
    said = Greedy(r.policy, ()).answer(prompts, [None, None], 10)
    for prompt, (answer, _) in zip(prompts, said, strict=True):
        out = model.generate(  # type: ignore[operator]
            torch.tensor([prompt]), max_new_tokens=10, do_sample=False, eos_token_id=None, pad_token_id=0
        )
        assert list(answer) == out[0, len(prompt) :].tolist()


def test_answers_end_where_they_should_and_the_others_go_on() -> None:
    r = rig("llama")
    prompts = [rigs.text(6 + i, i) for i in range(12)]
    free = [answer for answer, _ in Greedy(r.policy, ()).answer(prompts, [None] * 12, 12)]
    stops = tuple({answer[i % 7] for i, answer in enumerate(free)})  # so that rows end at different steps
    told: list[int] = []
    said = Greedy(r.policy, stops).answer(prompts, [None] * 12, 12, progress=lambda: told.append(1))
    ends = [next((n for n, token in enumerate(answer) if token in stops), None) for answer in free]
    assert len(set(ends)) > 3 and len(told) == 12
    for whole, end, (answer, stop) in zip(free, ends, said, strict=True):
        assert answer == whole[:end] and stop is (Stop.LENGTH if end is None else Stop.END)


def test_a_caller_can_end_an_answer() -> None:
    r = rig("llama")
    prompts = [rigs.text(6 + i, i) for i in range(5)]
    free = Greedy(r.policy, ()).answer(prompts, [None] * 5, 8)
    told: list[int] = []
    said = Greedy(r.policy, ()).answer(
        prompts, [None] * 5, 8, lambda row, tokens: len(tokens) > row, lambda: told.append(1)
    )
    assert len(told) == 5
    assert [answer for answer, _ in said] == [answer[: i + 1] for i, (answer, _) in enumerate(free)]
    assert {stop for _, stop in said} == {Stop.END}


def test_waves_under_a_memory_bound_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    r = rig("llama")
    one = r.add("one", rank=3)
    prompts = [rigs.text(5 + 7 * i, i) for i in range(9)]
    adapters = [one if i % 2 else None for i in range(9)]
    whole = Greedy(r.policy, ()).answer(prompts, adapters, 6)
    assert Greedy(r.policy, (), rows=2).answer(prompts, adapters, 6) == whole
    monkeypatch.setattr(writing, "CACHE_BYTES", 1)  # never less than a row
    assert Greedy(r.policy, ()).answer(prompts, adapters, 6) == whole


def test_long_answers_grow_over_several_steps_of_the_cache() -> None:
    r = rig("llama")
    prompt = rigs.text(60, 3)
    [(answer, _)] = Greedy(r.policy, ()).answer([prompt], [None], 80)
    assert list(answer) == slowly(r, prompt, None, 80)


def test_what_outgrows_the_context_is_refused_and_what_ended_before_is_not() -> None:
    r = rig("llama", max_position_embeddings=48)
    with pytest.raises(InputError, match="takes 48 at most"):
        Greedy(r.policy, ()).answer([rigs.text(45, 0)], [None], 8)
    prompts = [rigs.text(47, 0), rigs.text(10, 1), rigs.text(11, 2), rigs.text(12, 3), rigs.text(13, 4)]
    said = Greedy(r.policy, ()).answer(prompts, [None] * 5, 20, lambda row, tokens: row == 0)
    assert [len(answer) for answer, _ in said] == [1, 20, 20, 20, 20]
