"""A cohort: many adapters that learn the same examples at the same time, on one frozen base.

All of them share one order of the data, one computation of the frozen trunk, and the passes through the base: a pass
holds the rows of as many learners as fit. Everything else is each one's own - rank, dropout masks, loss, gradient,
clipping, optimiser, schedule, and the guard that ends one whose numbers are no longer finite - so each learns what it
would learn alone. In fp32 on one CPU thread the bits are those of a learner alone, whoever sits beside it, in whatever
order; in bf16, and with more threads, the kernels may round a row differently in another batch (see `models.engine`).

A learner that is not training is a `Trial`: plain data and tensors on the CPU. It takes a slot of the pack when it
trains, and leaves it to the next when it is through. Who sits in the slots follows from the trials alone: the first
`capacity` that are not through. So a run that is resumed goes on in the very same passes. Ranks need no buckets: each
segment of a batch is multiplied by matrices of its own rank, and none is padded.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from ludora.data.batches import Choice, Homes, Item, Order, parts, units, width
from ludora.errors import TrainingFailed
from ludora.learn import maths
from ludora.models.adapters import Adapter, SlotOptimizer
from ludora.models.families import LoraSettings
from ludora.models.machine import ALONE, enough_memory, free_memory, out_of_memory, peak_memory, release_memory
from ludora.models.policy import Policy, Text

SKIPPED = 3  # steps in a row without a finite gradient, then a learner is given up
STATE_BYTES = 16  # per parameter of a learner: weight, gradient and two moments in fp32
MEMORY_SHARE = 0.8  # of the free memory that may be used
MOST_PASS_TOKENS = 1 << 16

Tensors = dict[str, dict[str, Tensor]]
_STATE = ("step", "tokens", "draws", "skipped", "failed")  # of a trial, in checkpoints


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a learner is, and how it learns."""

    lora: LoraSettings
    learning_rate: float
    weight_decay: float = 0.0
    warmup: float = 0.0  # share of the steps


@dataclass(frozen=True, slots=True)
class Plan:
    """What all learners of a cohort share. `steps` are those of a whole training, by which schedules go."""

    steps: int
    batch: int
    part_tokens: int
    accumulation: int
    schedule: str
    betas: tuple[float, float]
    max_grad_norm: float


@dataclass(slots=True)
class Trial:
    """One learner, and where it stands.

    Attributes:
        seed: of its first weights and its dropout masks.
        order: seed of the order in which it sees the data.
        tensors: `adapter` and `optimizer`, of which either may be missing: it begins fresh then.
    """

    name: str
    recipe: Recipe
    seed: int
    order: int = 0
    step: int = 0
    tokens: int = 0
    draws: int = 0
    skipped: int = 0
    failed: str = ""
    tensors: Tensors = field(default_factory=dict)

    def state(self) -> dict[str, Any]:
        """All that is not a tensor, and not told to `Trial` when it is made."""
        return {name: getattr(self, name) for name in _STATE}

    def load(self, state: dict[str, Any], tensors: Tensors) -> None:
        """Inverse of `state`, and the tensors. What else older checkpoints hold is left alone."""
        for name in _STATE:
            setattr(self, name, state[name])
        self.tensors = tensors


@dataclass(slots=True)
class _Slot:
    """A trial in the pack."""

    trial: Trial
    adapter: Adapter
    optimizer: SlotOptimizer

    def park(self) -> None:
        """Give the trial what it has become; weights that are not finite end it."""
        if not torch.isfinite(self.adapter.flat).all():
            self.trial.failed = self.trial.failed or f"weights are not finite at step {self.trial.step}"
            self.trial.tensors = {}
            return
        self.trial.tensors = {"adapter": self.adapter.tensors(), "optimizer": self.optimizer.tensors()}
        self.trial.draws = self.adapter.draws


_Part = tuple[_Slot, list[Item], int]  # of a learner's batch, and how many losses all of its parts have
Kind = TypeVar("Kind", Text, Choice)


def _counted(items: Sequence[Item], kind: type[Kind]) -> list[tuple[Kind, int]]:
    """The distinct items of a kind, in order, and how often each is there."""
    return list(Counter(item for item in items if isinstance(item, kind)).items())


