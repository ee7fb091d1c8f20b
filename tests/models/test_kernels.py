"""The fast kernels give what the plain composition gives, forwards and backwards, for every family."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ludora.models.kernels import FastRMSNorm, grouped_attention, speed_up

from tests.models.zoo import FAMILIES, base, prompt

DTYPES = {"fp32": 1e-4, "bf16": 0.05}  # bound of the relative difference of logits and gradients
WITHOUT = {"phi", "gpt2", "gpt_neo", "gpt_neox", "bloom"}  # these have LayerNorm


def difference(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() - wanted.double()).norm() / wanted.double().norm())


def logits_and_gradient(model: nn.Module, embedded: Tensor) -> tuple[Tensor, Tensor]:
    x = embedded.clone().requires_grad_()
    logits = model(inputs_embeds=x).logits
    return logits.detach(), torch.autograd.grad(logits.float().pow(2).sum(), x)[0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_computes_the_same(family: str, dtype: str) -> None:
    model = base(family, dtype).model
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():  # a fresh norm's weights are all the same number, which would hide what they mean
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.add_(0.3 * torch.rand(weight.shape, generator=draw).to(weight.dtype))
    names = set(model.state_dict())
    embedded = model.get_input_embeddings()(prompt()).detach()
    logits, gradient = logits_and_gradient(model, embedded)
    replaced = speed_up(model)
    assert (replaced == 0) == (family in WITHOUT)
    assert replaced == sum(isinstance(module, FastRMSNorm) for module in model.modules())
    assert set(model.state_dict()) == names
    fast_logits, fast_gradient = logits_and_gradient(model, embedded)
    assert difference(fast_logits, logits) <= DTYPES[dtype]
    assert difference(fast_gradient, gradient) <= DTYPES[dtype]
    assert speed_up(model) == 0


def test_a_norm_that_is_trained_or_unknown_stays() -> None:
    class OddRMSNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(8), requires_grad=False)
            self.eps = 1e-6

        def forward(self, x: Tensor) -> Tensor:
            return x / x.abs().mean(-1, keepdim=True) * self.weight

    trained = base("llama").model
    for parameter in trained.parameters():
        parameter.requires_grad_(True)
    assert speed_up(trained) == 0
    assert speed_up(nn.Sequential(OddRMSNorm())) == 0


def plain_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = q @ k.transpose(2, 3) * scale
    return torch.softmax(scores if bias is None else scores + bias[:, 0], -1) @ v


@pytest.mark.parametrize("scale", [0.125, 0.3])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.bfloat16, 0.01)])
def test_attention_is_the_plain_one(dtype: torch.dtype, bound: float, masked: bool, scale: float) -> None:
    draw = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(3, heads, n, 16, generator=draw).to(dtype) for heads, n in ((6, 10), (2, 24), (2, 24)))
    bias = torch.full((10, 24), float("-inf")).triu(15)[None, None, None] if masked else None
    leaves = [x.clone().requires_grad_() for x in (q, k, v)]
    exact = [x.double().requires_grad_() for x in (q, k, v)]
    out = grouped_attention(leaves[0], leaves[1], leaves[2], bias, scale)
    wanted = plain_attention(exact[0], exact[1], exact[2], None if bias is None else bias.double(), scale)
    grad = torch.randn(out.shape, generator=draw).to(dtype)
    assert difference(out.detach(), wanted.detach()) <= bound
    pairs = zip(torch.autograd.grad(out, leaves, grad), torch.autograd.grad(wanted, exact, grad.double()), strict=True)
    assert all(difference(found, expected) <= bound for found, expected in pairs)
    with torch.no_grad():
        assert torch.equal(grouped_attention(q, k, v, bias, scale), out)
