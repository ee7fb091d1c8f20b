"""Which kernel of torch's attention is fed how. The numbers of whole models are in `test_engine`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ludora.models.attention import product


class OnGPU(Tensor):
    """A tensor of the CPU that says it lies on a GPU."""

    is_cuda = True  # type: ignore[assignment]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("where", [Tensor, OnGPU])
def test_grouped_heads_get_their_own_keys_under_a_mask_on_a_gpu(
    where: type[Tensor], masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, bool]] = []
    real = nn.functional.scaled_dot_product_attention

    def record(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
        seen.append((k.shape[1], options["enable_gqa"]))
        return real(q, k, v, **options)

    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", record)
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, heads, n, 16, generator=generator) for heads, n in ((6, 3), (2, 5), (2, 5)))
    bias = torch.zeros(2, 1, 1, 3, 5).masked_fill_(torch.ones(3, 5).triu(3).bool(), float("-inf")) if masked else None
    out = product(*(t.as_subclass(where) for t in (q, k, v)), bias, 0.2, None)
    with torch.no_grad():
        assert torch.allclose(out.as_subclass(Tensor), product(q, k, v, bias, 0.2, None), atol=1e-6)
    assert seen == [(6, False) if masked and where is OnGPU else (2, True)]