class Cohort:
    """Trains trials together.

    Args:
        items: what is learnt.
        capacity: trials in the pack at once; 0: as many as `measure` finds room for.
        pass_tokens: tokens of all learners in one pass; 0: as many as the engine takes at a time.
        most: parameters of the largest learner there may ever be; the first ones may all be smaller.
        note: told the two when they change, so that they can be kept.
    """

    def __init__(
        self,
        policy: Policy,
        items: Sequence[Item],
        plan: Plan,
        *,
        capacity: int = 0,
        pass_tokens: int = 0,
        most: int = 0,
        note: Callable[[int, int, str], None] = lambda capacity, pass_tokens, reason: None,
    ) -> None:
        self.policy, self.engine, self.pack = policy, policy.engine, policy.engine.pack
        self.items, self.plan = items, plan
        self.capacity, self.most, self.note = capacity, most, note
        self._least_chunk = self.engine.chunk_tokens
        self._allot(pass_tokens or self.engine.chunk_tokens)
        self._slots: list[_Slot] = []
        self._homes: dict[int, Homes] = {}
        self._orders: dict[int, Order] = {}

    @staticmethod
    def epoch_steps(items: int, batch: int) -> int:
        """Optimiser steps of one pass over the data."""
        return Order(items, batch, 0).per_epoch

    # ---- training ----------------------------------------------------------------------------------------------------

    def train(self, trials: Sequence[Trial], until: int, after: Callable[[], bool] = bool) -> bool:
        """Train all trials up to step `until`, those that adapt the same layers together.

        Args:
            after: asked after every step of the pack; True ends training there.

        Returns:
            Whether all are through.

        Raises:
            TrainingFailed: memory ran out with a single trial in the pack.
        """
        if trials and not self.capacity:
            self.measure(trials)
        return all(self._train_tier(tier, until, after) for tier in self.tiers(trials))

    def tiers(self, trials: Sequence[Trial]) -> list[list[Trial]]:
        """The trials by their lowest adapted layer, the highest first: below it the trunk is the same for all."""
        found: dict[int, list[Trial]] = {}
        for trial in trials:
            found.setdefault(self.pack.size(trial.recipe.lora)[1], []).append(trial)
        return [found[depth] for depth in sorted(found, reverse=True)]

    def _train_tier(self, trials: Sequence[Trial], until: int, after: Callable[[], bool]) -> bool:
        def through(trial: Trial) -> bool:
            return bool(trial.failed) or trial.step >= until

        try:
            while waiting := [trial for trial in trials if not through(trial)]:
                self._seat(waiting[: self.capacity])
                if self._step() and after():
                    return False
            return True
        finally:
            self._seat([])

    def _seat(self, trials: Sequence[Trial]) -> None:
        """Let exactly these trials sit in the pack, in this order."""
        wanted = {trial.name for trial in trials}
        for slot in self._slots:
            if slot.trial.name not in wanted:
                slot.park()
                self.pack.remove(slot.adapter.name)
        sitting = {slot.trial.name: slot for slot in self._slots if slot.trial.name in wanted}
        self._slots = [sitting.get(trial.name) or self._enter(trial) for trial in trials]

    def _enter(self, trial: Trial) -> _Slot:
        recipe = trial.recipe
        adapter = self.pack.add(trial.name, recipe.lora, trial.seed)
        optimizer = SlotOptimizer(
            adapter.flat,
            lr=recipe.learning_rate,
            betas=self.plan.betas,
            weight_decay=recipe.weight_decay,
            max_grad_norm=self.plan.max_grad_norm,
        )
        if "adapter" in trial.tensors:
            adapter.load_tensors(trial.tensors["adapter"])
        optimizer.load_tensors(trial.tensors.get("optimizer", {}))
        adapter.draws = trial.draws
        return _Slot(trial, adapter, optimizer)

    def park(self) -> None:
        """Bring the trials up to date with what they have become in the pack; they keep their slots."""
        for slot in self._slots:
            slot.park()

    @contextmanager
    def seated(self, trials: Sequence[Trial]) -> Iterator[list[Adapter]]:
        """Within the block the trials' adapters are in the pack, to be measured."""
        self._seat(trials)
        self.engine.caches = not self.engine.has_trunk  # only what is planned is kept: see `Engine.keep`
        try:
            yield [slot.adapter for slot in self._slots]
        finally:
            self._seat([])

    def _step(self) -> bool:
        """One optimiser step of every trial in the pack. False: memory ran out, and fewer will sit there now."""
        batches = [self._batch(slot.trial) for slot in self._slots]
        draws = [slot.adapter.draws for slot in self._slots]
        try:
            self._gradients(batches)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            for slot, count in zip(self._slots, draws, strict=True):
                slot.adapter.draws, slot.adapter.training = count, False
            self._shrink()
            return False
        for slot, batch in zip(self._slots, batches, strict=True):
            self._update(slot, batch)
        return True

    def _batch(self, trial: Trial) -> list[Item]:
        if trial.order not in self._orders:
            self._orders[trial.order] = Order(len(self.items), self.plan.batch, trial.order)
        return [self.items[i] for i in self._orders[trial.order].at(trial.step)]

    def _gradients(self, batches: Sequence[Sequence[Item]]) -> None:
        """Gradients of every trial's mean loss over its own batch, into its own buffer."""
        homes = self._trunk()
        for batch in batches:
            homes.prepare(batch)
        cut = [list(parts(batch, self.plan.accumulation, self.plan.part_tokens)) for batch in batches]
        totals = [sum(map(units, batch)) for batch in batches]
        for slot in self._slots:
            slot.optimizer.zero_grad()
            slot.adapter.training = slot.adapter.settings.dropout > 0
        for number in range(max(map(len, cut))):
            now = [
                (slot, own[number], total)
                for slot, own, total in zip(self._slots, cut, totals, strict=True)
                if number < len(own)
            ]
            for group in self._passes(now):
                self._learn_texts(group)
                self._learn_choices(group)
        for slot in self._slots:
            slot.adapter.training = False

    def _trunk(self) -> Homes:
        """Where the frozen part of each example is computed, for the layers that run now."""
        depth = self.engine.depth
        if depth not in self._homes:
            order = Order(len(self.items), self.plan.batch, 0)
            batches = [[self.items[i] for i in order.at(step)] for step in range(order.per_epoch)]
            self._homes[depth] = Homes(self.engine, self.policy, batches)
        self.engine.caches = not self.engine.has_trunk
        return self._homes[depth]

    def _passes(self, now: Sequence[_Part]) -> Iterator[list[_Part]]:
        """The parts in groups of at most `pass_tokens` tokens, but at least one: no part is ever cut in two."""
        group: list[_Part] = []
        size = 0
        for entry in now:
            own = sum(self._tokens(item) for item in dict.fromkeys(entry[1]))
            if group and size + own > self.pass_tokens:
                yield group
                group, size = [], 0
            group.append(entry)
            size += own
        yield group

    def _tokens(self, item: Item) -> int:
        row = self.policy.row(item.query) if isinstance(item, Choice) else item.row
        return len(row.tokens) - row.prefix

    def _learn_texts(self, group: Sequence[_Part]) -> None:
        """Gradients of the texts of a pass; equal ones of one learner are computed once, and count as often."""
        found = [(slot, text, n / total) for slot, items, total in group for text, n in _counted(items, Text)]
        if not found:
            return
        weights = torch.tensor([weight for _, text, weight in found for _ in text.targets])
        weights = weights.to(self.engine.base.device)
        texts, adapters = [text for _, text, _ in found], [slot.adapter for slot, _, _ in found]
        self.policy.learn_texts(texts, adapters, weights)

    def _learn_choices(self, group: Sequence[_Part]) -> None:
        """The same of choices among legal actions."""
        found = [(slot, choice, n / total) for slot, items, total in group for choice, n in _counted(items, Choice)]
        if not found:
            return
        table = self.policy.action_log_probs([c.query for _, c, _ in found], [slot.adapter for slot, _, _ in found])
        index = torch.tensor([c.index for _, c, _ in found], device=table.device)
        weights = torch.tensor([weight for _, _, weight in found], device=table.device)
        losses = -table.gather(1, index[:, None])[:, 0] * weights
        losses.sum().backward()  # type: ignore[no-untyped-call]

    def _update(self, slot: _Slot, batch: Sequence[Item]) -> None:
        trial, recipe = slot.trial, slot.trial.recipe
        progress = (trial.step + 1) / self.plan.steps
        rate = maths.scheduled(recipe.learning_rate, self.plan.schedule, progress, recipe.warmup)
        norm = slot.optimizer.step(rate)
        slot.adapter.version += 1
        trial.step += 1
        trial.tokens += sum(map(width, batch))
        trial.skipped = 0 if math.isfinite(norm) else trial.skipped + 1
        if trial.skipped >= SKIPPED:
            trial.failed = f"gradients were not finite {SKIPPED} times in a row, up to step {trial.step}"

    # ---- memory ------------------------------------------------------------------------------------------------------

    def measure(self, trials: Sequence[Trial]) -> None:
        """Find how many fit, also later: what a pass of the largest takes is measured, what each must keep is counted.

        Raises:
            TrainingFailed: memory ran out.
        """
        device, largest = self.engine.base.device, max(trials, key=lambda t: self.pack.size(t.recipe.lora)[0])
        own = STATE_BYTES * max(self.most, self.pack.size(largest.recipe.lora)[0])
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        free, before = free_memory(device), peak_memory(device)
        draws = largest.draws
        self._seat([largest])
        with enough_memory():
            self._gradients([self._batch(largest)])
        taken = max(0, peak_memory(device) - before)
        self._slots[0].adapter.draws = draws
        self._slots[0].optimizer.zero_grad()
        self._seat([])
        room = MEMORY_SHARE * free - taken
        if device.type == "cuda":  # a GPU is fast only with many rows at a time
            times = max(1.0, min(room / 2, free / 2) / max(1, taken))
            self._allot(min(MOST_PASS_TOKENS, int(self.pass_tokens * times)))
            room /= 2
        self.capacity = max(1, int(room // own))
        self.note(self.capacity, self.pass_tokens, f"{free >> 20} MiB free, {taken >> 20} MiB for a pass")

    def _allot(self, pass_tokens: int) -> None:
        """Passes are of so many tokens, those of the engine no smaller.

        All follows from this number, which a resumed run is told; so what was computed in other passes is forgotten.
        """
        self.pass_tokens = pass_tokens
        chunk = max(self._least_chunk, pass_tokens)
        if chunk != self.engine.chunk_tokens:
            self.engine.trunk.clear()
            self.engine.chunk_tokens = chunk

    def _shrink(self) -> None:
        """Memory ran out: half the slots, half the rows of a pass."""
        if len(self._slots) == 1:
            raise TrainingFailed(*ALONE)
        self.capacity = len(self._slots) // 2
        self._allot(max(1, self.pass_tokens // 2))
        release_memory(self.engine.base.device)
        self.note(self.capacity, self.pass_tokens, "memory ran out")
