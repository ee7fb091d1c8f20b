"""Hidden states of prompts, computing nothing twice.

    row     = shared prefix | its own tokens | a tree of action tokens
    encode  = cached trunk (layers below the lowest adapted one)  ->  adapted layers  ->  states where they are read

Distinct rows are the caller's business (`policy` deduplicates). Here: the prefix of a batch (the rules of the game) is
computed once per adapter and attended to by all rows; trunk states are cached by row under a memory bound; every row
is padded to its own multiple of 16 and only rows of equal padded length share a batch, so a row's bits do not
depend on its neighbours; nothing is padded on the left.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from ludora.models import attention
from ludora.models.adapters import Adapter, AdapterPack
from ludora.models.attention import History, KeysValues, Layout
from ludora.models.load import Base

Tokens = tuple[int, ...]
BLOCK = 16  # rows are padded to multiples of this: bf16 kernels then give a row the same bits in any batch


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt to encode.

    `tokens[:prefix]` is shared with other rows. `tree` gives, for each of the last `len(tree)` tokens, its parent's index
    within the tree, or -1 for the last token before it; all other tokens follow one another.
    """

    tokens: Tokens
    prefix: int = 0
    tree: Tokens = ()


@dataclass(slots=True)
class Counters:
    """What was computed, for honest speed figures. Tokens count padding; FLOPs count multiplications by weights."""

    tokens: int = 0
    trunk_tokens: int = 0
    flops: float = 0.0


