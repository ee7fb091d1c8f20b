"""What a model would do: exact distributions over legal actions, and log-probabilities of sampled text.

Only the rows of the output matrix that a decision needs are multiplied in `choose`; in `say`, only the positions of
the answer. Equal queries in a batch are computed once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ludora.models.adapters import Adapter
from ludora.models.cache import ByteLRU
from ludora.models.engine import Engine
from ludora.models.rows import BLOCK, Row
from ludora.models.trie import Tokens, plan_choices

T = TypeVar("T")
PIECE = 1 << 25  # logits computed at a time: 128 MiB
SMALL_PIECE = 1 << 23  # the same where they are sent backwards at once


@dataclass(frozen=True, slots=True)
class Query:
    """A prompt (its first `prefix` tokens shared with others) and the token paths of the legal actions."""

    prompt: Tokens
    prefix: int
    choices: tuple[Tokens, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """A prompt and the tokens that were sampled after it."""

    prompt: Tokens
    prefix: int
    tokens: Tokens


@dataclass(frozen=True, slots=True)
class Text:
    """A row of tokens and what is to be said in it: after `row.tokens[reads[i]]` the token `targets[i]`.

    A target is the row's next token, but at its end, and where what follows an answer is laid out by the chat.
    """

    row: Row
    reads: Tokens
    targets: Tokens


class Policy:
    """Distributions of one model under any adapter of its pack.

    Args:
        engine: computes hidden states.
        end: the token that ends an answer.
        temperature: divides all logits, in sampling and in training alike, so the two are the same policy.
    """

    def __init__(self, engine: Engine, end: int, temperature: float = 1.0) -> None:
        self.engine, self.end, self.temperature = engine, end, temperature
        base = engine.base
        self._head = cast(nn.Linear, base.model.get_submodule(base.family.head))
        self._softcap = getattr(base.model.config, base.family.softcap, None) if base.family.softcap else None
        self._features = ByteLRU(128 << 20)  # by prompt
        self._reference = ByteLRU(128 << 20)  # by query

    # ---- caches ----------------------------------------------------------------------------------------------------

    def forget(self) -> None:
        """Empty all caches, the engine's too."""
        for cache in self._caches().values():
            cache.clear()

    @property
    def cached_bytes(self) -> int:
        return sum(cache.size for cache in self._caches().values())

    def cached(self, reference: Adapter | None) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """What the caches hold under the base and this reference: keys that JSON can hold, and tensors."""
        who = _serial(reference)
        keys: dict[str, Any] = {}
        tensors: dict[str, Tensor] = {}
        for name, cache in self._caches().items():
            found = [(key, value) for key, value in cache.items() if name == "trunk" or key[1] == who]
            keys[name] = [[*_plain(key if name == "trunk" else key[0]), list(value.shape)] for key, value in found]
            if found:
                tensors[name] = torch.cat([value.flatten() for _, value in found])
        return keys, tensors

    def restore_cached(self, keys: dict[str, Any], tensors: dict[str, Tensor], reference: Adapter | None) -> None:
        """Inverse of `cached`. What depends on the layers that run is emptied when they change: add adapters first."""
        self.forget()
        who, _ = _serial(reference), self.engine.depth
        for name, cache in self._caches().items():
            start = 0
            for tokens, prefix, more, shape in keys[name]:
                size = math.prod(shape)
                value = tensors[name][start : start + size].view(shape).clone().to(self._device)
                start += size
                cache.put(_key(name, tuple(tokens), prefix, more, who), value, value.numel() * value.element_size())

    def _caches(self) -> dict[str, ByteLRU]:
        return {"trunk": self.engine.trunk, "features": self._features, "reference": self._reference}

    # ---- the output matrix -----------------------------------------------------------------------------------------

    def logits(self, hidden: Tensor, tokens: Tensor | None = None) -> Tensor:
        """fp32 logits [R, len(tokens)] (all of the vocabulary if None), divided by the temperature."""
        rows = hidden.shape[0]
        if rows < BLOCK:  # filled up like every batch of rows: one state alone gets the bits that it has among others,
            # if `tokens` are as many (in fp32 on one thread; another number of columns may round differently)
            hidden = nn.functional.pad(hidden, (0, 0, 0, BLOCK - rows))
        weight: Tensor = self._head.weight
        bias: Tensor | None = self._head.bias
        if tokens is not None:
            weight, bias = weight[tokens], None if bias is None else bias[tokens]
            out = hidden.float() @ weight.float().t()  # few columns: fp32 costs nothing here
        else:
            out = (hidden @ weight.t()).float()
        if bias is not None:
            out = out + bias.float()
        if self._softcap:
            out = self._softcap * torch.tanh(out / self._softcap)
        return (out / self.temperature if self.temperature != 1.0 else out)[:rows]

    # ---- choose ----------------------------------------------------------------------------------------------------

    def action_log_probs(self, queries: Sequence[Query], adapters: Sequence[Adapter | None]) -> Tensor:
        """log-probability of every legal action.

        Returns:
            fp32 [N, A], A the largest number of actions; -inf beyond a query's own. Each row's exponentials sum to 1.
        """
        place: dict[tuple[Query, int], int] = {}
        index = [place.setdefault((q, id(a)), len(place)) for q, a in zip(queries, adapters, strict=True)]
        owner = {id(a): a for a in adapters}
        distinct = [(q, owner[a]) for q, a in place]
        table = self._table([q for q, _ in distinct], [a for _, a in distinct])
        return table if len(distinct) == len(queries) else table[self._long(index)]

    def row(self, query: Query) -> Row:
        """What is encoded to answer a query: the prompt, and the inner tokens of its choices as a tree behind it."""
        plan = plan_choices(query.choices, self.end)
        return Row(query.prompt + plan.tokens, query.prefix, plan.parents)

    def _table(self, queries: Sequence[Query], adapters: Sequence[Adapter | None]) -> Tensor:
        plans = [plan_choices(q.choices, self.end) for q in queries]
        deciding = [i for i, plan in enumerate(plans) if plan.reads]
        rows = [self.row(queries[i]) for i in deciding]
        reads = [tuple(len(queries[i].prompt) + at for at in plans[i].reads) for i in deciding]
        nodes = [children for i in deciding for children in plans[i].children]
        width = max(len(q.choices) for q in queries)
        shape = (len(queries), width)
        real = self._long([len(q.choices) for q in queries])[:, None] > torch.arange(width, device=self._device)
        if not deciding:
            return torch.zeros(shape, device=self._device).masked_fill(~real, float("-inf"))
        hidden = self.engine.encode(rows, reads, [adapters[i] for i in deciding])
        node_log_probs = self._nodes(hidden, nodes)
        entries: list[tuple[int, int, int]] = []  # (cell of the table, node, child)
        node = 0
        for i in deciding:
            for action, path in enumerate(plans[i].paths):
                entries += [(i * width + action, node + n, child) for n, child in path]
            node += len(plans[i].children)
        cells = self._long(entries)
        flat = torch.zeros(shape, device=self._device).view(-1)
        flat = flat.index_add(0, cells[:, 0], node_log_probs[cells[:, 1], cells[:, 2]])
        return flat.view(shape).masked_fill(~real, float("-inf"))

    def _nodes(self, hidden: Tensor, nodes: Sequence[Tokens]) -> Tensor:
        """log-softmax over the children of each node, [R, C], -inf beyond a node's own."""
        union = sorted({token for children in nodes for token in children})
        column = {token: i for i, token in enumerate(union)}
        width = max(map(len, nodes))
        pick = torch.zeros(len(nodes), width, dtype=torch.long)
        real = torch.zeros(len(nodes), width, dtype=torch.bool)
        for i, children in enumerate(nodes):
            pick[i, : len(children)] = torch.tensor([column[t] for t in children])
            real[i, : len(children)] = True
        logits = self.logits(hidden, self._long(union)).gather(1, pick.to(self._device))
        return logits.masked_fill(~real.to(self._device), float("-inf")).log_softmax(-1)

    # ---- reference and critic features -----------------------------------------------------------------------------

    @torch.no_grad()
    def features(self, prompts: Sequence[tuple[Tokens, int]], reference: Adapter | None) -> Tensor:
        """fp32 [N, hidden] at the last token of each prompt (tokens, prefix), before any action, under the reference.

        One pass per distinct prompt for the whole run: the reference never changes.
        """
        who = _serial(reference)
        found = {p: self._features.get((p, who)) for p in prompts}
        missing = [p for p, state in found.items() if state is None]
        if missing:
            rows = [Row(tokens, prefix) for tokens, prefix in missing]
            reads = [(len(row.tokens) - 1,) for row in rows]
            for p, state in zip(missing, self.engine.encode(rows, reads, [reference] * len(rows)), strict=True):
                found[p] = state.float().clone()
                self._features.put((p, who), found[p], found[p].numel() * 4)
        return torch.stack([found[p] for p in prompts])

    @torch.no_grad()
    def reference_log_probs(self, queries: Sequence[Query], reference: Adapter | None) -> Tensor:
        """`action_log_probs` under the reference; one pass per distinct query for the whole run."""
        who = _serial(reference)
        found = {q: self._reference.get((q, who)) for q in queries}
        missing = [q for q, row in found.items() if row is None]
        if missing:
            for q, row in zip(missing, self._table(missing, [reference] * len(missing)), strict=True):
                found[q] = row[: len(q.choices)].clone()
                self._reference.put((q, who), found[q], found[q].numel() * 4)
        width = max(len(q.choices) for q in queries)
        return torch.stack(
            [nn.functional.pad(found[q], (0, width - len(q.choices)), value=float("-inf")) for q in queries]
        )

    # ---- say -------------------------------------------------------------------------------------------------------

    def token_log_probs(self, answers: Sequence[Answer], adapters: Sequence[Adapter | None]) -> tuple[Tensor, Tensor]:
        """Log-probability and entropy of the policy at every sampled token.

        Returns:
            two fp32 [N, K], K the longest answer; 0 beyond an answer's own tokens.
        """
        rows = [Row(a.prompt + a.tokens[:-1], a.prefix) for a in answers]
        reads = [tuple(range(len(a.prompt) - 1, len(a.prompt) + len(a.tokens) - 1)) for a in answers]
        hidden = self.engine.encode(rows, reads, adapters)
        pieces = list(self._in_pieces(self._score, hidden, self._long([t for a in answers for t in a.tokens])))
        width = max(len(a.tokens) for a in answers)
        where = self._long([i * width + j for i, a in enumerate(answers) for j in range(len(a.tokens))])
        empty = torch.zeros(len(answers) * width, device=self._device)
        chosen, entropy = (
            empty.index_copy(0, where, torch.cat(part)).view(len(answers), width) for part in zip(*pieces, strict=True)
        )
        return chosen, entropy

    def token_losses(self, texts: Sequence[Text], adapters: Sequence[Adapter | None]) -> Tensor:
        """Cross-entropy of every target over the whole vocabulary, fp32 [sum of their targets], in order.

        Only the states where a target is read go through the output matrix. Give each distinct text once.
        """
        hidden = self.engine.encode([t.row for t in texts], [t.reads for t in texts], adapters)
        targets = self._long([target for t in texts for target in t.targets])
        return torch.cat(list(self._in_pieces(self._loss, hidden, targets)))

    def learn_texts(self, texts: Sequence[Text], adapters: Sequence[Adapter | None], weights: Tensor) -> Tensor:
        """`token_losses`, which are also sent backwards at once, each with its weight; returned without a gradient.

        The gradient of a piece's logits is taken before the next piece is made: none is computed twice, and a piece is
        small enough to stay in the cache of a CPU.
        """
        hidden = self.engine.encode([t.row for t in texts], [t.reads for t in texts], adapters)
        targets = self._long([target for t in texts for target in t.targets])
        step = max(BLOCK, SMALL_PIECE // self._head.weight.shape[0])
        losses, grads = [], []
        for start in range(0, len(targets), step):
            piece = hidden.detach()[start : start + step].requires_grad_()
            loss = self._loss(piece, targets[start : start + step])
            loss.backward(weights[start : start + step])  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
            grads.append(cast(Tensor, piece.grad))
        hidden.backward(torch.cat(grads))  # type: ignore[no-untyped-call]
        return torch.cat(losses)

    def _loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(self.logits(hidden), targets, reduction="none")

    def _in_pieces(self, score: Callable[[Tensor, Tensor], T], hidden: Tensor, tokens: Tensor) -> Iterator[T]:
        """`score` of some states at a time: never all fp32 logits at once; backwards they are made again."""
        step = max(1, PIECE // self._head.weight.shape[0])
        for start in range(0, len(tokens), step):
            piece = hidden[start : start + step], tokens[start : start + step]
            if len(tokens) > step and torch.is_grad_enabled():
                yield cast(T, checkpoint(score, *piece, use_reentrant=False, preserve_rng_state=False))
            else:
                yield score(*piece)

    def _score(self, hidden: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability of one token per state, and the entropy there, [R] each."""
        log_probs = self.logits(hidden).log_softmax(-1)
        return log_probs.gather(1, tokens[:, None])[:, 0], -(log_probs.exp() * log_probs).sum(-1)

    @property
    def _device(self) -> torch.device:
        return self.engine.base.device

    def _long(self, values: object) -> Tensor:
        return torch.tensor(values, dtype=torch.long).to(self._device, non_blocking=True)


def _plain(key: Row | tuple[Tokens, int] | Query) -> list[Any]:
    """A cache's key as three values for JSON: tokens, prefix, and what else it consists of."""
    if isinstance(key, Row):
        return [key.tokens, key.prefix, key.tree]
    return [key.prompt, key.prefix, key.choices] if isinstance(key, Query) else [*key, ()]


def _key(cache: str, tokens: Tokens, prefix: int, more: Sequence[Any], who: int) -> Any:
    """Inverse of `_plain`, as that cache names it."""
    if cache == "trunk":
        return Row(tokens, prefix, tuple(more))
    return ((tokens, prefix) if cache == "features" else Query(tokens, prefix, tuple(map(tuple, more))), who)


def _serial(adapter: Adapter | None) -> int:
    return -1 if adapter is None else adapter.serial
