"""Tensors to bytes and back: safetensors only, nothing that could run code."""

from __future__ import annotations

from collections.abc import Mapping

from safetensors.torch import load, save
from torch import Tensor


def pack_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """A safetensors file holding the tensors; the same tensors always give the same bytes."""
    return save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, dict(metadata or {}))


def unpack_tensors(data: bytes) -> dict[str, Tensor]:
    """Inverse of `pack_tensors`."""
    return load(data)
