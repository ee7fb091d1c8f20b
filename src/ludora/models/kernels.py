"""Fewer passes over activations, for the CPU: the same mathematics as transformers' modules, the same rounding.

A small model on a CPU with a matrix unit spends more time moving activations through memory than multiplying them, and
every operation that autograd records is moved through once more in the backward pass. See `docs/log.md` for
what it measures to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn


class _RMSNorm(torch.autograd.Function):
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension, in fp32, with no gradient for the (frozen) weight.

    Composed of torch's operations, the backward pass takes twice as long as this one.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, late: bool) -> Tensor:
        """x [..., H]; `late`: cast to x's dtype after the product with the weight, not before it."""
        h = x.float() if x.dtype != torch.float32 else x.clone()
        scale = torch.linalg.vector_norm(h, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        h.mul_(scale)
        return h.mul_(weight).to(x.dtype) if late else h.to(x.dtype).mul_(weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """dx = s g' - x s^3 mean(g' x), where g' = grad * weight and s is the row's scale."""
        x, weight, scale = ctx.saved_tensors
        g, h = (grad * weight).float(), x.float()
        pull = (g * h).sum(-1, keepdim=True).mul_(scale**3).div_(-x.shape[-1])
        return g.mul_(scale).addcmul_(h, pull).to(grad.dtype), None, None, None


@dataclass(frozen=True, slots=True)
class _Kind:
    """How families differ: the cast comes `late` (olmo, gemma), and the stored weight lacks `offset` (gemma: 1)."""

    late: bool
    offset: float


_KINDS = (_Kind(False, 0.0), _Kind(True, 0.0), _Kind(True, 1.0))


class FastRMSNorm(nn.Module):
    """Stands where a family's own RMSNorm was, with its weight under the same name."""

    def __init__(self, norm: nn.Module, kind: _Kind) -> None:
        super().__init__()
        self.weight = cast(nn.Parameter, norm.weight)
        self.eps = _eps(norm)
        self.kind = kind
        scale = self.weight.detach().float() + kind.offset if kind.late else None
        self.register_buffer("_scale", scale, persistent=False)

    def forward(self, hidden_states: Tensor) -> Tensor:
        late = self.kind.late
        weight = cast(Tensor, self._scale) if late else self.weight
        return cast(Tensor, _RMSNorm.apply(hidden_states, weight, self.eps, late))  # type: ignore[no-untyped-call]


def speed_up(model: nn.Module) -> int:
    """Replace the RMSNorms of a frozen model on the CPU by faster ones; returns how many.

    Families differ in where they cast and in what the weight means, so each norm is tried on random numbers first
    and one whose result cannot be reproduced stays as it is.
    """
    found = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if type(child).__name__.endswith("RMSNorm") and not isinstance(child, FastRMSNorm)
    ]
    replaced = 0
    for parent, name, norm in found:
        fast = _fast(norm)
        if fast is not None:
            setattr(parent, name, fast)
            replaced += 1
    return replaced


@torch.no_grad()
def _fast(norm: nn.Module) -> FastRMSNorm | None:
    """The fast norm that comes nearest; None if none comes near enough, or if this norm is not ours to replace."""
    weight = getattr(norm, "weight", None)
    if weight is None or weight.requires_grad or weight.device.type != "cpu" or norm._forward_hooks:
        return None
    probe = torch.randn(8, len(weight), generator=torch.Generator().manual_seed(0)).to(weight.dtype)
    wanted = norm(probe)
    errors = {}
    for kind in _KINDS:
        fast = FastRMSNorm(norm, kind)
        got = fast(probe)
        if got.dtype == wanted.dtype:
            errors[float((got.double() - wanted.double()).abs().div(wanted.double().abs() + 1e-6).max())] = fast
    # two steps of the dtype: the sum of squares may be added up in another order
    return errors[min(errors)] if errors and min(errors) <= max(2 * torch.finfo(weight.dtype).eps, 1e-5) else None


def _eps(norm: nn.Module) -> float:
    eps = getattr(norm, "variance_epsilon", None)
    return float(cast(float, getattr(norm, "eps", 0.0) if eps is None else eps))
