"""Hidden states of prompts, computing nothing twice.

    row     = shared prefix | its own tokens | a tree of action tokens
    encode  = cached trunk (layers below the lowest adapted one)  ->  adapted layers  ->  states where they are read
    extend  = all layers, over the new tokens of conversations whose keys and values are kept

Distinct rows are the caller's business (`policy` deduplicates). Here: the prefix of a batch (the rules of the game) is
computed once per adapter and attended to by all rows; trunk states are cached by row under a memory bound; rows lie end
to end in one flat sequence without padding, so every matrix is multiplied once for all of them.

A row's numbers depend on the rows beside it by rounding alone: matrix kernels choose how they add up by the number of
tokens. In fp32 on one CPU thread the states of all batches of at least 16 tokens agree bit for bit, which is why
sequences and decoding steps are filled up; with more threads, products may differ in their last bit. So may, on one
thread, products with another number of columns: the logits of choices are computed for all tokens that any row of the
batch needs, and moved by up to 4.8e-7 among other rows. In bf16 all may differ: over the 30 layers of smollm2-135m that
moved the log-probability of a choice by up to 0.06 nat, of a sampled token by 0.33 (0.05 in the mean).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from ludora.errors import InputError
from ludora.models import attention
from ludora.models.adapters import Adapter, AdapterPack, Segment
from ludora.models.attention import Grid, History, Layout
from ludora.models.cache import ByteLRU
from ludora.models.families import decoder_layers, first_layer
from ludora.models.kernels import speed_up
from ludora.models.load import Base, recompute
from ludora.models.rows import Piece, Row, Tokens, fill, padded, parts, pieces, segments, without_trees


@dataclass(slots=True)
class Counters:
    """What was computed, for honest speed figures. Tokens count padding."""

    tokens: int = 0


class _Skip(nn.Module):
    """Stands where a layer is left out: hidden states pass through, as a tuple where the family's layers give one."""

    def __init__(self, as_tuple: bool) -> None:
        super().__init__()
        self.as_tuple = as_tuple

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor | tuple[Tensor]:
        return (hidden_states,) if self.as_tuple else hidden_states


class _Inject(_Skip):
    """Stands for all layers below the adapted ones: puts the cached states in."""

    value: Tensor

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor | tuple[Tensor]:
        return super().forward(self.value)


