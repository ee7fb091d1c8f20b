"""The adapter pack: many LoRA adapters on one frozen base, mixed freely within a batch.

Every adapted linear layer is wrapped once. A batch is cut into segments of rows, each naming its adapter
or none; the base multiplies all rows in one go and each segment adds its own low-rank part:

    y = x W^T + b + scale_s * (x A_s^T) B_s^T          for the rows of segment s

Masters are fp32 and lie, adapter by adapter, in one flat buffer with its gradient beside it, so clipping,
the NaN guard, the optimiser step and saving are a few operations per adapter and cannot mix two of them.
The multiplication runs in the base's dtype. A row's result depends on no other row.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from ludora.errors import InputError
from ludora.models.families import LoraSettings, features, first_layer, is_linear, resolve_targets
from ludora.models.load import Base
from ludora.rng import stream

Segment = tuple["Adapter | None", int]  # (adapter or none, number of consecutive batch rows)
_serials = itertools.count()


class Adapter:
    """One LoRA adapter: fp32 masters in `flat`, their gradients in `grad`, views of both by module name.

    Args:
        shapes: module name -> (rank, in, out).
        seed: of the initial weights and the dropout masks.

    Attributes:
        flat: fp32 [parameters], a leaf parameter; `flat.grad` is `grad` itself.
        pairs: module name -> (A [rank, in], B [out, rank]), leaf parameters that are views of `flat`.
        scales: module name -> alpha / rank (alpha / sqrt(rank) with rsLoRA).
    """

    def __init__(
        self,
        name: str,
        settings: LoraSettings,
        shapes: dict[str, tuple[int, int, int]],
        seed: int,
        device: torch.device,
    ) -> None:
        self.name = name
        self.serial = next(_serials)  # no other adapter of this process has it: names and memory places come back
        self.settings = settings
        self.shapes = shapes
        self.training = False
        self.seed = seed
        self.version = 0  # grows with every change of the weights; caches of what they computed hang on it
        self.draws = 0  # dropout masks drawn so far; with `seed` the whole state of its randomness
        total = sum(rank * (fan_in + fan_out) for rank, fan_in, fan_out in shapes.values())
        self.flat = nn.Parameter(torch.zeros(total, dtype=torch.float32, device=device))
        self.grad = torch.zeros_like(self.flat)
        self.flat.grad = self.grad
        self.pairs: dict[str, tuple[nn.Parameter, nn.Parameter]] = {}
        self.scales: dict[str, float] = {}
        start = 0
        for module, (rank, fan_in, fan_out) in shapes.items():
            a = self._view(start, (rank, fan_in))
            b = self._view(start + rank * fan_in, (fan_out, rank))
            start += rank * (fan_in + fan_out)
            self.pairs[module] = (a, b)
            self.scales[module] = settings.scaling_of(module)
        self.reset(seed)

    def _view(self, start: int, shape: tuple[int, int]) -> nn.Parameter:
        size = shape[0] * shape[1]
        leaf = nn.Parameter(self.flat.data[start : start + size].view(shape))
        leaf.grad = self.grad[start : start + size].view(shape)  # autograd adds into the flat buffer in place
        return leaf

    def reset(self, seed: int) -> None:
        """PEFT's initialisation: A uniform in +-1/sqrt(fan_in), B zero; so a fresh adapter changes nothing."""
        draw = torch.Generator().manual_seed(seed % 2**63)
        with torch.no_grad():
            for a, b in self.pairs.values():
                bound = 1 / math.sqrt(a.shape[1])
                a.copy_(torch.rand(a.shape, generator=draw) * (2 * bound) - bound)
                b.zero_()
        self.version += 1

    @property
    def parameters(self) -> int:
        return self.flat.numel()

    def copy_from(self, other: Adapter) -> None:
        """Take over the weights of an adapter of the same shapes."""
        self.restore(other.flat)

    def restore(self, flat: Tensor) -> None:
        """Put back weights taken from `flat`."""
        with torch.no_grad():
            self.flat.copy_(flat)
        self.version += 1

    def tensors(self) -> dict[str, Tensor]:
        """Weights under PEFT's names, fp32 on the CPU."""
        out = {}
        for module, (a, b) in self.pairs.items():
            out[f"base_model.model.{module}.lora_A.weight"] = a.detach().cpu().clone()
            out[f"base_model.model.{module}.lora_B.weight"] = b.detach().cpu().clone()
        return out

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Inverse of `tensors`.

        Raises:
            InputError: names, shapes or numbers do not fit this adapter.
        """
        if set(tensors) != (known := set(self.tensors())):
            odd = sorted(set(tensors) ^ known)
            raise InputError(f"the adapter's weights do not fit the model: {odd[0]} ({len(odd)} in all)", _FIT)
        values: list[tuple[nn.Parameter, Tensor]] = []
        for module, pair in self.pairs.items():
            for leaf, part in zip(pair, ("lora_A", "lora_B"), strict=True):
                value = tensors[f"base_model.model.{module}.{part}.weight"]
                if value.shape != leaf.shape:
                    shapes = f"{tuple(value.shape)}, not {tuple(leaf.shape)}"
                    raise InputError(f"{module}.{part} has shape {shapes}", _FIT)
                if not torch.isfinite(value).all():
                    raise InputError(f"{module}.{part} holds numbers that are not finite", "the file is damaged")
                values.append((leaf, value))
        with torch.no_grad():  # only now, so that what does not fit leaves the adapter as it was
            for leaf, value in values:
                leaf.copy_(value)
        self.version += 1

    def keep_mask(self, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
        """A dropout mask, scaled by 1/(1-p), from this adapter's own stream."""
        draw = torch.Generator(device).manual_seed(stream("dropout", self.seed, self.draws) >> 1)
        self.draws += 1
        keep = 1 - self.settings.dropout
        return (torch.rand(shape, generator=draw, device=device) < keep).to(dtype).div_(keep)


