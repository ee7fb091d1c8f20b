"""An adapter that learns from examples: one optimiser step, and what it knows of examples that were held out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from ludora.data.batches import Choice, Homes, Item, parts, units
from ludora.data.foreign import declared
from ludora.data.lines import Unreadable
from ludora.learn.learner import skipped_in_a_row
from ludora.learn.lessons import Lesson
from ludora.learn.sums import Sums
from ludora.models.adapters import Adapter, SlotOptimizer
from ludora.models.policy import Text
from ludora.players.model import ModelPlayer
from ludora.rng import stream
from ludora.settings import SFTConfig
from ludora.types import Move, Stop, Turn

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Losses:
    """`values` [units]: one loss per choice, then one per learnt token. `right` of the `choices` were the likeliest."""

    values: Tensor
    choices: int
    right: int


@dataclass(slots=True)
class Pupil:
    """The adapter being trained, its player and its optimiser."""

    config: SFTConfig
    player: ModelPlayer
    adapter: Adapter
    reference: Adapter | None
    optimizer: SlotOptimizer
    skipped_in_a_row: int = 0

    @classmethod
    def create(cls, config: SFTConfig, player: ModelPlayer, reference: Adapter | None) -> Pupil:
        """A pupil at its start; the player's adapter is the one that learns."""
        adapter = cast(Adapter, player.adapter)
        optimizer = SlotOptimizer(
            adapter.flat,
            lr=config.learning_rate,
            betas=(config.beta1, config.beta2),
            weight_decay=config.weight_decay,
            max_grad_norm=config.max_grad_norm,
        )
        return cls(config, player, adapter, reference, optimizer)

    # ---- checkpoint ------------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """All tensors, by file."""
        return {"adapter": self.adapter.tensors(), "optimizer": self.optimizer.tensors()}

    def load_tensors(self, tensors: dict[str, dict[str, Tensor]]) -> None:
        self.adapter.load_tensors(tensors["adapter"])
        self.optimizer.load_tensors(tensors.get("optimizer", {}))  # no moments before the first step

    def state(self) -> dict[str, Any]:
        """All that is not a tensor."""
        return {"dropout_draws": self.adapter.draws, "skipped": [self.optimizer.skipped, self.skipped_in_a_row]}

    def load_state(self, state: dict[str, Any]) -> None:
        self.adapter.draws = state["dropout_draws"]
        self.optimizer.skipped, self.skipped_in_a_row = state["skipped"]

    # ---- learning --------------------------------------------------------------------------------------------------

    def losses(self, items: Sequence[Item]) -> Losses:
        """-log of the probability of every choice and of every learnt token; equal examples are computed once."""
        policy, adapter = self.player.policy, self.adapter
        choices = [item for item in items if isinstance(item, Choice)]
        texts = [item for item in items if isinstance(item, Text)]
        found: list[Tensor] = []
        right = 0
        if choices:
            table = policy.action_log_probs([c.query for c in choices], [adapter] * len(choices))
            index = torch.tensor([c.index for c in choices], device=table.device)
            right = int((table.argmax(1) == index).sum())
            found.append(-table.gather(1, index[:, None])[:, 0])
        if texts:
            distinct = list(dict.fromkeys(texts))
            values = policy.token_losses(distinct, [adapter] * len(distinct))
            known = dict(zip(distinct, torch.split(values, [units(text) for text in distinct]), strict=True))
            found += [known[text] for text in texts]
        return Losses(torch.cat(found), len(choices), right)

    def learn(self, batch: Sequence[Item], rate: float, sums: Sums) -> None:
        """One optimiser step on the mean loss of a batch, computed in parts.

        Raises:
            TrainingFailed: no step had a finite gradient for too long.
        """
        config = self.config
        self.optimizer.zero_grad()
        self.adapter.training = config.dropout > 0
        total = sum(map(units, batch))
        for part in parts(batch, config.accumulation, config.part_tokens):
            look = self.losses(part)
            loss = look.values.sum() / total
            loss.backward()  # type: ignore[no-untyped-call]
            _count(sums, "", look)
        self.adapter.training = False
        norm = self.optimizer.step(rate)
        self.adapter.version += 1
        self.skipped_in_a_row = skipped_in_a_row(norm, self.skipped_in_a_row)
        sums.add("grad_norm", norm if math.isfinite(norm) else 0.0, 1.0)
        sums.steps += 1

    # ---- measuring -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def measure(self, lessons: Sequence[Lesson], homes: Homes) -> dict[str, float]:
        """Loss and perplexity on held-out examples; where the player chooses, how often the expert's move is the
        likeliest of the legal ones.
        """
        sums = Sums()
        for batch in chunks([lesson.item for lesson in lessons], self.config.batch):
            homes.prepare(batch)
            for part in parts(batch, 1, self.config.part_tokens):
                _count(sums, "eval_", self.losses(part))
        means = sums.means()
        found = {"eval_loss": means["eval_loss"], "eval_perplexity": math.exp(min(means["eval_loss"], 700.0))}
        if "eval_accuracy" in means:
            return found | {"move_accuracy": means["eval_accuracy"]}
        turns = [lesson for lesson in lessons if lesson.turn and lesson.turn.legal]  # with loss = tokens
        return found | ({"move_accuracy": self._scored(turns)} if turns and self.config.act == "choose" else {})

    def _scored(self, lessons: Sequence[Lesson]) -> float:
        """How often the expert's move is the likeliest of the legal ones, as the player chooses."""
        rows = self.player.log_probs([self.player.query(cast(Turn, lesson.turn)) for lesson in lessons])
        return sum(int(row.argmax()) == lesson.index for row, lesson in zip(rows, lessons, strict=True)) / len(lessons)

    def answer(self, lessons: Sequence[Lesson]) -> dict[str, float]:
        """Put held-out turns (`Lessons.opening_turns`) to the player: how many answers can be read, how many are the
        expert's move, or name the one that the conversation's own answer names.

        The same seeds every time. `scored_accuracy` is how often the expert's move is the likeliest of the legal ones
        when the player chooses instead, without reasoning.
        """
        if not lessons:
            return {}
        turns = [
            replace(cast(Turn, lesson.turn), game=i, seed=stream("held-out answer", self.config.seed, i))
            for i, lesson in enumerate(lessons)
        ]
        verdicts = [_verdict(move, lesson) for move, lesson in zip(self.player.act(turns), lessons, strict=True)]
        n = len(lessons)
        found = {
            "parse_rate": sum(readable for readable, _ in verdicts) / n,
            "move_accuracy": sum(right for _, right in verdicts) / n,
        }
        choices = [lesson for lesson in lessons if not lesson.move]
        return found | ({"scored_accuracy": self._scored(choices)} if choices else {})


def _verdict(move: Move, lesson: Lesson) -> tuple[bool, bool]:
    """Whether an answer could be read at the first attempt, and whether it is the expert's move."""
    if not lesson.move:
        return move.attempts == 1 and move.stop is not Stop.INVALID, move.index == lesson.index
    try:
        return True, declared(move.text)[1] == lesson.move
    except Unreadable:
        return False, False


def chunks(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """Consecutive batches of `size`, the last one may be smaller."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def _count(sums: Sums, prefix: str, look: Losses) -> None:
    sums.add(f"{prefix}loss", float(look.values.detach().sum()), float(len(look.values)))
    if look.choices:
        sums.add(f"{prefix}accuracy", float(look.right), float(look.choices))
