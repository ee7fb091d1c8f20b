"""Merged models against base and adapter by PEFT, and read by plain transformers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tests.models import zoo
from transformers import AutoModelForCausalLM, AutoTokenizer

from ludora.errors import InputError, LudoraError
from ludora.models.load import Base, load_base
from ludora.models.merge import merge_adapter


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUDORA_CACHE", str(tmp_path / "cache"))


def make_adapter(folder: Path, base: Base, scale: float = 0.05, named: str = "", origin: bool = True) -> Path:
    """A random PEFT adapter with uneven ranks on all linear modules of `base`, as it would lie in a run folder."""
    family = base.family
    config = LoraConfig(
        r=4,
        lora_alpha=8,
        use_rslora=True,
        target_modules=list({name.rpartition(".")[2] for name in (*family.attention, *family.mlp)}),
        rank_pattern={family.mlp[-1]: 2},
        fan_in_fan_out=family.model_type == "gpt2",
    )
    adapted = get_peft_model(base.model, config)
    draw = torch.Generator().manual_seed(1)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data.copy_(torch.randn(parameter.shape, generator=draw) * (scale if "lora_B" in name else 0.1))
    adapted.save_pretrained(str(folder), save_embedding_layers=False)
    config_file = folder / "adapter_config.json"
    values = json.loads(config_file.read_text())
    config_file.write_text(json.dumps({**values, "base_model_name_or_path": named or base.name}))
    if origin:
        about = {"base": named or base.name, "base_fingerprint": base.fingerprint}
        tensors = load_file(folder / "adapter_model.safetensors")
        save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt", "ludora": json.dumps(about)})
    return folder


@pytest.mark.parametrize("model_type", zoo.FAMILIES)
def test_a_merged_model_is_base_and_adapter(
    model_type: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    name = f"tiny:{model_type}"
    if model_type == "qwen2":  # see below
        name = str(tmp_path_factory.mktemp("base"))
        for part in zoo.build(model_type):
            part.save_pretrained(name)

    def base() -> Base:
        return load_base(name, dtype="fp32", device="cpu")

    adapter = make_adapter(tmp_path / "adapter", base())
    report = merge_adapter(adapter, tmp_path / "out", device="cpu")
    assert report.dtype == "fp32" and report.base == name
    family = zoo.family(model_type)
    assert report.modules == 4 * len(family.attention + family.mlp)
    assert report.effect > 1e-3  # the adapter does something, and it is in the merged model:
    assert report.kl <= report.tolerance <= 1e-6
    assert report.max_abs_diff < 1e-3 and report.argmax_agreement > 0.99
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert merged.dtype == torch.float32 and not hasattr(merged, "peft_config")
    adapted = PeftModel.from_pretrained(base().model, str(adapter)).eval()
    with torch.inference_mode():
        torch.testing.assert_close(
            merged.eval()(zoo.prompt()).logits, adapted(input_ids=zoo.prompt()).logits, rtol=1e-4, atol=1e-4
        )
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.chat_template and tokenizer.encode("Move: A") == base().tokenizer.encode("Move: A")
    note = json.loads((tmp_path / "out" / "ludora_merge.json").read_text())
    assert note["base_fingerprint"] == base().fingerprint and note["kl"] == report.kl
    assert {path.name for path in tmp_path.iterdir()} - {"cache"} == {"adapter", "out"}


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_sixteen_bits(dtype: str, tmp_path: Path) -> None:
    report = merge_adapter(
        make_adapter(tmp_path / "adapter", zoo.base("llama")), tmp_path / "out", dtype=dtype, device="cpu"
    )
    assert report.dtype == dtype and 1e-8 < report.kl <= report.tolerance
    stored = {tensor.dtype for tensor in load_file(tmp_path / "out" / "model.safetensors").values()}
    assert stored == {torch.bfloat16 if dtype == "bf16" else torch.float16}


def test_auto_keeps_what_the_base_is_stored_as_and_a_given_model_wins(tmp_path: Path) -> None:
    base = zoo.base("llama")
    adapter = make_adapter(tmp_path / "adapter", base, named="elsewhere/gone", origin=False)
    base = zoo.base("llama", dtype="bf16")
    base.model.save_pretrained(tmp_path / "base")
    base.tokenizer.save_pretrained(tmp_path / "base")
    report = merge_adapter(adapter, tmp_path / "out", model=str(tmp_path / "base"), device="cpu")
    assert report.dtype == "bf16" and report.base == str(tmp_path / "base")


def test_an_adapter_that_16_bits_would_lose_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    # Large weights make a chaotic model: rounding them changes its answers more than this faint adapter does.
    model, tokenizer = zoo.build("llama", initializer_range=1.0)
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    from ludora.models.load import load_base

    base = load_base(str(tmp_path / "base"), dtype="fp32", device="cpu")
    adapter = make_adapter(tmp_path / "adapter", base, scale=1e-4)
    with pytest.raises(LudoraError, match="differs") as caught:
        merge_adapter(adapter, tmp_path / "out", dtype="bf16", device="cpu")
    assert caught.value.exit_code == 1 and "fp32" in caught.value.hint
    assert {path.name for path in tmp_path.iterdir()} == {"adapter", "base", "cache"}
    assert merge_adapter(adapter, tmp_path / "out", device="cpu").kl < 1e-6


def test_a_tokenizer_that_does_not_come_back_is_refused(tmp_path: Path) -> None:
    """transformers reads the tokenizer of every qwen2 folder as a Qwen2Tokenizer, whatever was saved."""
    adapter = make_adapter(tmp_path / "adapter", zoo.base("qwen2"))
    with pytest.raises(LudoraError, match="read back as Qwen2Tokenizer, spells text with other tokens"):
        merge_adapter(adapter, tmp_path / "out", device="cpu")
    assert {path.name for path in tmp_path.iterdir()} == {"adapter"}


def test_the_wrong_base_is_refused(tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", zoo.base("llama"))
    with pytest.raises(InputError, match="whose weights are not those") as caught:
        merge_adapter(adapter, tmp_path / "out", model="tiny:mistral", device="cpu")
    assert "tiny:llama" in caught.value.hint
    unsigned = make_adapter(tmp_path / "unsigned", zoo.base("llama"), origin=False)
    with pytest.raises(InputError, match="does not fit"):
        merge_adapter(unsigned, tmp_path / "out", model="tiny:gpt2", device="cpu")
    assert not (tmp_path / "out").exists()


def test_an_adapter_with_missing_tensors_is_refused(tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", zoo.base("llama"), origin=False)
    tensors = load_file(adapter / "adapter_model.safetensors")
    tensors.pop(next(name for name in tensors if "layers.2" in name))
    save_file(tensors, adapter / "adapter_model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="is not in both"):
        merge_adapter(adapter, tmp_path / "out", device="cpu")


def test_an_adapter_with_a_nan_is_refused(tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", zoo.base("llama"), origin=False)
    tensors = load_file(adapter / "adapter_model.safetensors")
    next(iter(tensors.values())).view(-1)[0] = float("nan")
    save_file(tensors, adapter / "adapter_model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="is not finite"):
        merge_adapter(adapter, tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


def test_quantised_bases_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    adapter = make_adapter(tmp_path / "adapter", zoo.base("llama"), origin=False)
    base = zoo.base("llama", quantize="4bit")
    base.model.save_pretrained(tmp_path / "base")
    base.tokenizer.save_pretrained(tmp_path / "base")
    with pytest.raises(InputError, match="quantised") as caught:
        merge_adapter(adapter, tmp_path / "out", model=str(tmp_path / "base"), device="cpu")
    assert "--model" in caught.value.hint


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", zoo.base("llama"))
    with pytest.raises(InputError, match="exists already"):
        merge_adapter(adapter, tmp_path, device="cpu")
    with pytest.raises(InputError, match=r"adapter_config.json is missing"):
        merge_adapter(tmp_path / "none", tmp_path / "out", device="cpu")
    with pytest.raises(InputError, match="no dtype"):
        merge_adapter(adapter, tmp_path / "out", dtype="int8", device="cpu")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        merge_adapter(adapter, tmp_path / "file" / "out", device="cpu")
    (adapter / "adapter_model.safetensors").write_bytes(b"12345678")
    with pytest.raises(InputError, match="cannot be read"):
        merge_adapter(adapter, tmp_path / "out", device="cpu")
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(InputError, match=r"adapter_model.safetensors is missing"):
        merge_adapter(adapter, tmp_path / "out", device="cpu")