_FIT = "was it trained on another model, or with other targets?"


@dataclass(frozen=True, slots=True)
class _Part:
    """The rows start:stop (of tokens) of one adapter within one layer."""

    start: int
    stop: int
    scale: float
    mask: Tensor | None


class _LoraLinear(torch.autograd.Function):
    """Base product and all low-rank parts in one node: no temporary of the output's size, one gradient of x.

    The plain composition costs three additions of full activations per layer in the backward pass; on a CPU
    they take as long as the multiplications.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, out: int, parts: list[_Part], *pairs: Tensor
    ) -> Tensor:
        """x [..., in]; weight [out, in] or None for the low-rank parts alone; pairs A0, B0, A1, B1, ..."""
        flat = x.reshape(-1, x.shape[-1])
        y = x.new_zeros(flat.shape[0], out) if weight is None else nn.functional.linear(flat, weight, bias)
        kept = []
        for part, a, b in zip(parts, pairs[::2], pairs[1::2], strict=True):
            rows = flat[part.start : part.stop]
            u = (rows if part.mask is None else rows * part.mask) @ a.to(x.dtype).t()
            u.mul_(part.scale)
            y[part.start : part.stop].addmm_(u, b.to(x.dtype).t())
            kept.append(u)
        ctx.save_for_backward(flat, weight, *pairs, *kept)
        ctx.parts, ctx.shape = parts, x.shape
        return y.view(*x.shape[:-1], out)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        flat, weight, *rest = ctx.saved_tensors
        n = len(ctx.parts)
        pairs, kept = rest[: 2 * n], rest[2 * n :]
        g = grad.reshape(-1, grad.shape[-1])
        wants_x = ctx.needs_input_grad[0]
        dx = (torch.zeros_like(flat) if weight is None else g @ weight) if wants_x else None
        grads: list[Tensor | None] = []
        for part, a, b, u in zip(ctx.parts, pairs[::2], pairs[1::2], kept, strict=True):
            rows, gs = flat[part.start : part.stop], g[part.start : part.stop]
            du = (gs @ b.to(g.dtype)).mul_(part.scale)
            if part.mask is None:
                grads.append((du.t() @ rows).float())
                if dx is not None:
                    dx[part.start : part.stop].addmm_(du, a.to(g.dtype))
            else:
                grads.append((du.t() @ (rows * part.mask)).float())
                if dx is not None:
                    dx[part.start : part.stop].add_((du @ a.to(g.dtype)) * part.mask)
            grads.append((gs.t() @ u).float())
        return (dx.view(ctx.shape) if dx is not None else None, None, None, None, None, *grads)


class PackedLinear(nn.Module):
    """A base layer (Linear, Conv1D or a bitsandbytes layer) with the low-rank parts of every adapter in the pack."""

    def __init__(self, name: str, base: nn.Module, pack: AdapterPack) -> None:
        super().__init__()
        self.base = base
        self.name = name
        self._pack = [pack]  # a list keeps the pack out of the module tree
        plain = type(base) is nn.Linear or type(base) is Conv1D
        self.weight = cast(Tensor, base.weight)
        self.bias = base.bias
        self._fused = plain
        self._conv = type(base) is Conv1D
        self.fan_in, self.fan_out = features(base)

    def forward(self, x: Tensor) -> Tensor:
        parts: list[_Part] = []
        pairs: list[Tensor] = []
        for adapter, start, stop in self._pack[0].spans(x.numel() // x.shape[-1]):
            if adapter is None or self.name not in adapter.pairs:
                continue
            dropout = adapter.training and adapter.settings.dropout > 0
            mask = adapter.keep_mask((stop - start, self.fan_in), x.dtype, x.device) if dropout else None
            parts.append(_Part(start, stop, adapter.scales[self.name], mask))
            pairs.extend(adapter.pairs[self.name])
        if not parts:
            return cast(Tensor, self.base(x))
        apply = cast("Callable[..., object]", _LoraLinear.apply)
        if self._fused and self.weight.dtype == x.dtype:
            weight = self.weight.t() if self._conv else self.weight
            return cast(Tensor, apply(x, weight, self.bias, self.fan_out, parts, *pairs))
        return cast(Tensor, self.base(x)) + cast(Tensor, apply(x, None, None, self.fan_out, parts, *pairs))


class AdapterPack:
    """All adapters on one base. Wraps the base's layers as adapters need them; `close` unwraps them again."""

    def __init__(self, base: Base) -> None:
        self.base = base
        self.adapters: dict[str, Adapter] = {}
        self.changes = 0  # grows as adapters come and go
        self.active: tuple[Segment, ...] = ()  # whose rows the running batch holds, in order
        self._wrapped: dict[str, PackedLinear] = {}
        if base.quantize != "none":
            _keep_differentiable(base.model)

    def add(self, name: str, settings: LoraSettings, seed: int = 0) -> Adapter:
        """A fresh adapter.

        Raises:
            InputError: the name is taken, or no module matches the settings.
        """
        if name in self.adapters:
            raise InputError(f"the pack has an adapter {name!r} already", "choose another name")
        ranks = self.targets(settings)
        shapes = {}
        for module, rank in ranks.items():
            self._wrap(module)
            packed = self._wrapped[module]
            shapes[module] = (rank, packed.fan_in, packed.fan_out)
        adapter = Adapter(name, settings, shapes, stream("adapter", seed), self.base.device)
        self.adapters[name] = adapter
        self.changes += 1
        return adapter

    def size(self, settings: LoraSettings) -> tuple[int, int]:
        """Parameters that an adapter with these settings would have, and its lowest layer."""
        ranks, wrapped = self.targets(settings), self._wrapped
        layers = {n: wrapped[n].base if n in wrapped else self.base.model.get_submodule(n) for n in ranks}
        return sum(rank * sum(features(layers[name])) for name, rank in ranks.items()), first_layer(ranks)

    def targets(self, settings: LoraSettings) -> dict[str, int]:
        """Full name of every module that an adapter of these settings has, and its rank; nothing is built.

        They are resolved on the model as its family made it, so the wrappers step aside meanwhile.

        Raises:
            InputError: no module matches the settings.
        """
        for name, packed in self._wrapped.items():
            self._put(name, packed.base)
        try:
            return resolve_targets(self.base.model, settings)
        finally:
            for name, packed in self._wrapped.items():
                self._put(name, packed)

    def _wrap(self, name: str) -> None:
        if name not in self._wrapped:
            self._wrapped[name] = PackedLinear(name, self.base.model.get_submodule(name), self)
            self._put(name, self._wrapped[name])

    def _put(self, name: str, module: nn.Module) -> None:
        parent, _, leaf = name.rpartition(".")
        setattr(self.base.model.get_submodule(parent), leaf, module)

    def copy(self, source: Adapter, name: str) -> Adapter:
        """A frozen copy of an adapter under another name, for snapshots and references."""
        twin = self.add(name, source.settings)
        twin.copy_from(source)
        return twin

    def remove(self, name: str) -> None:
        """Forget an adapter. Its layers stay wrapped: they cost next to nothing."""
        self.adapters.pop(name)
        self.changes += 1

    def close(self) -> None:
        """Give the base model its own layers back."""
        for name, packed in self._wrapped.items():
            self._put(name, packed.base)
        self._wrapped.clear()
        self.adapters.clear()
        self.changes += 1

    @contextmanager
    def rows(self, *segments: Segment) -> Iterator[None]:
        """Within the block, the batch's rows belong to these adapters, in order. Outside: all to none."""
        before, self.active = self.active, segments
        try:
            yield
        finally:
            self.active = before

    def spans(self, tokens: int) -> Iterator[tuple[Adapter | None, int, int]]:
        """The active segments as ranges of flattened tokens."""
        rows = sum(count for _, count in self.active)
        start = 0
        for adapter, count in self.active:
            stop = start + count * (tokens // rows)
            yield adapter, start, stop
            start = stop


def _keep_differentiable(model: nn.Module) -> None:
    """bitsandbytes' layers take inference for what is done in eval mode, and training for the rest.

    In eval mode a CPU repacks 4-bit weights for a kernel without a gradient, for good, and 8-bit layers round their
    input. We sample and train with the same numbers, and the flag has no other effect on these layers.
    """
    for module in model.modules():
        if is_linear(module) and type(module) is not nn.Linear and type(module) is not Conv1D:
            module.training = True


class SlotOptimizer:
    """AdamW for one adapter (or any flat fp32 parameter), with its own clipping and NaN guard.

    A step whose gradient is not finite is skipped and counted: it touches neither weights nor moments.
    """

    def __init__(
        self, flat: nn.Parameter, *, lr: float, betas: tuple[float, float], weight_decay: float, max_grad_norm: float
    ) -> None:
        self.flat = flat
        self.max_grad_norm = max_grad_norm
        self.skipped = 0
        self._adam = torch.optim.AdamW([flat], lr=lr, betas=betas, weight_decay=weight_decay, foreach=False)

    def zero_grad(self) -> None:
        cast(Tensor, self.flat.grad).zero_()

    def step(self, lr: float) -> float:
        """Clip, guard, step. Returns the gradient's norm before clipping (not finite: the step was skipped)."""
        grad = cast(Tensor, self.flat.grad)
        norm = float(grad.norm())
        if not math.isfinite(norm):
            self.skipped += 1
            return norm
        if self.max_grad_norm > 0 and norm > self.max_grad_norm:
            grad.mul_(self.max_grad_norm / norm)
        for group in self._adam.param_groups:
            group["lr"] = lr
        self._adam.step()
        return norm

    def tensors(self) -> dict[str, Tensor]:
        """Moments and step count; empty before the first step."""
        state = self._adam.state.get(self.flat, {})
        return {key: value.detach().cpu().clone().reshape(-1) for key, value in state.items()}

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        if tensors:
            device = self.flat.device
            self._adam.state[self.flat] = {
                "step": tensors["step"].reshape(()).clone(),
                "exp_avg": tensors["exp_avg"].to(device).clone(),
                "exp_avg_sq": tensors["exp_avg_sq"].to(device).clone(),
            }
