"""A tiny random model of every family, for all tests of models."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from ludora.models.known import FAMILIES as TABLE
from ludora.models.known import Family
from ludora.models.load import Base, load_base
from ludora.models.tiny import tiny_model

FAMILIES: tuple[str, ...] = tuple(TABLE)


def build(model_type: str, seed: int = 0, **overrides: Any) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """A new model of this family in fp32 (4 layers, width 64) and its tokenizer."""
    return tiny_model(model_type, seed, **overrides)


def base(model_type: str, dtype: str = "fp32", **options: Any) -> Base:
    """A new base model of this family, on the CPU."""
    return load_base(f"tiny:{model_type}", dtype=dtype, device="cpu", **options)


def family(model_type: str) -> Family:
    return TABLE[model_type]


@cache
def prompt(length: int = 24, seed: int = 0) -> torch.Tensor:
    """Token ids [1, length] that every tiny tokenizer knows, none of them special."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(3, 321, (1, length), generator=draw)
