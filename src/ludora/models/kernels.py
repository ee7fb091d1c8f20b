"""Fewer passes over activations, for the CPU: the same mathematics as transformers' modules, the same rounding.

A small model on a CPU with a matrix unit spends more time moving activations through memory than multiplying them, and
every operation that autograd records is moved through once more in the backward pass. Both kernels together
take a sixth off a training pass of the built-in model (`docs/log.md`).
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


class _Attention(torch.autograd.Function):
    """softmax(q k^T scale + bias) v with grouped heads.

    Scores and probabilities keep the tensors' dtype between operations and are fp32 within each: casting in between
    would round at the same places, and doubles the memory they take.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float) -> Tensor:
        out, *kept = _grouped(q, k, v, bias, scale)
        ctx.save_for_backward(*kept)
        ctx.scale, ctx.shapes = scale, (q.shape, k.shape)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q2, k2, v2, p = ctx.saved_tensors
        q_shape, k_shape = ctx.shapes
        g = grad.reshape(q2.shape)
        dv = torch.bmm(p.transpose(1, 2), g)
        dp = torch.bmm(g, v2.transpose(1, 2))
        ds = torch.ops.aten._softmax_backward_data(dp, p, -1, p.dtype)
        dq, dk = torch.bmm(ds, k2).mul_(ctx.scale), torch.bmm(ds.transpose(1, 2), q2)
        return dq.view(q_shape), dk.view(k_shape), dv.view(k_shape), None, None


def _grouped(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float) -> tuple[Tensor, ...]:
    """The result, and what its backward pass needs. The scale goes into q: exact where it is a power of two."""
    B, H, T, D = q.shape
    G, S = k.shape[1], k.shape[2]
    q2 = q.reshape(B * G, H // G * T, D) * scale
    k2, v2 = k.reshape(B * G, S, D), v.reshape(B * G, S, D)
    scores = torch.bmm(q2, k2.transpose(1, 2))
    if bias is not None:
        scores.view(B, G, H // G, T, S).add_(bias.to(q.dtype))
    p = torch.softmax(scores, -1)
    return torch.bmm(p, v2).view(q.shape), q2, k2, v2, p


def grouped_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """Attention on the CPU, differentiable in q, k and v.

    Args:
        q: [B, H, T, D].
        k, v: [B, G, S, D] with H a multiple of G.
        bias: 0 or -inf, [1 or B, 1, 1, T, S]; None where all is seen.

    Returns:
        [B, H, T, D]
    """
    if not torch.is_grad_enabled():
        return _grouped(q, k, v, bias, scale)[0]
    return cast(Tensor, _Attention.apply(q, k, v, bias, scale))  # type: ignore[no-untyped-call]


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