class ByteLRU:
    """Least-recently-used cache with a bound in bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self._items: OrderedDict[Any, tuple[Any, int]] = OrderedDict()

    def get(self, key: Any) -> Any:
        item = self._items.get(key)
        if item is None:
            return None
        self._items.move_to_end(key)
        return item[0]

    def put(self, key: Any, value: Any, size: int) -> None:
        if key in self._items:
            self.size -= self._items.pop(key)[1]
        self._items[key] = (value, size)
        self.size += size
        while self.size > self.limit and len(self._items) > 1:
            self.size -= self._items.popitem(last=False)[1][1]

    def pop(self, key: Any) -> Any:
        item = self._items.pop(key, None)
        if item is None:
            return None
        self.size -= item[1]
        return item[0]

    def clear(self) -> None:
        self._items.clear()
        self.size = 0

    def __len__(self) -> int:
        return len(self._items)


class _Skip(nn.Module):
    """Stands where a layer is left out: hidden states pass through."""

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return hidden_states


class _Inject(nn.Module):
    """Stands for all layers below the adapted ones: puts the cached states in."""

    value: Tensor

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return self.value


@dataclass(slots=True)
class _Batch:
    """Rows of one prefix and one padded length, sorted by adapter."""

    rows: list[int]
    prefix: Tokens
    width: int


class Engine:
    """Runs a base model with its adapter pack.

    Args:
        cache_bytes: bound of the trunk cache.
        chunk_tokens: tokens per forward pass: enough to keep the matrix unit busy, few enough to stay in cache.
    """

    def __init__(
        self, base: Base, pack: AdapterPack, *, cache_bytes: int = 1 << 30, chunk_tokens: int = 3072
    ) -> None:
        self.base, self.pack = base, pack
        self.chunk_tokens = chunk_tokens
        self.counters = Counters()
        self.backbone = base.model.get_submodule(base.family.backbone)
        self._own_attention = bool(getattr(base.model, "_supports_attention_backend", False))
        if self._own_attention:
            base.model.set_attn_implementation(attention.NAME)
        path, _, self._layers_name = base.family.layers.rpartition(".")
        self._layers_parent = base.model.get_submodule(path)
        self._layers = cast(nn.ModuleList, base.model.get_submodule(base.family.layers))
        self._skip, self._inject = _Skip(), _Inject()
        self._trunk = ByteLRU(cache_bytes)
        self._depth = 0
        self._layer_flops = [2.0 * sum(_weights(layer)) for layer in self._layers]

    # ---- which layers run ------------------------------------------------------------------------------------------

    @property
    def depth(self) -> int:
        """Number of layers below the lowest adapted one; all of them while the pack is empty."""
        lowest = [_layer_of(name, self.base.family.layers) for a in self.pack.adapters.values() for name in a.pairs]
        depth = min(lowest, default=len(self._layers) - 1)
        if depth != self._depth:
            self._trunk.clear()
            self._depth = depth
        return depth

    @contextmanager
    def _only(self, start: int, stop: int, states: Tensor | None) -> Iterator[None]:
        """Within the block the model consists of layers start..stop-1, fed with `states`."""
        chosen: list[nn.Module] = [
            layer if start <= i < stop else self._skip for i, layer in enumerate(self._layers)
        ]
        if states is not None:
            self._inject.value = states
            chosen[0 if start == 0 else start - 1] = self._inject
        setattr(self._layers_parent, self._layers_name, nn.ModuleList(chosen))
        try:
            yield
        finally:
            setattr(self._layers_parent, self._layers_name, self._layers)
            if states is not None:
                del self._inject.value

    def _run(self, ids: Tensor, positions: Tensor, layout: Layout, start: int, stop: int, states: Tensor | None) -> Tensor:
        """Layers start..stop-1 over a batch. Returns [B, T, H]: after the final norm if the last layer is among them."""
        self.counters.tokens += ids.numel()
        self.counters.flops += ids.numel() * sum(self._layer_flops[start:stop])
        where = {"position_ids": positions} if self._own_attention else {}
        grabbed: list[Tensor] = []
        last = len(self._layers)
        hook = None
        if stop < last:  # the final norm must not touch a trunk: take the states as they leave the last layer that runs
            hook = self._layers[stop - 1].register_forward_hook(lambda m, a, out: grabbed.append(_tensor(out)))
        try:
            with self._only(start, stop, states), attention.using(layout):
                out = self.backbone(input_ids=ids, use_cache=False, **where)
        finally:
            if hook:
                hook.remove()
        return grabbed[0] if grabbed else cast(Tensor, out.last_hidden_state)

    # ---- prompts ---------------------------------------------------------------------------------------------------

    def encode(self, rows: Sequence[Row], reads: Sequence[Tokens], adapters: Sequence[Adapter | None]) -> Tensor:
        """Final hidden states where they are read, differentiable in the adapters' weights if gradients are on.

        Args:
            rows: what to encode; give each distinct (row, adapter) once.
            reads: per row the indices into `row.tokens` to read at, none of them inside the prefix.
            adapters: per row its adapter, or None for the base.

        Returns:
            [sum of len(reads), hidden], in order of rows and reads.
        """
        if not self._own_attention:
            rows, reads, adapters = _without_trees(rows, reads, adapters)
        depth, layers = self.depth, len(self._layers)
        offsets = [0]
        for read in reads:
            offsets.append(offsets[-1] + len(read))
        pieces: list[Tensor] = []
        places: list[int] = []
        for batch in self._batches(rows, adapters):
            members, prefix, width = batch.rows, batch.prefix, batch.width
            states = self._trunk_states([rows[i] for i in members], prefix, width) if depth else None
            segments = _segments([adapters[i] for i in members])
            layout = self._layout([rows[i] for i in members], len(prefix), width)
            layout.prefix = self._prefix(prefix, segments, depth, layers)
            ids, positions = self._ids([rows[i] for i in members], len(prefix), width)
            with self.pack.rows(*segments):
                out = self._run(ids, positions, layout, depth, layers, states)
            where = [(b, at - len(prefix)) for b, i in enumerate(members) for at in reads[i]]
            places += [offsets[i] + j for i in members for j in range(len(reads[i]))]
            index = self._tensor(where)
            pieces.append(out[index[:, 0], index[:, 1]])
        order = self._tensor(places).argsort()
        return torch.cat(pieces)[order]

    def _tensor(self, values: Any) -> Tensor:
        return torch.tensor(values, dtype=torch.long).to(self.base.device, non_blocking=True)

    def _batches(self, rows: Sequence[Row], adapters: Sequence[Adapter | None]) -> Iterator[_Batch]:
        """Rows of one prefix and padded length together, sorted by adapter, cut to the token budget."""
        groups: dict[tuple[Tokens, int], list[int]] = {}
        for i, row in enumerate(rows):
            width = -(-(len(row.tokens) - row.prefix) // BLOCK) * BLOCK
            groups.setdefault((row.tokens[: row.prefix], width), []).append(i)
        rank = {id(a): n for n, a in enumerate(dict.fromkeys(adapters))}
        for (prefix, width), members in groups.items():
            members.sort(key=lambda i: rank[id(adapters[i])])
            step = max(1, self.chunk_tokens // width)
            for start in range(0, len(members), step):
                yield _Batch(members[start : start + step], prefix, width)

    def _ids(self, rows: Sequence[Row], prefix: int, width: int) -> tuple[Tensor, Tensor]:
        """Token ids and positions [B, width], padded on the right."""
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        positions = torch.arange(prefix, prefix + width).repeat(len(rows), 1)
        for b, row in enumerate(rows):
            own = row.tokens[prefix:]
            ids[b, : len(own)] = torch.tensor(own)
            if row.tree:
                trunk = len(own) - len(row.tree)
                positions[b, trunk : len(own)] = prefix + trunk - 1 + torch.tensor(_depths(row.tree))
        return ids.to(self.base.device, non_blocking=True), positions.to(self.base.device, non_blocking=True)

    def _layout(self, rows: Sequence[Row], prefix: int, width: int) -> Layout:
        """Causal over prefix and row; a token of a tree sees the tokens before the tree and its own ancestors."""
        distance = torch.arange(prefix, prefix + width)[:, None] - torch.arange(prefix + width)
        allowed = (distance >= 0)[None]
        if any(row.tree for row in rows):
            allowed = allowed.repeat(len(rows), 1, 1)
            for b, row in enumerate(rows):
                if row.tree:
                    stop = len(row.tokens) - prefix
                    start = stop - len(row.tree)
                    allowed[b, start:stop, prefix + start : prefix + stop] = _ancestors(row.tree)
        device = self.base.device
        return Layout(allowed=allowed.to(device), distance=distance[None].to(device))

    def _trunk_states(self, rows: Sequence[Row], prefix: Tokens, width: int) -> Tensor:
        """States [B, width, H] as they enter the lowest adapted layer; computed once per distinct row."""
        missing = list({row: None for row in rows if self._trunk.get(row) is None})
        found: dict[Row, Tensor] = {row: self._trunk.get(row) for row in rows}
        if missing:
            with torch.no_grad():
                layout = self._layout(missing, len(prefix), width)
                layout.prefix = self._trunk_prefix(prefix)[0] if prefix else {}
                ids, positions = self._ids(missing, len(prefix), width)
                self.counters.trunk_tokens += ids.numel()
                states = self._run(ids, positions, layout, 0, self._depth, None)
            for row, state in zip(missing, states, strict=True):
                found[row] = state.clone()  # a clone: a view would keep the whole batch alive in the cache
                self._trunk.put(row, found[row], state.numel() * state.element_size())
        return torch.stack([found[row] for row in rows])

    def _trunk_prefix(self, prefix: Tokens) -> tuple[dict[int, KeysValues], Tensor]:
        """Keys and values of the frozen layers over the prefix, and its states above them."""
        cached = self._trunk.get(prefix)
        if cached is None:
            with torch.no_grad():
                record: dict[int, KeysValues] = {}
                states = self._run_prefix(prefix, 1, record, 0, self._depth, None)
            cached = (record, states)
            size = sum(t.numel() * t.element_size() for pair in record.values() for t in pair)
            self._trunk.put(prefix, cached, size + states.numel() * states.element_size())
        return cast("tuple[dict[int, KeysValues], Tensor]", cached)

    def _run_prefix(
        self, prefix: Tokens, copies: int, record: dict[int, KeysValues], start: int, stop: int, states: Tensor | None
    ) -> Tensor:
        width = -(-len(prefix) // BLOCK) * BLOCK
        row = Row(prefix)
        layout = self._layout([row], 0, width)
        layout.record = record
        ids, positions = self._ids([row] * copies, 0, width)
        out = self._run(ids, positions, layout, start, stop, states)
        for layer, (k, v) in record.items():
            record[layer] = (k[:, :, : len(prefix)], v[:, :, : len(prefix)])
        return out

    def _prefix(
        self, prefix: Tokens, segments: Sequence[tuple[Adapter | None, int]], depth: int, layers: int
    ) -> dict[int, KeysValues]:
        """Keys and values of the adapted layers over the prefix, once per adapter, handed to that adapter's rows."""
        if not prefix:
            return {}
        states = self._trunk_prefix(prefix)[1].expand(len(segments), -1, -1) if depth else None
        record: dict[int, KeysValues] = {}
        with self.pack.rows(*((adapter, 1) for adapter, _ in segments)):
            self._run_prefix(prefix, len(segments), record, depth, layers, states)
        if len(segments) == 1:
            return record
        owner = self._tensor([n for n, (_, count) in enumerate(segments) for _ in range(count)])
        return {layer: (k[owner], v[owner]) for layer, (k, v) in record.items()}

    # ---- conversations ---------------------------------------------------------------------------------------------

    @property
    def can_extend(self) -> bool:
        """Whether this family's attention can keep a history (else the caller encodes whole rows)."""
        return self._own_attention

    @torch.no_grad()
    def extend(
        self, histories: Sequence[History], fresh: Sequence[Tokens], adapters: Sequence[Adapter | None]
    ) -> Tensor:
        """Append tokens to conversations, at the cost of those tokens only.

        Returns:
            final hidden states [B, H] of the last new token of each.
        """
        rank = {id(a): n for n, a in enumerate(dict.fromkeys(adapters))}
        order = sorted(range(len(histories)), key=lambda i: (rank[id(adapters[i])], len(fresh[i])))
        out: list[Tensor] = [torch.empty(0)] * len(histories)
        longest = max(map(len, fresh))
        width = 1 if longest == 1 else -(-longest // BLOCK) * BLOCK
        step = max(1, self.chunk_tokens // width)
        for start in range(0, len(order), step):
            members = order[start : start + step]
            past = [histories[i] for i in members]
            ids = torch.zeros(len(members), width, dtype=torch.long)
            for b, i in enumerate(members):
                histories[i].fresh = len(fresh[i])
                ids[b, : len(fresh[i])] = torch.tensor(fresh[i])
            positions = torch.arange(width) + torch.tensor([h.length for h in past])[:, None]
            device = self.base.device
            with self.pack.rows(*_segments([adapters[i] for i in members])):
                layout = Layout(history=past)
                states = self._run(ids.to(device), positions.to(device), layout, 0, len(self._layers), None)
            for b, i in enumerate(members):
                out[i] = states[b, len(fresh[i]) - 1]
                histories[i].length += len(fresh[i])
                histories[i].fresh = 0
        return torch.stack(out)


def _weights(layer: nn.Module) -> Iterator[int]:
    yield from (p.numel() for p in layer.parameters() if p.dim() == 2)


def _tensor(out: Any) -> Tensor:
    return cast(Tensor, out[0] if isinstance(out, tuple) else out)


def _layer_of(module: str, layers: str) -> int:
    return int(module[len(layers) + 1 :].split(".", 1)[0])


def _segments(adapters: Sequence[Adapter | None]) -> list[tuple[Adapter | None, int]]:
    """Consecutive rows of the same adapter, counted."""
    out: list[tuple[Adapter | None, int]] = []
    for adapter in adapters:
        if out and out[-1][0] is adapter:
            out[-1] = (adapter, out[-1][1] + 1)
        else:
            out.append((adapter, 1))
    return out


def _depths(tree: Tokens) -> list[int]:
    depths: list[int] = []
    for parent in tree:
        depths.append(1 if parent < 0 else depths[parent] + 1)
    return depths


def _ancestors(tree: Tokens) -> Tensor:
    """bool [n, n]: which tokens of the tree each one sees, itself included."""
    seen = torch.eye(len(tree), dtype=torch.bool)
    for i, parent in enumerate(tree):
        if parent >= 0:
            seen[i] |= seen[parent]
    return seen


def _without_trees(
    rows: Sequence[Row], reads: Sequence[Tokens], adapters: Sequence[Adapter | None]
) -> tuple[list[Row], list[Tokens], list[Adapter | None]]:
    """For families whose attention cannot be replaced: each state that is read becomes a plain row of its own."""
    out: tuple[list[Row], list[Tokens], list[Adapter | None]] = ([], [], [])
    for row, read, adapter in zip(rows, reads, adapters, strict=True):
        trunk = len(row.tokens) - len(row.tree)
        for at in read:
            path: list[int] = []
            node = at - trunk
            while node >= 0:
                path.append(row.tokens[trunk + node])
                node = row.tree[node]
            tokens = row.tokens[: trunk if at >= trunk else at + 1] + tuple(reversed(path))
            for part, value in zip(out, (Row(tokens), (len(tokens) - 1,), adapter), strict=True):
                part.append(value)  # type: ignore[arg-type]
    return out
