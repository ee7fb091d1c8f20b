"""Our attention, plugged into transformers by its public interface.

Three reasons for our own: rows share a prefix whose keys and values are computed once (and differentiated
through); a row may end in a tree of tokens; and on a CPU torch's fused attention takes six times as long as
these few batched products in the backward pass at the lengths we train on (`docs/log.md`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

NAME = "ludora"
STEP = 64  # keys of a history that a CPU reads at a time
KeysValues = tuple[Tensor, Tensor]


@dataclass(slots=True)
class Block:
    """Rows within a flat sequence of tokens that attend together, as a grid of `rows` x width.

    Attributes:
        count: real tokens of the block.
        index: the block's token in every cell of the grid, any where the cell is padding.
        where: the cell of every real token, in order.
        rows: of the grid.
        before: number of the block that holds the prefix of every row, or None.
        allowed: bool [1 or rows, width, S]; S counts the prefix and then the row's own tokens.
        distance: int, same shape, position of the query minus position of the key, for sliding windows.
    """

    count: int
    index: Tensor
    where: Tensor
    rows: int
    before: int | None
    allowed: Tensor
    distance: Tensor
    _bias: dict[int | None, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device) -> Block:
        moved = (t.to(device, non_blocking=True) for t in (self.index, self.where, self.allowed, self.distance))
        index, where, allowed, distance = moved
        return Block(self.count, index, where, self.rows, self.before, allowed, distance)

    def grid(self, flat: Tensor, shared: Tensor | None = None) -> Tensor:
        """[count, heads, D] tokens as [rows, heads, S, D], the prefix's [P, heads, D] before each row."""
        own = flat[self.index].view(self.rows, -1, *flat.shape[1:]).transpose(1, 2)
        if shared is None:
            return own
        return torch.cat([shared.transpose(0, 1).expand(self.rows, -1, -1, -1), own], 2)

    def flatten(self, grid: Tensor) -> Tensor:
        """[rows, heads, width, D] back to the real tokens [count, heads, D]."""
        return grid.transpose(1, 2).flatten(0, 1)[self.where]

    def bias(self, window: int | None) -> Tensor:
        """Additive fp32 mask [1 or rows, 1, 1, width, S]; computed once per window size."""
        if window not in self._bias:
            self._bias[window] = _additive(self.allowed, self.distance, window)
        return self._bias[window]


@dataclass(slots=True)
class Layout:
    """How the tokens of the running batch see each other. Every attention layer reads it.

    Either `blocks` of one flat sequence, or `history`: a growing cache for each of the first rows (what follows them is
    filling), or `grid`: one cache for all rows of the batch.
    """

    blocks: list[Block] = field(default_factory=list)
    history: list[History] | None = None
    grid: Grid | None = None
    _bias: dict[tuple[int, int | None], Tensor] = field(default_factory=dict)

    def row_bias(self, row: int, past: History, window: int | None, seen: int, device: torch.device) -> Tensor:
        """The same for the fresh tokens of one conversation, [1, 1, 1, fresh, seen]: none sees what comes after it."""
        key = (row, window)
        if key not in self._bias:
            at = torch.arange(past.length, past.length + past.fresh, device=device)
            distance = at[:, None] - torch.arange(seen, device=device)
            self._bias[key] = _additive((distance >= 0)[None], distance[None], window)
        return self._bias[key]


def _additive(allowed: Tensor, distance: Tensor, window: int | None) -> Tensor:
    if window is not None:
        allowed = allowed & (distance < window)
    bias = torch.zeros(allowed.shape, dtype=torch.float32, device=allowed.device)
    return bias.masked_fill_(~allowed, float("-inf"))[:, None, None]


