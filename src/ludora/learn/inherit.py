"""A child begins with its parent's weights: another rank or scale, but the same function wherever that can be.

More ranks: the parent's rows and columns, new rows of A at random, new columns of B zero. Fewer: the best product of
the lower rank (Eckart and Young 1936), which only keeps the function where the parent did not use more. Modules that
the parent did not adapt begin as they always do. A and B of two parents are never averaged: only their products mean
something.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ludora.models.adapters import Adapter


def inherited(parent: dict[str, Tensor], scales: dict[str, float], child: Adapter) -> dict[str, Tensor]:
    """Weights for a fresh child, under PEFT's names.

    Args:
        parent: weights of the parent, under PEFT's names.
        scales: module -> what multiplies the parent's B A x.
        child: freshly made; its new rows of A are kept.
    """
    weights = child.tensors()
    for module, (rank, _, _) in child.shapes.items():
        name = f"base_model.model.{module}"
        if module not in scales or f"{name}.lora_A.weight" not in parent:
            continue
        a, b = parent[f"{name}.lora_A.weight"], parent[f"{name}.lora_B.weight"]
        b = b * (scales[module] / child.scales[module])
        if a.shape[0] > rank:
            a, b = _truncated(a, b, rank)
        weights[f"{name}.lora_A.weight"][: a.shape[0]] = a
        weights[f"{name}.lora_B.weight"][:, : a.shape[0]] = b
    return weights


def _truncated(a: Tensor, b: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The best A' [rank, in], B' [out, rank] in place of A, B: singular values shared evenly between the two.

    By way of the QR decompositions of both, so that no matrix of the layer's own size is ever decomposed.
    """
    q_b, r_b = torch.linalg.qr(b.double())
    q_a, r_a = torch.linalg.qr(a.double().t())
    u, s, v = torch.linalg.svd(r_b @ r_a.t())
    root = s[:rank].sqrt()
    return (root[:, None] * v[:rank] @ q_a.t()).to(a.dtype), ((q_b @ u[:, :rank]) * root).to(b.dtype)