class Engine:
    """Runs a base model with its adapter pack. The model's attention is replaced for good where its family allows it.

    Args:
        cache_bytes: bound of the trunk cache.
        chunk_tokens: tokens per forward pass: enough to keep the matrix unit busy, few enough to stay in cache.
    """

    def __init__(self, base: Base, pack: AdapterPack, *, cache_bytes: int = 1 << 30, chunk_tokens: int = 3072) -> None:
        self.base, self.pack = base, pack
        self.chunk_tokens = chunk_tokens
        self.counters = Counters()
        self.backbone = base.model.get_submodule(base.family.backbone)
        self._own_attention = bool(getattr(base.model, "_supports_attention_backend", False))
        if self._own_attention:
            base.model.set_attn_implementation(attention.NAME)
        path, _, self._layers_name = base.family.layers.rpartition(".")
        self._layers_parent = base.model.get_submodule(path)
        self._layers = decoder_layers(base.model, base.family)
        self.context = getattr(base.model.config, "max_position_embeddings", None)
        if base.device.type == "cpu":
            speed_up(base.model)
        self.trunk = ByteLRU(cache_bytes)
        self.caches = True  # whether `encode` keeps the trunk states that it computes; `keep` always does
        self._depth, self._depth_at = 0, -1
        as_tuple, self.token_bytes = self._try_a_token()
        self._skip, self._inject = _Skip(as_tuple), _Inject(as_tuple)
        if base.gradient_checkpointing:
            self._recompute_in_context()

    def _try_a_token(self) -> tuple[bool, int]:
        """Families differ in what a decoder layer returns and in how many heads have keys; one token through the model
        tells.

        Returns:
            whether a layer returns a tuple, and the bytes of a token's keys and values in all layers; where attention
            is the family's own, as if every head had keys of its own.
        """
        seen: list[bool] = []
        hook = self._layers[0].register_forward_hook(lambda m, a, out: seen.append(isinstance(out, tuple)))
        ids = torch.zeros(1, 1, dtype=torch.long, device=self.base.device)
        past = History(fresh=1)
        with torch.no_grad(), attention.using(Layout(history=[past])):
            self.backbone(input_ids=ids, use_cache=False)
        hook.remove()
        full = 2 * self.base.layers * self.base.hidden * self.base.dtype.itemsize
        return seen[0], past.bytes // attention.STEP or full  # a history begins with room for so many tokens

    # ---- which layers run ------------------------------------------------------------------------------------------

    @property
    def depth(self) -> int:
        """Number of layers below the lowest adapted one; all but the last while the pack is empty."""
        if self._depth_at != self.pack.changes:
            lowest = [first_layer(adapter.pairs) for adapter in self.pack.adapters.values()]
            depth = min(lowest, default=len(self._layers) - 1)
            if depth != self._depth:
                self.trunk.clear()
            self._depth, self._depth_at = depth, self.pack.changes
        return self._depth

    @contextmanager
    def _only(self, start: int, stop: int, states: Tensor | None) -> Iterator[None]:
        """Within the block the model consists of layers start..stop-1, fed with `states`."""
        chosen: list[nn.Module] = [layer if start <= i < stop else self._skip for i, layer in enumerate(self._layers)]
        if states is not None:
            self._inject.value = states
            chosen[start - 1] = self._inject
        setattr(self._layers_parent, self._layers_name, nn.ModuleList(chosen))
        try:
            yield
        finally:
            setattr(self._layers_parent, self._layers_name, self._layers)
            if states is not None:
                del self._inject.value

    def _run(
        self, ids: Tensor, positions: Tensor | None, layout: Layout, start: int, stop: int, states: Tensor | None
    ) -> Tensor:
        """Layers start..stop-1 over a batch. Returns [B, T, H], normed if the last layer is among them."""
        self.counters.tokens += ids.numel()
        grabbed: list[Tensor] = []
        hook = None
        if stop < len(self._layers):  # the final norm must not touch a trunk: take what leaves the last layer that runs
            hook = self._layers[stop - 1].register_forward_hook(lambda m, a, out: grabbed.append(_tensor(out)))
        saving = recompute(self.base) if torch.is_grad_enabled() else nullcontext()
        try:
            with self._only(start, stop, states), attention.using(layout), saving:
                # families with their own attention count positions themselves
                where = {} if positions is None else {"position_ids": positions}
                out = self.backbone(input_ids=ids, use_cache=False, **where)
        finally:
            if hook:
                hook.remove()
        return grabbed[0] if grabbed else cast(Tensor, out.last_hidden_state)

    def _recompute_in_context(self) -> None:
        """Layers recomputed in the backward pass run under the rows, layout and dropout masks of their forward pass."""

        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            rows = self.pack.active
            layout = attention.current()
            return nullcontext(), self._again(rows, layout, {a: a.draws for a, _ in rows if a is not None})

        enable: Any = self.base.model.activation_checkpointing_enable
        options = {"use_reentrant": False, "preserve_rng_state": False, "context_fn": contexts}
        enable(activation_checkpointing_kwargs=options)
        disable: Any = self.base.model.disable_input_require_grads  # or the frozen trunk would be tracked
        disable()

    @contextmanager
    def _again(self, rows: Sequence[Segment], layout: Layout, draws: dict[Adapter, int]) -> Iterator[None]:
        later = {adapter: adapter.draws for adapter in draws}
        for adapter, count in draws.items():
            adapter.draws = count
        try:
            with self.pack.rows(*rows), attention.using(layout):
                yield
        finally:
            for adapter, count in later.items():
                adapter.draws = count

    # ---- prompts ---------------------------------------------------------------------------------------------------

    def encode(self, rows: Sequence[Row], reads: Sequence[Tokens], adapters: Sequence[Adapter | None]) -> Tensor:
        """Final hidden states where they are read, differentiable in the adapters' weights if gradients are on.

        Args:
            rows: what to encode; give each distinct (row, adapter) once.
            reads: per row the indices into `row.tokens` to read at, none of them inside the prefix.
            adapters: per row its adapter, or None for the base.

        Returns:
            [sum of len(reads), hidden], in order of rows and reads.

        Raises:
            InputError: a row is longer than the model's context.
        """
        if not self._own_attention:
            return self._encode_plainly(rows, reads, adapters)
        offsets = [0]
        for read in reads:
            offsets.append(offsets[-1] + len(read))
        found: list[Tensor] = []
        places: list[int] = []
        for piece in pieces(rows, adapters, self.chunk_tokens):
            depth = self.depth
            states = self._trunk_states(piece) if depth else None
            with self.pack.rows(*piece.owners):
                out = self._run_piece(piece, depth, len(self._layers), states)
            where: list[int] = []
            for i, start in zip(piece.members, piece.starts, strict=True):
                if i >= 0:
                    where += [start + at - rows[i].prefix for at in reads[i]]
                    places += range(offsets[i], offsets[i + 1])
            found.append(out[self._tensor(where)])
        return torch.cat(found)[self._tensor(places).argsort()]

    def _encode_plainly(
        self, rows: Sequence[Row], reads: Sequence[Tokens], adapters: Sequence[Adapter | None]
    ) -> Tensor:
        """`encode` for families whose attention cannot be replaced: whole rows through the whole model, in batches of
        equal padded length.
        """
        rows, reads, adapters = without_trees(rows, reads, adapters)
        widths: dict[int, list[int]] = {}
        for i, row in enumerate(rows):
            widths.setdefault(padded(len(row.tokens)), []).append(i)
        found: dict[int, Tensor] = {}
        for width, group in widths.items():
            for members in parts(group, adapters, width, self.chunk_tokens):
                ids, positions = fill([rows[i].tokens for i in members], [0] * len(members), width)
                self._check_length(positions)
                with self.pack.rows(*segments([adapters[i] for i in members])):
                    out = self._run(ids.to(self.base.device), None, Layout(), 0, len(self._layers), None)
                found |= {i: out[b, self._tensor(reads[i])] for b, i in enumerate(members)}
        return torch.cat([found[i] for i in range(len(rows))])

    def _run_piece(self, piece: Piece, start: int, stop: int, states: Tensor | None) -> Tensor:
        """States [T, H] of a flat sequence after layer stop-1."""
        self._check_length(piece.positions)
        device = self.base.device
        layout = Layout([block.to(device) for block in piece.blocks])
        ids, positions = (t[None].to(device, non_blocking=True) for t in (piece.ids, piece.positions))
        return self._run(ids, positions, layout, start, stop, None if states is None else states[None])[0]

    def _tensor(self, values: Any) -> Tensor:
        return torch.tensor(values, dtype=torch.long).to(self.base.device, non_blocking=True)

    def _check_length(self, positions: Tensor) -> None:
        longest = int(positions.max()) + 1
        if self.context is not None and longest > self.context:
            raise InputError(
                f"a prompt has {longest} tokens, and {self.base.name} takes {self.context} at most",
                "shorten it (history=false does), or choose a model with a longer context",
            )

    def _trunk_states(self, piece: Piece) -> Tensor:
        """States [T, H] as they enter the lowest adapted layer; computed once per distinct row and prefix."""
        known: dict[Row, Tensor] = {row: self.trunk.get(row) for row in piece.units}
        missing = [row for row, state in known.items() if state is None]
        for row, states in self._compute_trunk(missing):
            if known[row] is None:  # a prefix that was known keeps its bits
                known[row] = states
                if self.caches:
                    self._put(row, states)
        filling = len(piece.ids) - sum(len(known[row]) for row in piece.units)
        ordered = [known[row] for row in piece.units]
        return torch.cat([*ordered, ordered[0].new_zeros(filling, ordered[0].shape[1])])

    @torch.no_grad()
    def _compute_trunk(self, rows: Sequence[Row]) -> Iterator[tuple[Row, Tensor]]:
        """Trunk states [own tokens, H] of rows, beside one another and nothing else, and of their prefixes."""
        for part in pieces(rows, [None] * len(rows), self.chunk_tokens):
            states = self._run_piece(part, 0, self._depth, None)
            for row, start in zip(part.units, part.starts, strict=True):
                # a clone: a view would keep the whole piece alive in the cache
                yield row, states[start : start + len(row.tokens) - row.prefix].clone()

    def _put(self, row: Row, states: Tensor) -> None:
        self.trunk.put(row, states, states.numel() * states.element_size())

    # ---- trunk states that somebody else plans -----------------------------------------------------------------------

    @property
    def has_trunk(self) -> bool:
        """Whether there are layers below the adapted ones whose output can be kept."""
        return self._own_attention and self.depth > 0

    def room_for(self, rows: Sequence[Row]) -> int:
        """How many of these rows' trunk states, from the first on, the cache holds at once, prefixes included."""
        left = self.trunk.limit
        prefixes: set[Tokens] = set()
        for number, row in enumerate(rows):
            tokens = len(row.tokens) - row.prefix
            if row.prefix and (prefix := row.tokens[: row.prefix]) not in prefixes:
                prefixes.add(prefix)
                tokens += row.prefix
            left -= tokens * self.base.hidden * self.base.dtype.itemsize
            if left < 0:
                return number
        return len(rows)

    def keep(self, rows: Sequence[Row]) -> None:
        """Compute and keep the trunk states of these rows as a batch of their own, unless all of them are there.

        So a row has the same bits whenever it is computed, also where kernels give other bits in another batch: its
        prefix is computed alone, and what is there already is never replaced.
        """
        if not self.has_trunk:
            return
        prefixes = dict.fromkeys(Row(row.tokens[: row.prefix]) for row in rows if row.prefix)
        for group in (*([prefix] for prefix in prefixes), rows):
            if any(self.trunk.get(row) is None for row in group):
                for row, states in self._compute_trunk(group):
                    if self.trunk.get(row) is None:
                        self._put(row, states)

    # ---- conversations ---------------------------------------------------------------------------------------------

    @property
    def can_extend(self) -> bool:
        """Whether this family's attention can keep a history (else the caller encodes whole rows)."""
        return self._own_attention

    @torch.no_grad()
    def extend(
        self, histories: Sequence[History], fresh: Sequence[Tokens], adapters: Sequence[Adapter | None]
    ) -> Tensor:
        """Append tokens (at least one each) to conversations, at the cost of those tokens only.

        Returns:
            final hidden states [B, H] of the last new token of each.

        Raises:
            InputError: a conversation grows longer than the model's context.
        """
        groups: dict[int, list[int]] = {}
        for i, tokens in enumerate(fresh):
            groups.setdefault(1 if len(tokens) == 1 else padded(len(tokens)), []).append(i)
        out: dict[int, Tensor] = {}
        for width, group in groups.items():
            for members in parts(group, adapters, width, self.chunk_tokens):
                owners = segments([adapters[i] for i in members])
                states = self._extend([histories[i] for i in members], [fresh[i] for i in members], owners, width)
                out |= {i: states[b, len(fresh[i]) - 1] for b, i in enumerate(members)}
        return torch.stack([out[i] for i in range(len(histories))])

    def _extend(self, past: list[History], fresh: Sequence[Tokens], owners: list[Segment], width: int) -> Tensor:
        """Hidden states [B, width, H] of the new tokens; rows beyond the conversations are filling."""
        filling = padded(len(past)) - len(past) if width == 1 else 0
        rows, starts = [*fresh, *[(0,)] * filling], [*(h.length for h in past), *[0] * filling]
        ids, positions = fill(rows, starts, width)
        self._check_length(positions)
        for history, tokens in zip(past, fresh, strict=True):
            history.fresh = len(tokens)
        owners[-1] = (owners[-1][0], owners[-1][1] + filling)
        device = self.base.device
        with self.pack.rows(*owners):
            states = self._run(ids.to(device), positions.to(device), Layout(history=past), 0, len(self._layers), None)
        for history in past:
            history.length, history.fresh = history.length + history.fresh, 0
        return states

    @torch.no_grad()
    def advance(self, grid: Grid, part: slice, ids: Tensor, owners: Sequence[Segment]) -> Tensor:
        """Append tokens `ids` [rows, T] to some rows of a grid. `grid.lengths` is the caller's to move on, since what
        fills up short rows does not count.

        Returns:
            final hidden states [rows, T, H].

        Raises:
            InputError: a conversation grows longer than the model's context.
        """
        positions = grid.begin(part, ids.shape[1])
        self._check_length(positions)
        with self.pack.rows(*owners):
            return self._run(ids.to(self.base.device), positions, Layout(grid=grid), 0, len(self._layers), None)


def _tensor(out: Any) -> Tensor:
    return cast(Tensor, out[0] if isinstance(out, tuple) else out)
