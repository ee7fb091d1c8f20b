"""The fast norms give what a family's own give, forwards and backwards, for every family."""

from __future__ import annotations

import pytest
import torch
from tests.models.zoo import FAMILIES, base, prompt
from torch import Tensor, nn

from ludora.models.kernels import FastRMSNorm, speed_up

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
