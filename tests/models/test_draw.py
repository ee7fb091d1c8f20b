"""Tokens are drawn for many rows at once; each is the one that a slow loop over one row finds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from ludora.models import draw as drawing
from ludora.models.draw import draw


def plainly(log_probs: Tensor, u: float, top_p: float) -> int:
    """One row in numpy: sort it, keep the likeliest that hold top_p, and look where u falls."""
    p = np.exp(log_probs.numpy().astype(np.float64))
    order = np.argsort(-p, kind="stable") if top_p < 1 else np.arange(len(p))
    p = p[order]
    if top_p < 1:
        p = p[: int((np.cumsum(p) < top_p).sum()) + 1]
    edges = np.cumsum(p)
    return int(order[min(int(np.searchsorted(edges, u * edges[-1], side="right")), len(p) - 1)])


def _some(rows: int, width: int, spread: float, seed: int = 0) -> tuple[Tensor, list[float]]:
    generator = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(rows, width, generator=generator)
    return logits, torch.rand(rows, generator=generator, dtype=torch.float64).tolist()


@pytest.mark.parametrize("top_p", [1.0, 0.999999, 0.9, 0.5, 0.01])
@pytest.mark.parametrize("spread", [0.0, 0.3, 2.0, 8.0, 60.0])
@pytest.mark.parametrize("width", [3, 320, 49_152])
def test_the_tokens_are_those_of_a_loop_over_rows(width: int, spread: float, top_p: float) -> None:
    logits, uniforms = _some(40, width, spread)
    uniforms[:2] = 0.0, 1 - 2.0**-53
    if spread:
        logits = (4 * logits).round() / 4  # many are equally likely: the earlier counts as the likelier
    log_probs = logits.log_softmax(-1)
    tokens, found = draw(logits, uniforms, top_p)
    assert tokens == [plainly(row, u, top_p) for row, u in zip(log_probs, uniforms, strict=True)]
    assert found == log_probs[range(40), tokens].tolist()


@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_a_draw_does_not_depend_on_the_rows_beside_it(top_p: float, monkeypatch: pytest.MonkeyPatch) -> None:
    logits, uniforms = _some(50, 1_001, 1.0)
    logits[::2] *= 5  # nuclei of a few tokens beside some of hundreds
    wanted = draw(logits, uniforms, top_p)
    assert tuple(map(list, zip(*(_alone(logits, uniforms, i, top_p) for i in range(50)), strict=True))) == wanted
    backwards = draw(logits.flip(0), uniforms[::-1], top_p)
    assert (backwards[0][::-1], backwards[1][::-1]) == wanted
    monkeypatch.setattr(drawing, "SMALL_PIECE", 7 * 1_001)
    assert draw(logits, uniforms, top_p) == wanted


def _alone(logits: Tensor, uniforms: list[float], i: int, top_p: float) -> tuple[int, float]:
    [token], [log_prob] = draw(logits[i : i + 1], uniforms[i : i + 1], top_p)
    return token, log_prob
