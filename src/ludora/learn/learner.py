"""Everything PPO learns with, and one PPO update over a batch of decisions.

The parts that must survive a crash are in `tensors` and `state`; together with the update's number they determine
every later bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from typing import Any, cast

import torch
from torch import Tensor

from ludora.errors import TrainingFailed
from ludora.learn import maths
from ludora.learn.credit import Baselines, Decision
from ludora.learn.critic import Critic, Scale
from ludora.learn.sums import Sums
from ludora.models.adapters import Adapter, SlotOptimizer
from ludora.models.policy import Answer, Policy, Query
from ludora.players.model import ModelPlayer
from ludora.rng import generator, stream
from ludora.settings import PPOConfig

# the largest difference of one action's log-probability between sampling and training, by dtype of the base: the
# same numbers are expected, but for rounding: both batch rows differently, and kernels add up by the size of a batch
GAP = {torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.2}
MAX_SKIPPED = 20  # optimiser steps in a row without a finite gradient, then training has failed


def skipped_in_a_row(norm: float, before: int) -> int:
    """Optimiser steps left out since the last good one, after a step with this norm of the gradient.

    Raises:
        TrainingFailed: there were MAX_SKIPPED of them.
    """
    count = 0 if math.isfinite(norm) else before + 1
    if count >= MAX_SKIPPED:
        raise TrainingFailed(
            f"{MAX_SKIPPED} steps in a row had gradients that are not finite", "lower learning_rate, or resume earlier"
        )
    return count


@dataclass(slots=True)
class Learner:
    """One adapter being trained: its player, critic, optimisers and controllers."""

    config: PPOConfig
    policy: Policy
    player: ModelPlayer
    adapter: Adapter
    reference: Adapter | None
    critic: Critic
    actor_optimizer: SlotOptimizer
    critic_optimizer: SlotOptimizer
    baselines: Baselines | None
    kl_coef: float
    entropy_coef: float
    magnet: ModelPlayer | None = None
    skipped_in_a_row: int = 0

    @classmethod
    def create(cls, config: PPOConfig, player: ModelPlayer, reference: Adapter | None) -> Learner:
        """A learner at its start; the player's adapter is the one that learns."""
        policy, adapter = player.policy, cast(Adapter, player.adapter)
        base = policy.engine.base
        critic = Critic(base.hidden, config.value_hidden, stream("critic", config.seed), base.device)
        betas = (config.beta1, config.beta2)
        actor = SlotOptimizer(
            adapter.flat,
            lr=config.learning_rate,
            betas=betas,
            weight_decay=config.weight_decay,
            max_grad_norm=config.max_grad_norm,
        )
        values = SlotOptimizer(
            critic.flat, lr=config.value_learning_rate, betas=(0.9, 0.999), weight_decay=0.0, max_grad_norm=1.0
        )
        baselines = Baselines(config.ema_decay) if config.baseline == "ema" else None
        return cls(
            config,
            policy,
            player,
            adapter,
            reference,
            critic,
            actor,
            values,
            baselines,
            config.kl_coef,
            config.entropy_coef,
        )

    # ---- checkpoint ------------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """All tensors, by file."""
        return {
            "adapter": self.adapter.tensors(),
            "actor_optimizer": self.actor_optimizer.tensors(),
            "critic": {"flat": self.critic.flat.detach().cpu().clone()},
            "critic_optimizer": self.critic_optimizer.tensors(),
        }

    def load_tensors(self, tensors: dict[str, dict[str, Tensor]]) -> None:
        self.adapter.load_tensors(tensors["adapter"])
        self.actor_optimizer.load_tensors(tensors.get("actor_optimizer", {}))  # no moments before the first step
        with torch.no_grad():
            self.critic.flat.copy_(tensors["critic"]["flat"])
        self.critic_optimizer.load_tensors(tensors.get("critic_optimizer", {}))

    def state(self) -> dict[str, Any]:
        """All that is not a tensor."""
        return {
            "dropout_draws": self.adapter.draws,
            "kl_coef": self.kl_coef,
            "entropy_coef": self.entropy_coef,
            "began": self._began(),
            "critic_scales": {game: list(astuple(scale)) for game, scale in self.critic.scales.of.items()},
            "baselines": [[*group, mean] for group, mean in self.baselines.means.items()] if self.baselines else [],
            "skipped": [self.actor_optimizer.skipped, self.critic_optimizer.skipped, self.skipped_in_a_row],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.adapter.draws = state["dropout_draws"]
        now, then = self._began(), state.get("began", self._began())
        if now["kl"] == then["kl"]:  # else it begins as it is now asked for
            self.kl_coef = state["kl_coef"]
        if now["entropy"] == then["entropy"]:
            self.entropy_coef = state["entropy_coef"]
        scales = state.get("critic_scales", {})  # runs of old had one for all games, which is sought anew
        self.critic.scales.of = {game: Scale(*scale) for game, scale in scales.items()}
        if self.baselines:
            self.baselines.means = {(game, seat): mean for game, seat, mean in state["baselines"]}
        self.actor_optimizer.skipped, self.critic_optimizer.skipped, self.skipped_in_a_row = state["skipped"]

    def _began(self) -> dict[str, list[Any]]:
        """What the coefficients that adapt began as."""
        config = self.config
        return {"kl": [config.kl, config.kl_coef], "entropy": [config.entropy_target, config.entropy_coef]}

    # ---- critic ----------------------------------------------------------------------------------------------------

    def features(self, keys: Sequence[Query | Answer]) -> Tensor:
        """Reference features at the last prompt token of each key, [N, hidden]."""
        return self.policy.features([(key.prompt, key.prefix) for key in keys], self.reference)

    @torch.no_grad()
    def values(self, keys: Sequence[Query | Answer], games: Sequence[str]) -> list[float]:
        """V(s) of each key's prompt, in its game's returns."""
        distinct = list(dict.fromkeys(keys))
        found = dict(zip(distinct, self.critic(self.features(distinct)).tolist(), strict=True))
        return self.critic.scales.up(games, [found[key] for key in keys])

    def fit_critic(self, decisions: Sequence[Decision]) -> float:
        """`value_steps` full-batch steps on the value targets; features are cached, so they cost next to nothing."""
        keys = list(dict.fromkeys(d.key for d in decisions))
        row = {key: i for i, key in enumerate(keys)}
        features = self.features(keys)
        device = features.device
        rows = torch.tensor([row[d.key] for d in decisions], device=device)
        games, scales = [d.group[0] for d in decisions], self.critic.scales
        scales.observe(games, [d.target for d in decisions])
        target = torch.tensor(scales.down(games, [d.target for d in decisions]), device=device)
        before = torch.tensor(scales.down(games, [d.value for d in decisions]), device=device)
        loss = torch.zeros(())
        for _ in range(self.config.value_steps):
            self.critic_optimizer.zero_grad()
            loss = maths.value_loss(self.critic(features)[rows], target, before, self.config.value_clip).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            self.critic_optimizer.step(self.config.value_learning_rate)
        return float(loss.detach())

    # ---- actor -----------------------------------------------------------------------------------------------------

    def improve(self, decisions: Sequence[Decision], update: int, rate: float) -> dict[str, float]:
        """The epochs and mini-batches of one update. Returns metrics, averaged over decisions."""
        config, sums = self.config, Sums()
        before = self.adapter.flat.detach().clone()
        self.adapter.training = config.dropout > 0
        stop = False
        for epoch in range(config.epochs):
            order = generator("minibatches", config.seed, update, epoch)
            for batch in _minibatches(decisions, config.minibatch, order):
                first = epoch == 0 and sums.steps == 0
                divergence = self._step(batch, rate, sums, check_gap=first and not self.adapter.training)
                stop = bool(config.target_kl) and divergence > config.target_kl
                if stop:
                    break
            if stop:
                break
        self.adapter.training = False
        self._control(sums)
        change = float((self.adapter.flat.detach() - before).norm())
        return {
            **sums.means(),
            "adapter_change": change,
            "early_stop": float(stop),
            "kl_coef": self.kl_coef,
            "entropy_coef": self.entropy_coef,
            "skipped_steps": float(self.actor_optimizer.skipped),
        }

    def _step(self, batch: Sequence[Decision], rate: float, sums: Sums, check_gap: bool) -> float:
        """One optimiser step, in `accumulation` pieces. Returns the divergence from the sampling policy (k3)."""
        self.actor_optimizer.zero_grad()
        parts = sum(len(d.old) for d in batch)
        distinct = list(dict.fromkeys(d.key for d in batch))
        size = -(-len(distinct) // self.config.accumulation)
        seen = Sums()
        for kind in (Query, Answer):  # choices and free texts are read by different passes
            keys = [key for key in distinct if isinstance(key, kind)]
            for start in range(0, len(keys), size):
                piece = set(keys[start : start + size])
                self._piece([d for d in batch if d.key in piece], keys[start : start + size], parts, seen, check_gap)
        norm = self.actor_optimizer.step(rate)
        self.adapter.version += 1
        self.skipped_in_a_row = skipped_in_a_row(norm, self.skipped_in_a_row)
        seen.add("grad_norm", norm if math.isfinite(norm) else 0.0, 1.0)
        sums.merge(seen)
        return seen.means().get("kl_old", 0.0)

    def _piece(
        self, batch: list[Decision], keys: list[Query | Answer], parts: int, sums: Sums, check_gap: bool
    ) -> None:
        """Loss and gradients of some decisions; `parts` counts the ratios of the whole mini-batch."""
        config = self.config
        now = self._look(batch, keys)
        losses, clipped = maths.clipped_policy_loss(now.new, now.old, now.advantage[:, None], config.clip)
        policy_loss = (losses * now.mask).sum() / parts
        weight = now.weight / parts
        loss = policy_loss - self.entropy_coef * (weight * now.entropy).sum()
        if config.kl != "none":
            loss = loss + self.kl_coef * (weight * now.kl).sum()
        if config.magnet_weight and now.magnet_kl is not None:
            loss = loss + config.magnet_weight * (weight * now.magnet_kl).sum()
        if loss.requires_grad:  # not where every decision of the piece had one legal action
            loss.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            n, mask = float(now.mask.sum()), now.mask
            gap = float(((now.new - now.old).abs() * mask).max())
            if check_gap and gap > (limit := self._gap_limit(keys[0])):
                raise TrainingFailed(
                    f"sampling and training disagree: log-probabilities differ by {gap:.3g} (limit {limit})",
                    "this is a bug in the model's kernels or ours: please report it",
                )
            if check_gap:
                sums.add("sampling_gap", gap, 1.0)
            total = float(weight.sum()) * parts
            sums.add("loss_policy", float(policy_loss.detach()) * parts, n)
            sums.add("clip_fraction", float((clipped * mask).sum()), n)
            sums.add("kl_old", float((maths.k3(now.new, now.old) * mask).sum()), n)
            sums.add("kl_old_k1", float((maths.k1(now.new, now.old) * mask).sum()), n)
            sums.add("entropy", float((now.weight * now.entropy).sum()), total)
            sums.add("entropy_share", float((now.weight * now.entropy).sum()), float((now.weight * now.most).sum()))
            if config.kl != "none":
                sums.add("kl", float((now.weight * now.kl).sum()), total)
            if now.magnet_kl is not None:
                sums.add("kl_magnet", float((now.weight * now.magnet_kl).sum()), total)

    def _look(self, batch: list[Decision], keys: list[Query | Answer]) -> _Now:
        """The policy as it is now, at the batch's decisions."""
        device = self.policy.engine.base.device
        row = {key: i for i, key in enumerate(keys)}
        rows = torch.tensor([row[d.key] for d in batch], device=device)
        advantage = torch.tensor([d.advantage for d in batch], device=device)
        weight = torch.zeros(len(keys), device=device).index_add(0, rows, torch.ones(len(batch), device=device))
        wanted = self.config.kl != "none"
        if isinstance(keys[0], Query):
            queries = cast("list[Query]", keys)
            table = self.policy.action_log_probs(queries, [self.adapter] * len(keys))
            index = torch.tensor([d.index for d in batch], device=device)
            new = table[rows, index][:, None]
            old = torch.tensor([sum(d.old) for d in batch], device=device)[:, None]
            reference = self.policy.reference_log_probs(queries, self.reference) if wanted else table.detach()
            magnet = self._magnet_kl(queries, table)
            kl = maths.exact_kl(table, reference)
            most = torch.tensor([math.log(len(q.choices)) for q in queries], device=device)
            spread = maths.entropy(table)
            return _Now(new, old, torch.ones_like(new), advantage, weight, spread, most, kl, magnet)
        answers = cast("list[Answer]", keys)
        chosen, entropies = self.policy.token_log_probs(answers, [self.adapter] * len(keys))
        lengths = torch.tensor([len(a.tokens) for a in answers], device=device)
        token_mask = (torch.arange(chosen.shape[1], device=device) < lengths[:, None]).float()
        old = torch.zeros(len(batch), chosen.shape[1])
        for i, d in enumerate(batch):
            old[i, : len(d.old)] = torch.tensor(d.old)
        kl = torch.zeros(len(keys), device=device)
        if wanted:  # k3 of samples from the sampling policy, summed over an answer's tokens
            with torch.no_grad():
                reference, _ = self.policy.token_log_probs(answers, [self.reference] * len(keys))
            kl = (maths.k3(reference, chosen) * token_mask).sum(1)
        spread = (entropies * token_mask).sum(1)
        most = lengths * math.log(self.policy.engine.base.model.config.vocab_size)
        return _Now(chosen[rows], old.to(device), token_mask[rows], advantage, weight, spread, most, kl, None)

    def _gap_limit(self, key: Query | Answer) -> float:
        """Of one log-probability; a token is read from the whole vocabulary, whose rounding is larger."""
        limit = GAP[self.policy.engine.base.dtype]
        return limit if isinstance(key, Query) else 5 * limit

    def _magnet_kl(self, queries: Sequence[Query], table: Tensor) -> Tensor | None:
        if self.magnet is None:
            return None
        known = self.magnet.log_probs(queries)
        other = torch.full(table.shape, float("-inf"))
        for i, log_probs in enumerate(known):
            other[i, : len(log_probs)] = torch.from_numpy(log_probs)
        return maths.exact_kl(table, other.to(table.device))

    def _control(self, sums: Sums) -> None:
        """Move the coefficients of KL and entropy towards their targets."""
        means, config = sums.means(), self.config
        if config.kl == "adaptive" and "kl" in means:
            self.kl_coef = maths.adapt_coefficient(self.kl_coef, means["kl"], config.kl_target)
        if config.entropy_target and "entropy_share" in means:  # not where every decision had one legal action
            short = means["entropy_share"] < config.entropy_target
            self.entropy_coef = min(max(self.entropy_coef * (1.1 if short else 1 / 1.1), 1e-4), 1.0)


@dataclass(slots=True)
class _Now:
    """Policy quantities at D decisions over n distinct keys, K ratios each (K = 1 for a choice)."""

    new: Tensor  # [D, K]
    old: Tensor  # [D, K]
    mask: Tensor  # [D, K]
    advantage: Tensor  # [D]
    weight: Tensor  # [n] decisions per key
    entropy: Tensor  # [n]
    most: Tensor  # [n] the largest entropy possible there
    kl: Tensor  # [n] to the reference
    magnet_kl: Tensor | None  # [n]


def _minibatches(decisions: Sequence[Decision], size: int, order: Any) -> Iterator[list[Decision]]:
    """Decisions in random order, those of one key together: a prompt is computed once per epoch."""
    groups: dict[Query | Answer, list[Decision]] = {}
    for d in decisions:
        groups.setdefault(d.key, []).append(d)
    keys = list(groups)
    order.shuffle(keys)
    target = len(decisions) / max(1, round(len(decisions) / size))
    batch: list[Decision] = []
    done, boundary = 0, target
    for key in keys:
        batch += groups[key]
        if done + len(batch) >= boundary - 1e-9:
            yield batch
            done += len(batch)
            batch = []
            while boundary <= done + 1e-9:
                boundary += target
    if batch:
        yield batch
