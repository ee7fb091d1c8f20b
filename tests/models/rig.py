"""A tiny base with pack, engine and policy, awake adapters, and plain transformers to hold them against."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tests.models import zoo
from torch import Tensor
from transformers import PreTrainedModel

from ludora.models.adapters import Adapter, AdapterPack
from ludora.models.engine import Engine
from ludora.models.families import LoraSettings, decoder_layers
from ludora.models.load import Base
from ludora.models.policy import Policy
from ludora.models.rows import Row, Tokens
from ludora.models.storage import adapter_files

torch.set_num_threads(1)  # more of them only slow such models down

END = 2  # the tiny tokenizer's <|im_end|>


@dataclass
class Rig:
    base: Base
    pack: AdapterPack
    engine: Engine
    policy: Policy

    def add(self, name: str = "one", seed: int = 1, spread: float = 0.3, **settings: Any) -> Adapter:
        """An adapter that changes something: B is not zero."""
        return wake(self.pack.add(name, LoraSettings(**settings), seed), seed, spread)

    def states(self, texts: Sequence[Tokens], adapters: Sequence[Adapter | None], prefix: int = 0) -> list[Tensor]:
        """Hidden states [T - prefix, H] of every token after the prefix."""
        reads = [tuple(range(prefix, len(text))) for text in texts]
        out = self.engine.encode([Row(text, prefix) for text in texts], reads, adapters)
        return list(out.split([len(read) for read in reads]))

    def trunk_tokens(self) -> Counter[str]:
        """Counts from now on, under "tokens", what goes through the first layer: where it is frozen, the trunk."""
        count: Counter[str] = Counter()
        first = decoder_layers(self.base.model, self.base.family)[0]
        first.register_forward_pre_hook(lambda module, args: count.update(tokens=args[0].shape[:2].numel()))
        return count

    def logits(self, texts: Sequence[Tokens], adapters: Sequence[Adapter | None], prefix: int = 0) -> list[Tensor]:
        return [self.policy.logits(states) for states in self.states(texts, adapters, prefix)]


def rig(model_type: str = "llama", engine: dict[str, Any] | None = None, **options: Any) -> Rig:
    """`engine` goes to the Engine, all else to `load_base`, but config keys of the family to its tiny model."""
    known = ("dtype", "quantize", "gradient_checkpointing")
    base = zoo.base(model_type, **{k: v for k, v in options.items() if k in known})
    overrides = {k: v for k, v in options.items() if k not in known}
    if overrides:
        model, _ = zoo.build(model_type, **overrides)
        base = Base(**{**{f: getattr(base, f) for f in base.__dataclass_fields__}, "model": model})
    pack = AdapterPack(base)
    made = Engine(base, pack, **(engine or {}))
    return Rig(base, pack, made, Policy(made, END))


def wake(adapter: Adapter, seed: int, spread: float = 0.3) -> Adapter:
    """Random B, so that the adapter changes something and A has gradients."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, b in adapter.pairs.values():
            b.copy_(spread * torch.randn(b.shape, generator=draw))
    adapter.version += 1
    return adapter


def text(length: int, seed: int = 0) -> Tokens:
    return tuple(zoo.prompt(length, seed)[0].tolist())


def save(adapter: Adapter, base: Base, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in adapter_files(adapter, base).items():
        (folder / name).write_bytes(data)
    return folder


def plain(model_type: str, **overrides: Any) -> PreTrainedModel:
    """The same model, untouched, with transformers' own eager attention."""
    model, _ = zoo.build(model_type, **overrides)
    with contextlib.suppress(ValueError):
        model.set_attn_implementation("eager")
    return model


def plain_logits(model: Any, texts: Sequence[Tokens]) -> list[Tensor]:
    """Logits [T, V] of each text on its own, without padding or caches."""
    return [model(input_ids=torch.tensor([list(t)]), use_cache=False).logits[0].float() for t in texts]


def close(one: Tensor, other: Tensor, tolerance: float = 2e-5) -> None:
    """Equal within `tolerance` of the larger one's largest entry: fp32 sums in another order, over a few layers."""
    assert one.shape == other.shape
    one, other = one.detach(), other.detach()
    scale = max(float(other.abs().max()), 1e-9)
    assert float((one - other).abs().max()) <= tolerance * scale, float((one - other).abs().max()) / scale
