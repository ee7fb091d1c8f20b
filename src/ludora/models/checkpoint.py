"""A checkpoint's contents to bytes and back: safetensors and JSON only, nothing that could run code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

STATE, TENSORS = "state.json", ".safetensors"


def pack(tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> dict[str, bytes]:
    """The files of a checkpoint, by name: one of each table of tensors that is not empty, and one of all the rest."""
    files = {name + TENSORS: pack_tensors(values) for name, values in tensors.items() if values}
    return files | {STATE: json.dumps(state, sort_keys=True).encode()}


def unpack(files: Mapping[str, bytes]) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Inverse of `pack`: the tables of tensors, without those that were empty, and the rest."""
    tensors = {name.removesuffix(TENSORS): unpack_tensors(data) for name, data in files.items() if name != STATE}
    return tensors, json.loads(files[STATE])


def pack_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """A safetensors file holding the tensors; the same tensors always give the same bytes."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return _canonical(save(plain, dict(metadata) if metadata else None))


def _canonical(data: bytes) -> bytes:
    """safetensors writes the metadata in an order that changes from call to call: here it is sorted.

    A file is 8 bytes of length, a header in JSON, and the numbers, whose offsets count from the header's end.
    """
    stop = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:stop])
    if "__metadata__" in header:
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[stop:]


def unpack_tensors(data: bytes) -> dict[str, Tensor]:
    """Inverse of `pack_tensors`."""
    return load(data)
