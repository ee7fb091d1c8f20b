"""Rows of tokens and how they become batches: positions, masks, and who may share a forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ludora.models.adapters import Adapter, Segment
from ludora.models.attention import Block

Tokens = tuple[int, ...]
BLOCK = 16  # lengths, and the rows of a decoding step, are filled up to multiples of this (see `engine`)


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt to encode.

    `tokens[:prefix]` is shared with other rows. `tree` gives, for each of the last `len(tree)` tokens, its parent's
    index within the tree, or -1 for the last token before it; all other tokens follow one another.
    """

    tokens: Tokens
    prefix: int = 0
    tree: Tokens = ()


def padded(length: int) -> int:
    """The multiple of BLOCK that `length` is filled up to."""
    return -(-length // BLOCK) * BLOCK


@dataclass(slots=True)
class Piece:
    """Rows and shared prefixes laid end to end in one flat sequence, none of them padded; only its end is filled up.

    Attributes:
        units: what stands there, in order: the prefix of each (adapter, prefix), then its rows.
        starts: per unit the flat index of its first own token.
        members: the numbers of the given rows among the units; -1 for a prefix.
        ids, positions: [length] each.
        blocks: who attends to what.
        owners: adapters by counts of tokens.
    """

    units: list[Row]
    starts: list[int]
    members: list[int]
    ids: Tensor
    positions: Tensor
    blocks: list[Block]
    owners: list[Segment]


def pieces(rows: Sequence[Row], adapters: Sequence[Adapter | None], budget: int) -> Iterator[Piece]:
    """Rows of the same adapter and prefix side by side, at most about `budget` tokens a piece (but at least a row)."""
    rank = {id(a): n for n, a in enumerate(dict.fromkeys(adapters))}
    order = sorted(range(len(rows)), key=lambda i: (rank[id(adapters[i])], rows[i].tokens[: rows[i].prefix]))
    part: list[int] = []
    size = 0
    for i in order:
        own = len(rows[i].tokens) - rows[i].prefix
        if part and size + own > budget:
            yield _piece(part, rows, adapters)
            part, size = [], 0
        part.append(i)
        size += own
    if part:
        yield _piece(part, rows, adapters)


def _piece(order: list[int], rows: Sequence[Row], adapters: Sequence[Adapter | None]) -> Piece:
    units: list[Row] = []
    starts: list[int] = []
    members: list[int] = []
    blocks: list[Block] = []
    owners: list[Segment] = []
    at = 0
    groups: dict[tuple[int, Tokens], list[int]] = {}
    for i in order:
        groups.setdefault((id(adapters[i]), rows[i].tokens[: rows[i].prefix]), []).append(i)
    for (_, prefix), group in groups.items():
        adapter, before = adapters[group[0]], None
        if prefix:
            before = len(blocks)
            blocks.append(block([Row(prefix)], 0, None))
            units.append(Row(prefix))
            members.append(-1)
        blocks.append(block([rows[i] for i in group], len(prefix), before))
        units += [rows[i] for i in group]
        members += group
        owners.append((adapter, sum(b.count for b in blocks[-1 if before is None else -2 :])))
    for row in units:
        starts.append(at)
        at += len(row.tokens) - row.prefix
    filling = _filled(at) - at
    ids = torch.tensor([t for row in units for t in row.tokens[row.prefix :]] + [0] * filling)
    positions = torch.cat([_positions(row) for row in units] + [ids.new_zeros(filling)])
    return Piece(units, starts, members, ids, positions, blocks, [*owners, (None, filling)] if filling else owners)


def _positions(row: Row) -> Tensor:
    """Positions of a row's own tokens: those of a tree count from the last token before it."""
    out = torch.arange(row.prefix, len(row.tokens))
    if row.tree:
        out[-len(row.tree) :] = len(row.tokens) - len(row.tree) - 1 + torch.tensor(depths(row.tree))
    return out


def _filled(length: int) -> int:
    """Lengths come in steps of about an eighth. A matrix kernel is prepared once for every shape that it meets, which
    takes milliseconds: a few shapes must serve all batches.
    """
    step = max(BLOCK, 1 << max(0, length.bit_length() - 3))
    return -(-length // step) * step


def block(rows: Sequence[Row], prefix: int, before: int | None) -> Block:
    """How rows that stand end to end see each other and the prefix.

    Causal over prefix and row; a token of a tree sees the tokens before the tree and its own ancestors.
    """
    lengths = [len(row.tokens) - prefix for row in rows]
    width = padded(max(lengths))
    count = len(rows) if len(rows) < 8 else -(-len(rows) // 8) * 8  # few shapes, as in `_filled`
    index = torch.zeros(count, width, dtype=torch.long)
    where = []
    at = 0
    for b, length in enumerate(lengths):
        index[b, :length] = torch.arange(at, at + length)
        where.append(torch.arange(b * width, b * width + length))
        at += length
    positions = torch.arange(prefix, prefix + width)
    distance = (positions[:, None] - torch.arange(prefix + width))[None]
    allowed = distance >= 0
    if any(row.tree for row in rows):
        allowed = allowed.repeat(count, 1, 1)
        grid = positions.repeat(count, 1)
        for b, row in enumerate(rows):
            if row.tree:
                first, stop = lengths[b] - len(row.tree), lengths[b]
                grid[b, :stop] = _positions(Row(row.tokens, prefix, row.tree))
                allowed[b, first:stop, prefix + first : prefix + stop] = _ancestors(row.tree)
        shared = torch.arange(prefix).expand(count, -1)
        distance = grid[:, :, None] - torch.cat([shared, grid], 1)[:, None, :]
    return Block(at, index.view(-1), torch.cat(where), count, before, allowed, distance)


def parts(members: list[int], adapters: Sequence[Adapter | None], width: int, budget: int) -> Iterator[list[int]]:
    """Rows of `width` tokens, sorted by adapter, cut into batches of `budget` tokens (but at least a row)."""
    rank = {id(a): n for n, a in enumerate(dict.fromkeys(adapters))}
    members = sorted(members, key=lambda i: rank[id(adapters[i])])
    step = max(1, budget // width)
    for start in range(0, len(members), step):
        yield members[start : start + step]


def segments(adapters: Sequence[Adapter | None]) -> list[Segment]:
    """Consecutive rows of the same adapter, counted."""
    out: list[Segment] = []
    for adapter in adapters:
        if out and out[-1][0] is adapter:
            out[-1] = (adapter, out[-1][1] + 1)
        else:
            out.append((adapter, 1))
    return out


def fill(rows: Sequence[Tokens], starts: Sequence[int], width: int) -> tuple[Tensor, Tensor]:
    """Token ids and positions [B, width] of rows that begin at position `starts`, padded with zeros on the right.

    Padding stands at position 0, so that it never lies beyond what a model with learned positions knows.
    """
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    positions = torch.zeros(len(rows), width, dtype=torch.long)
    for b, (tokens, start) in enumerate(zip(rows, starts, strict=True)):
        ids[b, : len(tokens)] = torch.tensor(tokens)
        positions[b, : len(tokens)] = torch.arange(start, start + len(tokens))
    return ids, positions


def depths(tree: Tokens) -> list[int]:
    """Per token of a tree how far it is from the last token before the tree."""
    out: list[int] = []
    for parent in tree:
        out.append(1 if parent < 0 else out[parent] + 1)
    return out


def _ancestors(tree: Tokens) -> Tensor:
    """bool [n, n]: which tokens of the tree each one sees, itself included."""
    seen = torch.eye(len(tree), dtype=torch.bool)
    for i, parent in enumerate(tree):
        if parent >= 0:
            seen[i] |= seen[parent]
    return seen


def without_trees(
    rows: Sequence[Row], reads: Sequence[Tokens], adapters: Sequence[Adapter | None]
) -> tuple[list[Row], list[Tokens], list[Adapter | None]]:
    """For families whose attention cannot be replaced: no prefixes, and a plain row per state read from a tree."""
    plain: list[Row] = []
    places: list[Tokens] = []
    owners: list[Adapter | None] = []
    for row, read, adapter in zip(rows, reads, adapters, strict=True):
        trunk = len(row.tokens) - len(row.tree)
        if not row.tree:
            plain.append(Row(row.tokens))
            places.append(read)
            owners.append(adapter)
        for at in read if row.tree else ():
            path: list[int] = []
            node = at - trunk
            while node >= 0:
                path.append(row.tokens[trunk + node])
                node = row.tree[node]
            tokens = row.tokens[: trunk if at >= trunk else at + 1] + tuple(reversed(path))
            plain.append(Row(tokens))
            places.append((len(tokens) - 1,))
            owners.append(adapter)
    return plain, places, owners
