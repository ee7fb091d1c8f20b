"""How many answers are written side by side: as many as have room for their keys and values."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.models import zoo
from tests.models.rig import rig, text

from ludora.models import machine, writing
from ludora.models.attention import STEP, History


@pytest.mark.parametrize("model_type", zoo.FAMILIES)
def test_the_bytes_of_a_token_are_those_that_are_kept(model_type: str) -> None:
    r = rig(model_type)
    if not r.engine.can_extend:
        assert r.engine.token_bytes == 2 * r.base.layers * r.base.hidden * 4
        return
    r.engine.extend([past := History()], [text(STEP)], [None])
    assert r.engine.token_bytes == past.bytes / STEP


def test_heads_that_share_their_keys_are_counted_once() -> None:
    r = rig("llama", num_attention_heads=8, num_key_value_heads=2, head_dim=24)
    assert r.engine.token_bytes == 2 * r.base.layers * 2 * 24 * 4


def _policy(device: str, token_bytes: int) -> Any:
    return SimpleNamespace(
        engine=SimpleNamespace(token_bytes=token_bytes, base=SimpleNamespace(device=torch.device(device)))
    )


def test_a_wave_on_a_gpu_takes_a_share_of_what_is_free_then(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.device] = []
    token = 30 * 2 * 3 * 64 * 2  # smollm2-135m in bf16: layers, keys and values, heads, size, bytes
    lengths, new = [1_000] * 300, 64 - STEP + 24
    row = (1_000 + new + STEP) * token
    memory = iter([int(100 * row / 0.4) + 1, int(250 * row / 0.4) + 1])

    def free(device: torch.device) -> int:
        asked.append(device)
        return next(memory)

    monkeypatch.setattr(writing, "free_memory", free)
    made = [len(wave) for wave in writing.waves(_policy("cuda:1", token), lengths, [None] * 300, new, 256)]
    assert made == [100, 200] and asked == [torch.device("cuda:1")] * 2
    on_cpu = [len(wave) for wave in writing.waves(_policy("cpu", token), lengths, [None] * 300, new, 256)]
    assert on_cpu[0] == (2 << 30) // row


def test_free_memory_of_a_gpu_counts_what_torch_holds_in_reserve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1_000, 5_000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 700)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 300)
    assert machine.free_memory(torch.device("cuda:1")) == 1_400
