"""Adapter folders: PEFT reads ours, we read PEFT's, and what does not fit is refused in one line."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tests.models import rig as rigs
from tests.models import zoo
from tests.models.rig import close, rig, save

from ludora.errors import InputError
from ludora.models.adapters import Adapter, AdapterPack
from ludora.models.checkpoint import pack, pack_tensors, unpack, unpack_tensors
from ludora.models.families import LoraSettings
from ludora.models.known import FAMILIES
from ludora.models.storage import CONFIG, ORIGIN, WEIGHTS, adapter_files, load_adapter

TEXTS = [rigs.text(11, 1), rigs.text(20, 2)]


def _by_peft(model_type: str, folder: Path, **config: Any) -> Any:
    """An adapter made, woken and saved by PEFT alone."""
    peft = get_peft_model(rigs.plain(model_type), LoraConfig(task_type="CAUSAL_LM", **config))
    draw = torch.Generator().manual_seed(1)
    for name, weight in peft.named_parameters():
        if "lora_B" in name:
            weight.data = 0.3 * torch.randn(weight.shape, generator=draw)
    peft.save_pretrained(str(folder))
    return peft.eval()


CONFIGS: list[tuple[str, dict[str, Any]]] = [
    ("llama", {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}),
    ("llama", {"r": 4, "lora_alpha": 3, "target_modules": "all-linear", "use_rslora": True}),
    ("llama", {"r": 3, "target_modules": r".*\.(1|3)\.mlp\.(up|down)_proj"}),
    ("llama", {"r": 3, "target_modules": ["o_proj", "up_proj"], "layers_to_transform": [0, 2]}),
    ("llama", {"r": 3, "target_modules": "all-linear", "exclude_modules": ["k_proj", "down_proj"]}),
    ("qwen3", {"r": 2, "target_modules": ["q_proj", "k_proj"], "rank_pattern": {"k_proj": 5, "nothing": 7}}),
    ("gemma", {"r": 2, "target_modules": ["q_proj", "k_proj"], "alpha_pattern": {r"layers\.1\..*q_proj": 9}}),
    ("gpt2", {"r": 4, "target_modules": ["c_attn", "c_proj", "c_fc"], "fan_in_fan_out": True}),
    ("gpt_neo", {"r": 4, "target_modules": "all-linear"}),
    ("bloom", {"r": 4, "target_modules": ["query_key_value", "dense"], "lora_dropout": 0.1}),
    ("phi3", {"r": 4, "target_modules": ["qkv_proj", "gate_up_proj"]}),
    ("gpt_neox", {"r": 4, "target_modules": ["query_key_value"]}),
]


@pytest.mark.parametrize(("model_type", "config"), CONFIGS)
def test_an_adapter_of_peft_is_the_same_here(model_type: str, config: dict[str, Any], tmp_path: Path) -> None:
    peft = _by_peft(model_type, tmp_path, **config)
    r = rig(model_type)
    adapter = load_adapter(r.pack, tmp_path, "theirs")
    assert adapter.parameters == sum(p.numel() for n, p in peft.named_parameters() if "lora_" in n)
    assert adapter.settings.dropout == config.get("lora_dropout", 0.0)
    with torch.no_grad():
        ours, theirs = r.logits(TEXTS, [adapter] * 2), rigs.plain_logits(peft, TEXTS)
        base = r.logits(TEXTS, [None] * 2)
    for one, other, without in zip(ours, theirs, base, strict=True):
        close(one, other)
        assert float((one - without).abs().max()) > 1e-2


@pytest.mark.parametrize("model_type", zoo.FAMILIES)
def test_there_and_back(model_type: str, tmp_path: Path) -> None:
    """Ours to PEFT, saved by PEFT, and back: not a bit is lost."""
    r = rig(model_type)
    family = FAMILIES[model_type]
    adapter = r.add(
        rank=4, alpha=2.5, dropout=0.05, layers="1-2", rank_pattern=((family.mlp[0], 2),), alpha_pattern=((".*", 5.0),)
    )
    folder = save(adapter, r.base, tmp_path / "ours")
    peft = PeftModel.from_pretrained(rigs.plain(model_type), str(folder), is_trainable=True)
    peft.save_pretrained(str(tmp_path / "theirs"))
    for place in (folder, tmp_path / "theirs"):
        back = load_adapter(rig(model_type).pack, place, "back")
        assert torch.equal(back.flat, adapter.flat)
        assert back.scales == pytest.approx(adapter.scales) and back.shapes == adapter.shapes
        assert back.settings.dropout == 0.05


def test_the_same_adapter_gives_the_same_bytes_and_says_where_it_comes_from(tmp_path: Path) -> None:
    r = rig()
    adapter = r.add(rank=2, alpha=4.0, layers="top:2")
    files = adapter_files(adapter, r.base)
    assert set(files) == {CONFIG, WEIGHTS, ORIGIN}
    assert all(files == adapter_files(adapter, r.base) for _ in range(5))
    config, origin = json.loads(files[CONFIG]), json.loads(files[ORIGIN])
    assert (config["peft_type"], config["task_type"], config["r"], config["lora_alpha"]) == ("LORA", "CAUSAL_LM", 2, 4)
    assert config["base_model_name_or_path"] == "tiny:llama" and config["inference_mode"] is True
    assert isinstance(config["lora_alpha"], int)  # as PEFT declares it
    assert origin == {
        "base": "tiny:llama",
        "base_fingerprint": r.base.fingerprint,
        "targets": "all-linear",
        "layers": "top:2",
    }
    save(adapter, r.base, tmp_path)
    with safe_open(tmp_path / WEIGHTS, "pt") as handle:
        assert json.loads(handle.metadata()["ludora"]) == origin


@pytest.mark.parametrize("metadata", [None, {}, {"a": "\u00e9", "b": '"quoted"', "c": "", "d": "x" * 300}])
def test_packed_tensors_are_the_same_bytes_every_time(metadata: dict[str, str] | None) -> None:
    tensors = {
        f"t{i}": torch.randn(3, i, dtype=d) for i, d in enumerate((torch.float32, torch.bfloat16, torch.float64))
    }
    tensors |= {"count": torch.tensor(3), "turned": torch.arange(6).view(2, 3).t(), "e\u0301": torch.ones(1)}
    data = pack_tensors(tensors, metadata)
    assert all(pack_tensors(tensors, metadata) == data for _ in range(5))
    back = unpack_tensors(data)
    assert set(back) == set(tensors)
    for name, tensor in tensors.items():
        assert torch.equal(back[name], tensor) and back[name].dtype == tensor.dtype


def test_a_checkpoint_comes_back_without_its_empty_tables() -> None:
    tables = {"adapter": {"flat": torch.arange(3.0)}, "state": {"x": torch.ones(1)}, "optimizer": {}}
    state = {"b": [1, None], "a": 0.1}
    files = pack(tables, state)
    assert list(files) == ["adapter.safetensors", "state.safetensors", "state.json"]
    assert files["state.json"] == b'{"a": 0.1, "b": [1, null]}'
    tensors, back = unpack(files)
    assert back == state and set(tensors) == {"adapter", "state"}
    assert torch.equal(tensors["adapter"]["flat"], tables["adapter"]["flat"])


def test_another_base_is_refused_and_a_stranger_must_fit(tmp_path: Path) -> None:
    r = rig("llama")
    save(r.add(rank=2), r.base, tmp_path / "ours")
    other = AdapterPack(zoo.base("qwen2"))
    with pytest.raises(InputError, match="on tiny:llama, whose weights are not those of tiny:qwen2") as caught:
        load_adapter(other, tmp_path / "ours", "x")
    assert "model=tiny:llama" in caught.value.hint
    _by_peft("llama", tmp_path / "narrow", r=2, target_modules=["gate_proj"])
    wide, _ = zoo.build("llama", intermediate_size=96)
    get_peft_model(wide, LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["gate_proj"])).save_pretrained(
        str(tmp_path / "wide")
    )
    pack = AdapterPack(zoo.base("llama"))
    with pytest.raises(InputError, match="has shape"):
        load_adapter(pack, tmp_path / "wide", "x")
    assert not pack.adapters  # nothing half-loaded stays behind
    assert isinstance(load_adapter(pack, tmp_path / "narrow", "x"), Adapter)
    with pytest.raises(InputError, match="already"):
        load_adapter(pack, tmp_path / "narrow", "x")
    _by_peft("llama", tmp_path / "head", r=2, target_modules=["lm_head", "q_proj"])
    with pytest.raises(InputError, match="lm_head"):
        load_adapter(pack, tmp_path / "head", "y")


def test_other_kinds_of_adapters_are_refused(tmp_path: Path) -> None:
    pack = AdapterPack(zoo.base("llama"))
    kinds: dict[str, dict[str, Any]] = {
        "use_dora": {"use_dora": True},
        "lora_bias": {"lora_bias": True},
        "modules_to_save": {"modules_to_save": ["lm_head"]},
        "plain LoRA": {"bias": "lora_only"},
    }
    for word, config in kinds.items():
        _by_peft("llama", tmp_path / word, r=2, target_modules=["q_proj"], **config)
        with pytest.raises(InputError, match=word):
            load_adapter(pack, tmp_path / word, word)
    config = IA3Config(task_type="CAUSAL_LM", target_modules=["k_proj"], feedforward_modules=[])
    get_peft_model(rigs.plain("llama"), config).save_pretrained(str(tmp_path / "ia3"))
    with pytest.raises(InputError, match="plain LoRA"):
        load_adapter(pack, tmp_path / "ia3", "ia3")
    assert not pack.adapters


def test_missing_and_damaged_files_are_one_line(tmp_path: Path) -> None:
    r = rig()
    adapter, pack = r.add(rank=2), AdapterPack(zoo.base("llama"))

    def refused(path: Path, words: str) -> None:
        with pytest.raises(InputError, match=words) as caught:
            load_adapter(pack, path, "x")
        assert "\n" not in caught.value.message and caught.value.hint
        assert not pack.adapters

    refused(tmp_path / "nowhere", f"{CONFIG} is missing")
    (tmp_path / "file").write_text("x")
    refused(tmp_path / "file", "is not a folder")
    damage = {
        "config": (CONFIG, b"{", "cannot be read"),
        "list": (CONFIG, b"[]", "holds no table"),
        "empty": (CONFIG, b"{}", "plain LoRA"),
        "cut": (WEIGHTS, None, "cannot be read"),
        "bytes": (WEIGHTS, b"\xff" * 40, "cannot be read"),
    }
    for name, (file, data, words) in damage.items():
        folder = save(adapter, r.base, tmp_path / name)
        whole = (folder / file).read_bytes()
        (folder / file).write_bytes(whole[: len(whole) // 2] if data is None else data)
        refused(folder, words)
    for file in (CONFIG, WEIGHTS):
        folder = save(adapter, r.base, tmp_path / f"no-{file}")
        (folder / file).unlink()
        refused(folder, f"{file} is missing")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("r", "x", "r = 'x'"),
        ("r", -1, "r = -1"),
        ("r", 2.5, "r = 2.5"),
        ("r", True, "r = True"),
        ("r", None, "plain LoRA"),
        ("r", 10**9, "no weights of rank 1000000000"),
        ("lora_alpha", math.nan, "lora_alpha = nan"),
        ("lora_alpha", [2], "lora_alpha = "),
        ("lora_dropout", "x", "lora_dropout = 'x'"),
        ("rank_pattern", [1], "rank_pattern = "),
        ("rank_pattern", {"(": 2}, "rank_pattern = "),
        ("rank_pattern", {"q_proj": "x"}, "rank_pattern = "),
        ("rank_pattern", {"q_proj": 10**9}, "no weights of rank 1000000000"),
        ("alpha_pattern", {"q_proj": 0}, "alpha_pattern = "),
    ],
)
def test_a_value_that_cannot_be_is_one_line(key: str, value: object, words: str, tmp_path: Path) -> None:
    r = rig()
    folder, pack = save(r.add(rank=2), r.base, tmp_path), AdapterPack(zoo.base("llama"))
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, key: value}))
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        load_adapter(pack, folder, "x")
    assert "\n" not in caught.value.message and caught.value.hint and not pack.adapters


def test_an_origin_that_is_no_table_is_one_line(tmp_path: Path) -> None:
    r = rig()
    folder = save(r.add(rank=2), r.base, tmp_path)
    save_file(load_file(folder / WEIGHTS), folder / WEIGHTS, {"format": "pt", "ludora": "[1]"})
    with pytest.raises(InputError, match="holds no table"):
        load_adapter(AdapterPack(zoo.base("llama")), folder, "x")


def test_weights_that_are_incomplete_or_not_finite_are_refused(tmp_path: Path) -> None:
    peft = _by_peft("llama", tmp_path, r=2, target_modules=["q_proj", "up_proj"])
    del peft
    tensors = load_file(tmp_path / WEIGHTS)
    first = next(iter(tensors))
    pack = AdapterPack(zoo.base("llama"))
    save_file({k: v for k, v in tensors.items() if k != first}, tmp_path / WEIGHTS)
    with pytest.raises(InputError, match="do not fit"):
        load_adapter(pack, tmp_path, "x")
    save_file({**tensors, first: torch.full_like(tensors[first], float("nan"))}, tmp_path / WEIGHTS)
    with pytest.raises(InputError, match="not finite"):
        load_adapter(pack, tmp_path, "x")
    save_file({k: v.to(torch.bfloat16) for k, v in tensors.items()}, tmp_path / WEIGHTS)
    adapter = load_adapter(pack, tmp_path, "x")  # stored in bf16, masters in fp32
    assert adapter.flat.dtype == torch.float32 and list(pack.adapters) == ["x"]


def test_an_adapter_read_back_goes_on_learning_as_it_would_have(tmp_path: Path) -> None:
    """Same outputs, same gradients: what is stored is all there is."""
    r, s = rig("gpt2"), rig("gpt2")
    adapter = r.add(rank=3, alpha=1.5, rslora=True)
    back = load_adapter(s.pack, save(adapter, r.base, tmp_path), "back")
    assert back.settings == LoraSettings(3, 1.5, rslora=True, targets=tuple(adapter.shapes))
    for one, owner in ((r, adapter), (s, back)):
        torch.stack([x.square().sum() for x in one.logits(TEXTS, [owner] * 2)]).sum().backward()
    assert torch.equal(adapter.grad, back.grad)
