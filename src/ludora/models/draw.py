"""Drawing tokens: computed for many rows at once, on the device where their logits are.

A row's token depends on its own logits and its own uniform number, not on the rows beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ludora.errors import TrainingFailed

PIECE = 1 << 25  # logits that a GPU works on at a time: 256 MiB in fp64
SMALL_PIECE = 1 << 18  # the same on a CPU: what stays in its cache takes a third of the time
LIKELY = 64  # tokens among which a nucleus is looked for, before all are sorted
_INDEX = (1 << 32) - 1


def draw(logits: Tensor, uniforms: Sequence[float], top_p: float = 1.0) -> tuple[list[int], list[float]]:
    """The token of each row at a quantile of its distribution, or of its nucleus: the likeliest that hold top_p of it.

    Args:
        logits: fp32 [R, V].
        uniforms: the quantiles, R numbers in [0, 1).

    Returns:
        R tokens, and their log-probabilities in the whole distribution.

    Raises:
        TrainingFailed: the probabilities are not finite.
    """
    rows = max(1, (PIECE if logits.is_cuda else SMALL_PIECE) // logits.shape[1])
    quantiles = torch.tensor(uniforms, dtype=torch.float64).to(logits.device)
    pieces = zip(torch.split(logits, rows), torch.split(quantiles, rows), strict=True)
    drawn = torch.cat([_draw(piece.log_softmax(-1), u[:, None], top_p) for piece, u in pieces])
    tokens, log_probs, totals = drawn.t().tolist()  # the only thing that leaves the device
    if not all(map(math.isfinite, totals)):
        raise TrainingFailed("the model's probabilities are not finite", "use another adapter, or dtype=fp32")
    return [int(token) for token in tokens], log_probs


def _draw(log_probs: Tensor, u: Tensor, top_p: float) -> Tensor:
    """Token, its log-probability, and the sum of the probabilities drawn from, fp64 [R, 3]; u is [R, 1]."""
    if top_p < 1:
        return _from_nucleus(log_probs, u, top_p)
    edges = log_probs.double().exp().cumsum(1)
    token = torch.searchsorted(edges, u * edges[:, -1:], right=True).clamp(max=edges.shape[1] - 1)
    return torch.cat([token.double(), log_probs.gather(1, token).double(), edges[:, -1:]], 1)


def _from_nucleus(log_probs: Tensor, u: Tensor, top_p: float) -> Tensor:
    """`_draw` from the likeliest tokens. Most nuclei are small: only rows with a larger one are sorted whole."""
    ranks = _ranks(log_probs)
    likely = ranks.topk(min(LIKELY, ranks.shape[1]), 1, largest=False).values
    found, held = _among(log_probs, likely, u, top_p)
    wide = (held < top_p).nonzero()[:, 0]
    if len(wide) and likely.shape[1] < ranks.shape[1]:
        found[wide] = _among(log_probs[wide], _sorted(ranks[wide]), u[wide], top_p)[0]
    return found


def _among(log_probs: Tensor, ranks: Tensor, u: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """`_draw` from the nucleus within these ranks, which begin with the likeliest, and what all of them hold [R]."""
    tokens = ranks & _INDEX
    edges = (ranks >> 32).int().view(torch.float32).double().neg_().exp_().cumsum(1)
    last = (edges < top_p).sum(1, keepdim=True).clamp(max=edges.shape[1] - 1)
    total = edges.gather(1, last)
    token = tokens.gather(1, torch.searchsorted(edges, u * total, right=True).minimum(last))
    return torch.cat([token.double(), log_probs.gather(1, token).double(), total], 1), edges[:, -1]


def _ranks(log_probs: Tensor) -> Tensor:
    """int64 of the same shape, the smaller the likelier, then the earlier; no two of a row are equal.

    A log-probability is not positive, so without its sign the bits of the float order it; the token stands below them.
    """
    size = (log_probs.view(torch.int32) & 0x7FFFFFFF).long() << 32
    return size.add_(torch.arange(log_probs.shape[1], device=log_probs.device))


def _sorted(ranks: Tensor) -> Tensor:
    """In ascending order. On a CPU numpy's sort takes a seventh of the time of torch's."""
    return ranks.sort(1).values if ranks.is_cuda else torch.from_numpy(np.sort(ranks.numpy(), 1))
