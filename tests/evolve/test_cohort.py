"""Learning together is learning alone: equal bits, whoever sits beside, in whatever order, dropout included."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ludora.data.batches import Choice, Item
from ludora.errors import TrainingFailed
from ludora.learn.cohort import SKIPPED, Cohort, Plan, Recipe, Trial
from ludora.models.adapters import AdapterPack
from ludora.models.engine import Engine
from ludora.models.families import LoraSettings
from ludora.models.load import load_base
from ludora.models.policy import Policy, Query, Text
from ludora.models.rows import Row

torch.set_num_threads(1)
PLAN = Plan(steps=6, batch=4, part_tokens=4096, accumulation=1, schedule="linear", betas=(0.9, 0.95), max_grad_norm=1.0)
LORAS = (
    LoraSettings(2, 4.0, dropout=0.1),
    LoraSettings(4, 4.0, rslora=True, targets="attention"),
    LoraSettings(8, 16.0, dropout=0.5, layers="top:2"),
    LoraSettings(3, 12.0, targets="mlp", layers="top:2"),
)


def texts(count: int = 12) -> list[Item]:
    """Rows of different lengths; the last two are the same."""
    made: list[Item] = []
    for n in range(count - 1):
        tokens = tuple(5 + (7 * n + 3 * i) % 200 for i in range(20 + 3 * n))
        reads = tuple(range(12, len(tokens)))
        made.append(Text(Row(tokens, 4), reads, tuple(9 + (n + i) % 100 for i in reads)))
    return [*made, made[-1]]


def choices(count: int = 12) -> list[Item]:
    rules = tuple(range(30, 40))
    labels = ((65, 3), (66,), (65, 4, 5))
    return [
        Choice(Query((*rules, *(50 + (n * k) % 90 for k in range(20 + n))), 10, labels[: 2 + n % 2]), n % 2)
        for n in range(count)
    ]


def trials(rate: float = 3e-3) -> list[Trial]:
    return [
        Trial(f"t{i}", Recipe(lora, rate * (1 + i), weight_decay=0.1 * i, warmup=0.3), seed=100 + i)
        for i, lora in enumerate(LORAS)
    ]


@pytest.fixture
def cohort() -> Callable[..., Cohort]:
    def build(items: Sequence[Item], plan: Plan = PLAN, capacity: int = 4, pass_tokens: int = 0) -> Cohort:
        base = load_base("tiny:qwen2", dtype="fp32", device="cpu", say=lambda text: None)
        policy = Policy(Engine(base, AdapterPack(base)), end=2)
        return Cohort(policy, items, plan, capacity=capacity, pass_tokens=pass_tokens)

    return build


def weights(trained: Sequence[Trial]) -> dict[str, dict[str, Tensor]]:
    """All that a trial has become, by name."""
    found = {}
    for t in trained:
        found[t.name] = {**t.tensors["adapter"], **t.tensors["optimizer"], "draws": torch.tensor(t.draws)}
    return found


def assert_same(found: dict[str, dict[str, Tensor]], wanted: dict[str, dict[str, Tensor]]) -> None:
    for name, tensors in found.items():
        assert set(tensors) == set(wanted[name])
        assert all(torch.equal(value, wanted[name][key]) for key, value in tensors.items()), name


@pytest.mark.parametrize("items", [texts(), choices(), texts(6) + choices(6)], ids=["texts", "choices", "mixed"])
def test_together_is_alone(cohort: Callable[..., Cohort], items: list[Item]) -> None:
    alone = {}
    for trial in trials():
        assert cohort(items, capacity=1).train([trial], PLAN.steps)
        alone |= weights([trial])
        assert float(alone[trial.name]["exp_avg"].abs().sum()) > 0
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        together = [trials()[i] for i in order]
        assert cohort(items).train(together, PLAN.steps)
        assert_same(weights(together), alone)


def test_refill_and_small_passes_change_nothing(cohort: Callable[..., Cohort]) -> None:
    together, refilled, sizes = trials(), trials(), []
    assert cohort(texts()).train(together, PLAN.steps)
    it = cohort(texts(), capacity=2, pass_tokens=100)
    late = replace(refilled[1], step=0)
    refilled[1] = late
    first = trials()[:1]
    assert cohort(texts(), capacity=1).train(first, 3)  # so it is through sooner than its neighbour
    refilled[0] = first[0]
    assert it.train(refilled, PLAN.steps, lambda: sizes.append([s.trial.name for s in it._slots]) or False)
    assert_same(weights(refilled), weights(together))
    assert ["t0", "t1"] in sizes and ["t1"] in sizes and ["t2", "t3"] in sizes
    assert not it.pack.adapters


def test_a_slot_is_refilled_at_once(cohort: Callable[..., Cohort]) -> None:
    """All adapt the same layers; the second is ahead, so its place goes to the third while the first goes on."""
    lora = LORAS[0]
    made = [Trial(f"t{i}", Recipe(lora, 1e-3), seed=i) for i in range(3)]
    assert cohort(texts(), capacity=1).train([made[1]], 4)
    it, seen = cohort(texts(), capacity=2), []
    assert it.train(made, PLAN.steps, lambda: seen.append([s.trial.name for s in it._slots]) or False)
    assert seen[1] == ["t0", "t1"] and seen[2] == ["t0", "t2"]
    alone = [Trial(f"t{i}", Recipe(lora, 1e-3), seed=i) for i in range(3)]
    for trial in alone:
        cohort(texts(), capacity=1).train([trial], PLAN.steps)
    assert_same(weights(made), weights(alone))


def test_a_neighbour_of_nan_does_not_matter(cohort: Callable[..., Cohort]) -> None:
    calm, beside = trials(), trials()
    assert cohort(texts()).train(calm, PLAN.steps)
    sick = Trial("sick", Recipe(LORAS[0], 1e-3), seed=5)
    it = cohort(texts(), capacity=5)

    def poison() -> bool:
        if it._slots[0].trial is sick:
            it._slots[0].adapter.flat.data[3] = float("nan")
        return False

    assert it.train([sick, *beside], PLAN.steps, poison)
    assert "not finite" in sick.failed and sick.step == 1 + SKIPPED and not sick.tensors
    assert_same(weights(beside), weights(calm))


def test_going_on_is_not_noticed(cohort: Callable[..., Cohort]) -> None:
    straight, stopped = trials(), trials()
    assert cohort(texts()).train(straight, PLAN.steps)
    steps = iter(range(100))
    assert not cohort(texts()).train(stopped, PLAN.steps, lambda: next(steps) == 2)
    again = trials()
    for trial, before in zip(again, stopped, strict=True):
        trial.load(before.state(), before.tensors)
    assert cohort(texts()).train(again, PLAN.steps)
    assert_same(weights(again), weights(straight))


def test_memory_that_runs_out_halves_the_pack(cohort: Callable[..., Cohort], monkeypatch: pytest.MonkeyPatch) -> None:
    calm, pressed = trials(), trials()
    for made in (calm, pressed):  # all in one tier
        for trial in made:
            trial.recipe = replace(trial.recipe, lora=replace(trial.recipe.lora, layers="all"))
    assert cohort(texts()).train(calm, PLAN.steps)
    it, notes = cohort(texts()), []
    it.note = lambda *facts: notes.append(facts)
    real = it.policy.learn_texts
    calls = iter(range(1000))

    def tight(texts: Sequence[Text], adapters: Sequence[object], weights: Tensor) -> Tensor:
        if next(calls) >= 2 and len(set(map(id, adapters))) > 1:
            raise torch.OutOfMemoryError("no more")
        return real(texts, adapters, weights)  # type: ignore[arg-type]

    monkeypatch.setattr(it.policy, "learn_texts", tight)
    assert it.train(pressed, PLAN.steps)
    assert [note[0] for note in notes] == [2, 1] and it.capacity == 1
    assert_same(weights(pressed), weights(calm))
    monkeypatch.setattr(it.policy, "learn_texts", lambda *a: (_ for _ in ()).throw(torch.OutOfMemoryError("never")))
    with pytest.raises(TrainingFailed, match="single variant"):
        it.train(trials(), PLAN.steps)


def test_the_pack_is_sized_by_what_is_measured(cohort: Callable[..., Cohort], monkeypatch: pytest.MonkeyPatch) -> None:
    measured, plain = trials(), trials()
    it, notes = cohort(texts(), capacity=0), []
    it.note = lambda *facts: notes.append(facts)
    assert it.train(measured, PLAN.steps) and notes[0][0] > 4  # there may be more of them later
    assert cohort(texts()).train(plain, PLAN.steps)
    assert_same(weights(measured), weights(plain))  # measuring leaves no trace
    largest = max(it.pack.size(lora)[0] for lora in LORAS)
    monkeypatch.setattr("ludora.learn.cohort.free_memory", lambda device: int(16 * largest * 2 / 0.8) + 1)
    monkeypatch.setattr("ludora.learn.cohort.peak_memory", lambda device: 0)
    tight = cohort(texts(), capacity=0)
    tight.measure(trials())
    assert tight.capacity == 2
    tight.most = 2 * largest  # one that is not there yet
    tight.measure(trials())
    assert tight.capacity == 1
    monkeypatch.setattr(tight, "_gradients", lambda batches: (_ for _ in ()).throw(torch.OutOfMemoryError("never")))
    with pytest.raises(TrainingFailed, match="memory ran out"):
        tight.measure(trials())


def test_a_resumed_cohort_computes_in_the_same_passes(
    cohort: Callable[..., Cohort], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU's, with figures that are made up: what is measured, and what is left of it when memory runs out."""
    monkeypatch.setattr("ludora.learn.cohort.free_memory", lambda device: 32 << 30)
    peaks = iter([0, 2 << 30])  # a pass of 3,072 tokens takes 2 GiB
    monkeypatch.setattr("ludora.learn.cohort.peak_memory", lambda device: next(peaks))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    it, notes = cohort(texts(), capacity=0), []
    it.note = lambda *facts: notes.append(facts[:2])
    least = it.engine.chunk_tokens
    monkeypatch.setattr(it.engine, "base", replace(it.engine.base, device=torch.device("cuda:0")))
    monkeypatch.setattr(it, "_gradients", lambda batches: it.engine.trunk.put("a row", torch.zeros(3), 12))
    it.measure(trials())
    assert it.engine.chunk_tokens == it.pass_tokens == notes[0][1] > 4 * least
    assert len(it.engine.trunk) == 0  # a resumed run would compute it in larger passes
    for _ in range(6):
        it._seat(trials())
        it._shrink()
        it._seat([])
        resumed = cohort(texts(), capacity=notes[-1][0], pass_tokens=notes[-1][1])
        assert (resumed.capacity, resumed.pass_tokens) == (it.capacity, it.pass_tokens) == notes[-1]
        assert resumed.engine.chunk_tokens == it.engine.chunk_tokens == max(least, it.pass_tokens)
    assert it.pass_tokens < least


def test_checkpoints_of_before_may_hold_more() -> None:
    """They counted losses, which nobody read."""
    [trial, *_] = trials()
    trial.load({**trial.state(), "step": 4, "loss": [1.5, 3]}, {})
    assert trial.step == 4 and "loss" not in trial.state()


def test_nobody_to_train_is_no_reason_to_measure(cohort: Callable[..., Cohort]) -> None:
    """A generation of clones alone, where how many fit is not known yet."""
    made = cohort(texts(), capacity=0)
    assert made.train([], PLAN.steps) and made.capacity == 0
