"""Rows of tokens and how they become batches: positions, masks, and who may share a forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ludora.models.adapters import Adapter, Segment
from ludora.models.attention import Layout

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


@dataclass(slots=True)
class Batch:
    """The numbers of rows of one prefix and one padded length `width` (prefix not counted), sorted by adapter."""

    rows: list[int]
    prefix: Tokens
    width: int


def padded(length: int) -> int:
    """The multiple of BLOCK that `length` is filled up to."""
    return -(-length // BLOCK) * BLOCK


def batches(rows: Sequence[Row], adapters: Sequence[Adapter | None], budget: int) -> Iterator[Batch]:
    """Rows of one prefix and padded length together, sorted by adapter, at most `budget` tokens or one row."""
    groups: dict[tuple[Tokens, int], list[int]] = {}
    for i, row in enumerate(rows):
        groups.setdefault((row.tokens[: row.prefix], padded(len(row.tokens) - row.prefix)), []).append(i)
    for (prefix, width), members in groups.items():
        for part in parts(members, adapters, width, budget):
            yield Batch(part, prefix, width)


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


def lay_out(rows: Sequence[Row], prefix: int, width: int) -> tuple[Tensor, Tensor, Layout]:
    """Ids and positions [B, width] of what follows the prefix, and how these tokens see each other.

    Causal over prefix and row; a token of a tree sees the tokens before the tree and its own ancestors.
    """
    ids, positions = fill([row.tokens[prefix:] for row in rows], [prefix] * len(rows), width)
    distance = (torch.arange(prefix, prefix + width)[:, None] - torch.arange(prefix + width))[None]
    allowed = distance >= 0
    if any(row.tree for row in rows):
        allowed = allowed.repeat(len(rows), 1, 1)
        for b, row in enumerate(rows):
            stop = len(row.tokens) - prefix
            start = stop - len(row.tree)
            if row.tree:
                positions[b, start:stop] = prefix + start - 1 + torch.tensor(depths(row.tree))
                allowed[b, start:stop, prefix + start : prefix + stop] = _ancestors(row.tree)
        before = torch.arange(prefix).expand(len(rows), -1)
        distance = positions[:, :, None] - torch.cat([before, positions], 1)[:, None, :]
    return ids, positions, Layout(allowed=allowed, distance=distance)


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