@dataclass(slots=True)
class History:
    """Keys and values of one conversation, all layers; grows in place. `fresh` new tokens are being added."""

    length: int = 0
    fresh: int = 0
    keys: dict[int, Tensor] = field(default_factory=dict)
    values: dict[int, Tensor] = field(default_factory=dict)

    def put(self, layer: int, k: Tensor, v: Tensor, step: int = 1) -> KeysValues:
        """Append this layer's fresh keys and values [heads, fresh, D].

        Returns:
            The whole history's, rounded up to a multiple of `step` tokens; what is beyond its end is finite, and not to
            be looked at.
        """
        stop = self.length + self.fresh
        room = self.keys[layer].shape[1] if layer in self.keys else 0
        if stop > room:
            for store, new in ((self.keys, k), (self.values, v)):
                grown = new.new_zeros(new.shape[0], _rounded(max(2 * room, stop), STEP), new.shape[2])
                if room:
                    grown[:, : self.length] = store[layer][:, : self.length]
                store[layer] = grown
        self.keys[layer][:, self.length : stop] = k
        self.values[layer][:, self.length : stop] = v
        seen = _rounded(stop, step)
        return self.keys[layer][:, :seen], self.values[layer][:, :seen]

    def copy(self) -> History:
        """A conversation that begins with the same tokens and goes on by itself."""
        keys, values = ({layer: t.clone() for layer, t in store.items()} for store in (self.keys, self.values))
        return History(self.length, 0, keys, values)

    @property
    def bytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in (*self.keys.values(), *self.values.values()))


def _rounded(count: int, step: int) -> int:
    return -(-count // step) * step


class Grid:
    """Keys and values of many conversations side by side, all layers, for answers that are written in step.

    One product per layer serves all rows, where a `History` each needs one per row. Row b holds `lengths[b]` tokens
    from the left; what stands right of them is never seen. Columns come in steps, so that few shapes serve an answer.

    Args:
        rows: how many conversations.
        device: where they are kept.
    """

    def __init__(self, rows: int, device: torch.device) -> None:
        self.lengths = torch.zeros(rows, dtype=torch.long, device=device)
        self.part = slice(0, rows)  # the rows that are being added to
        self._stores: dict[int, list[Tensor]] = {}
        self._columns = 0
        self._bias: dict[int | None, Tensor] = {}

    def begin(self, part: slice, fresh: int) -> Tensor:
        """`fresh` tokens come to each row of a part: their positions [part, fresh]."""
        self.part, self._bias = part, {}
        wanted = _rounded(int(self.lengths[part].max()) + fresh, STEP)
        if wanted > self._columns:
            self._columns = wanted
            for stores in self._stores.values():
                stores[:] = [nn.functional.pad(t, (0, 0, 0, wanted - t.shape[2])) for t in stores]
        return self.lengths[part, None] + torch.arange(fresh, device=self.lengths.device)

    def load(self, histories: Sequence[History]) -> None:
        """Begin with copies of these conversations in the first rows."""
        self.lengths[: len(histories)] = torch.tensor([past.length for past in histories]).to(self.lengths.device)
        self._columns = _rounded(max(past.length for past in histories) + 1, STEP)
        for layer in histories[0].keys:
            self._stores[layer] = []
            for of in ([past.keys[layer] for past in histories], [past.values[layer] for past in histories]):
                store = of[0].new_zeros(len(self.lengths), of[0].shape[0], self._columns, of[0].shape[2])
                for row, (past, tensor) in enumerate(zip(histories, of, strict=True)):
                    store[row, :, : past.length] = tensor[:, : past.length]
                self._stores[layer].append(store)

    def give(self, row: int, past: History) -> None:
        """Append to a conversation what has been added to its row."""
        start, stop = past.length, int(self.lengths[row])
        past.fresh = stop - start
        if past.fresh:
            for layer, (keys, values) in self._stores.items():
                past.put(layer, keys[row, :, start:stop], values[row, :, start:stop])
        past.length, past.fresh = stop, 0

    def put(self, layer: int, k: Tensor, v: Tensor, at: Tensor) -> KeysValues:
        """Write a layer's fresh keys and values [part, heads, fresh, D] at columns `at` [part, fresh]; return all."""
        if layer not in self._stores:
            shape = (len(self.lengths), k.shape[1], self._columns, k.shape[3])
            self._stores[layer] = [k.new_zeros(shape), v.new_zeros(shape)]
        rows = torch.arange(len(at), device=at.device)[:, None]
        views = [store[self.part] for store in self._stores[layer]]
        for view, new in zip(views, (k, v), strict=True):
            view[rows, :, at] = new.transpose(1, 2)  # in place; `scatter_` would copy all that is kept
        return views[0], views[1]

    def bias(self, at: Tensor, window: int | None) -> Tensor:
        """Additive mask [part, 1, 1, fresh, columns]; computed once per window size."""
        if window not in self._bias:
            distance = at[:, :, None] - torch.arange(self._columns, device=at.device)
            self._bias[window] = _additive(distance >= 0, distance, window)
        return self._bias[window]

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the rows alone."""
        self.lengths = self.lengths[rows]
        for stores in self._stores.values():
            stores[:] = [t[rows] for t in stores]


_layout: ContextVar[Layout] = ContextVar("ludora_layout")


def current() -> Layout:
    """The layout in force."""
    return _layout.get()


@contextmanager
def using(layout: Layout) -> Iterator[None]:
    """All attention layers within the block follow this layout."""
    token = _layout.set(layout)
    try:
        yield
    finally:
        _layout.reset(token)


def _grouped(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float) -> tuple[Tensor, ...]:
    """softmax(q k^T scale + bias) v with grouped heads: the result, and what its backward pass needs.

    Scores stay in the tensors' dtype, which the product rounds them to anyway; the softmax itself sums in fp32. In bf16
    this halves the memory that is moved, and that is what attention over short rows costs on a CPU.
    """
    B, H, T, D = q.shape
    G, S = k.shape[1], k.shape[2]
    q2 = (q * scale).reshape(B * G, H // G * T, D)
    k2, v2 = k.reshape(B * G, S, D), v.reshape(B * G, S, D)
    scores = torch.bmm(q2, k2.transpose(1, 2))
    if bias is not None:
        scores.view(B, G, H // G, T, S).add_(bias.to(q.dtype))
    p = torch.softmax(scores, -1)
    return torch.bmm(p, v2).view(q.shape), q2, k2, v2, p


class _Attention(torch.autograd.Function):
    """`_grouped` over a block, differentiable: products in the tensors' dtype, softmax in fp32.

    Gathering into the grid and back stands inside, because the gradient of a gather is then a gather, too.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        kp: Tensor | None,
        vp: Tensor | None,
        how: tuple[Block, Tensor, float],
    ) -> Tensor:
        """q [count, H, D]; k, v [count, G, D]; kp, vp [P, G, D] or None. Returns [count, H, D]."""
        block, bias, scale = how
        out, *kept = _grouped(block.grid(q), block.grid(k, kp), block.grid(v, vp), bias, scale)
        ctx.save_for_backward(*kept)
        ctx.how, ctx.shape, ctx.prefix = how, out.shape, 0 if kp is None else kp.shape[0]
        return block.flatten(out)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q2, k2, v2, p = ctx.saved_tensors
        block, _, scale = ctx.how
        rows, heads, width, depth = ctx.shape
        cells = grad.new_zeros(rows * width, heads, depth)  # padding has no gradient
        cells[block.where] = grad
        g = cells.view(rows, width, heads, depth).transpose(1, 2).reshape(q2.shape)
        dp = torch.bmm(g, v2.transpose(1, 2))
        ds = torch.ops.aten._softmax_backward_data(dp, p, -1, p.dtype)
        dq = block.flatten(torch.bmm(ds, k2).view(ctx.shape)).mul_(scale)
        own, shared = [], []
        for d in (torch.bmm(ds.transpose(1, 2), q2), torch.bmm(p.transpose(1, 2), g)):
            d = d.view(rows, -1, ctx.prefix + width, depth)
            own.append(block.flatten(d[:, :, ctx.prefix :]))
            total = d[:, :, : ctx.prefix].sum(0, dtype=torch.float32).to(d.dtype).transpose(0, 1)
            shared.append(total if ctx.prefix else None)
        return (dq, *own, *shared, None)


def product(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float, softcap: float | None) -> Tensor:
    """Attention of [B, H, T, D] queries over [B, G, S, D] keys; bias [1 or B, 1, 1, T, S], None where all is seen.

    Returns:
        [B, H, T, D]
    """
    if softcap is None and not q.is_cuda and not torch.is_grad_enabled():
        return _grouped(q, k, v, bias, scale)[0]
    if softcap is None:
        return _fused(q, k, v, bias, scale)
    k, v = _per_head(q, k, v)
    scores = softcap * torch.tanh((q @ k.transpose(2, 3)).float() * scale / softcap)
    return torch.softmax(scores if bias is None else scores + bias[:, 0], -1).to(q.dtype) @ v


def _fused(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """The same by torch's own kernel.

    None of its fast ones on a GPU takes both a mask and grouped heads: there each head gets its keys.
    """
    if q.is_cuda and bias is not None:
        k, v = _per_head(q, k, v)
    mask = None if bias is None else bias[:, 0].to(q.dtype)
    grouped = q.shape[1] != k.shape[1]
    return nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale, enable_gqa=grouped)


def _per_head(q: Tensor, k: Tensor, v: Tensor) -> KeysValues:
    """Keys and values [B, G, S, D] repeated for the queries' H heads."""
    groups = q.shape[1] // k.shape[1]
    return (k, v) if groups == 1 else (k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1))


def attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """transformers' attention interface: [B, heads, T, D] in, [B, T, heads, D] out."""
    layout = _layout.get()
    layer = cast(int, module.layer_idx)
    scale = options.get("scaling") or query.shape[-1] ** -0.5
    window, softcap = options.get("sliding_window"), options.get("softcap")
    if layout.grid is not None:
        at = layout.grid.lengths[layout.grid.part, None] + torch.arange(query.shape[2], device=query.device)
        keys, values = layout.grid.put(layer, key, value, at)
        out = product(query, keys, values, layout.grid.bias(at, window), scale, softcap)
        return out.transpose(1, 2).contiguous(), None
    if layout.history is not None:
        out = _ragged(layout, layer, (query, key, value), scale, window, softcap)
        return out.transpose(1, 2).contiguous(), None
    flat = [t[0].transpose(0, 1) for t in (query, key, value)]  # [T, heads, D]
    return _blocks(layout.blocks, flat, scale, window, softcap)[None], None


def _blocks(blocks: list[Block], flat: list[Tensor], scale: float, window: int | None, softcap: float | None) -> Tensor:
    """All blocks of a flat sequence, [T, H, D]; tokens that fill up its end get zeros."""
    counts = [block.count for block in blocks]
    filling = flat[0].shape[0] - sum(counts)
    qs, ks, vs = (torch.split(t, [*counts, filling]) for t in flat)
    parts = []
    for i, block in enumerate(blocks):
        kp, vp = (None, None) if block.before is None else (ks[block.before], vs[block.before])
        bias = block.bias(window)
        if softcap is None and not flat[0].is_cuda:
            how = (block, bias, scale)
            parts.append(cast(Tensor, _Attention.apply(qs[i], ks[i], vs[i], kp, vp, how)))  # type: ignore[no-untyped-call]
        else:
            grids = block.grid(qs[i]), block.grid(ks[i], kp), block.grid(vs[i], vp)
            parts.append(block.flatten(product(*grids, bias, scale, softcap)))
    return torch.cat([*parts, qs[-1].new_zeros(qs[-1].shape)])


def _ragged(
    layout: Layout,
    layer: int,
    qkv: tuple[Tensor, Tensor, Tensor],
    scale: float,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    """Each row over its own history, one after another: no row is padded to another's length.

    A CPU prepares a 16-bit product for its very shape, which takes longer than the product itself, and histories grow
    with every token: so it reads their keys up to the next multiple of `STEP`, the end masked. Torch's own kernel needs
    no preparation, but for a single query it is 15 times slower there (docs/log.md).
    """
    q, k, v = qkv
    step = 1 if q.is_cuda else STEP
    out = torch.zeros_like(q)  # rows and tokens that are filling stay zero
    for row, past in enumerate(cast("list[History]", layout.history)):
        n = past.fresh
        keys, values = past.put(layer, k[row, :, :n], v[row, :, :n], step)
        bias = layout.row_bias(row, past, window, keys.shape[1], q.device)
        out[row, :, :n] = product(q[row : row + 1, :, :n], keys[None], values[None], bias, scale, softcap)[0]
    return out


def _no_mask(*args: Any, **kwargs: Any) -> None:
    """transformers need not build a mask: `attend` reads the layout."""


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, _no_mask)
