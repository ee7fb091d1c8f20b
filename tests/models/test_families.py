"""The families table against the models themselves, and target resolution against PEFT."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tests.models import zoo
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from ludora.errors import InputError
from ludora.models.families import (
    PRESETS,
    LoraSettings,
    decoder_layers,
    family_of,
    features,
    first_layer,
    is_linear,
    preset,
    resolve_targets,
)
from ludora.models.known import FAMILIES


def _parameters(model: PreTrainedModel, targets: Mapping[str, int]) -> int:
    return sum(rank * sum(features(model.get_submodule(name))) for name, rank in targets.items())


@pytest.mark.parametrize("model_type", zoo.FAMILIES)
def test_the_row_names_every_linear_module_of_every_layer(model_type: str) -> None:
    model, _ = zoo.build(model_type)
    family = family_of(model)
    layers = decoder_layers(model, family)
    assert len(layers) == 4
    for layer in layers:
        linear = {name for name, module in layer.named_modules() if is_linear(module)}
        assert linear == {*family.attention, *family.mlp}
        assert not {*family.attention} & {*family.mlp}
    expected = [name for name, module in model.named_modules() if is_linear(module) and name != family.head]
    assert list(resolve_targets(model, LoraSettings(rank=5)).items()) == [(name, 5) for name in expected]


@pytest.mark.parametrize("model_type", zoo.FAMILIES)
def test_backbone_head_and_softcap_give_the_models_own_logits(model_type: str) -> None:
    model, _ = zoo.build(model_type)
    family = family_of(model)
    with torch.inference_mode():
        hidden = model.get_submodule(family.backbone)(zoo.prompt()).last_hidden_state
        logits = model.get_submodule(family.head)(hidden)
        cap = getattr(model.config, family.softcap, None) if family.softcap else None
        if cap:
            logits = cap * torch.tanh(logits / cap)
        assert torch.equal(logits, model(zoo.prompt()).logits)


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "bloom", "phi3", "gpt_neo"])
def test_ranks_and_scalings_are_those_of_peft(model_type: str) -> None:
    model, _ = zoo.build(model_type)
    family = FAMILIES[model_type]
    attention, mlp = family.attention[0].rpartition(".")[2], family.mlp[-1]
    settings = LoraSettings(
        rank=4,
        alpha=6.0,
        rslora=True,
        rank_pattern=((attention, 3), (rf".*\.[12]\.{mlp}", 7), (mlp, 2)),
        alpha_pattern=((f"1.{mlp}", 5.0),),
    )
    targets = resolve_targets(model, settings)
    count = _parameters(model, targets)
    wrapped = get_peft_model(
        model,
        LoraConfig(
            r=4,
            lora_alpha=6,
            use_rslora=True,
            target_modules=list(targets),
            rank_pattern=dict(settings.rank_pattern),
            alpha_pattern=dict(settings.alpha_pattern),
            fan_in_fan_out=model_type == "gpt2",
        ),
    )
    assert count == wrapped.get_nb_trainable_parameters()[0]
    for name, rank in targets.items():
        layer = wrapped.get_submodule(f"base_model.model.{name}")
        assert layer.r["default"] == rank == settings.rank_of(name)
        assert layer.scaling["default"] == pytest.approx(settings.scaling_of(name), rel=1e-12)
    assert len(set(targets.values())) == 4


def test_targets_by_group_and_by_name() -> None:
    model, _ = zoo.build("gpt2")
    attention = resolve_targets(model, LoraSettings(targets="attention", layers="1-1"))
    assert list(attention) == ["transformer.h.1.attn.c_attn", "transformer.h.1.attn.c_proj"]
    mlp = resolve_targets(model, LoraSettings(targets="mlp", layers="1-1"))
    assert list(mlp) == ["transformer.h.1.mlp.c_fc", "transformer.h.1.mlp.c_proj"]
    both = resolve_targets(model, LoraSettings(targets=("c_proj",), layers="1-1"))
    assert list(both) == ["transformer.h.1.attn.c_proj", "transformer.h.1.mlp.c_proj"]
    one = resolve_targets(model, LoraSettings(targets=("mlp.c_proj",), layers="1-1"))
    assert list(one) == ["transformer.h.1.mlp.c_proj"]
    full = resolve_targets(model, LoraSettings(targets="transformer.h.2.mlp.c_fc"))
    assert list(full) == ["transformer.h.2.mlp.c_fc"]


@pytest.mark.parametrize(
    ("layers", "expected"), [("all", [0, 1, 2, 3]), ("top:1", [3]), ("top:4", [0, 1, 2, 3]), ("1-2", [1, 2])]
)
def test_layers(layers: str, expected: list[int]) -> None:
    model, _ = zoo.build("llama")
    targets = resolve_targets(model, LoraSettings(layers=layers))
    assert sorted({int(name.split(".")[2]) for name in targets}) == expected
    assert first_layer(targets) == expected[0]


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        (LoraSettings(targets=("q_prj",)), "'q_proj'"),
        (LoraSettings(targets="mlp.up"), "'mlp.up_proj'"),
        (LoraSettings(targets=("q_proj", "c_attn")), "known: down_proj"),
        (LoraSettings(targets="lm_head"), "linear modules"),
        (LoraSettings(targets="model.layers.3.mlp.up_proj", layers="0-1"), "known"),
        (LoraSettings(layers="top:5"), "0 to 3"),
        (LoraSettings(layers="2-4"), "0 to 3"),
        (LoraSettings(layers="3-2"), "0 to 3"),
        (LoraSettings(rank_pattern=(("c_proj", 3),)), "proj"),
        (LoraSettings(targets="attention", alpha_pattern=(("down_proj", 3.0),)), "proj"),
    ],
)
def test_what_matches_nothing_is_an_error(settings: LoraSettings, hint: str) -> None:
    model, _ = zoo.build("llama")
    with pytest.raises(InputError) as caught:
        resolve_targets(model, settings)
    assert hint in caught.value.hint
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "values",
    [
        {"rank": 0},
        {"rank_pattern": (("q_proj", 0),)},
        {"alpha": 0.0},
        {"alpha_pattern": (("q_proj", -1.0),)},
        {"dropout": 1.0},
        {"dropout": -0.1},
        {"targets": ()},
        {"targets": ""},
        {"layers": "top:0"},
        {"layers": "first"},
        {"rank_pattern": (("(", 4),)},
    ],
)
def test_settings_out_of_range_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(InputError):
        LoraSettings(**values)  # type: ignore[arg-type]


def test_scaling() -> None:
    assert LoraSettings(rank=8, alpha=16.0).scaling(8) == 2.0
    assert LoraSettings(rank=8, alpha=16.0).scaling(4) == 4.0
    assert LoraSettings(rank=16, alpha=16.0, rslora=True).scaling(16) == 4.0
    assert LoraSettings().scaling(8, 4.0) == 0.5


def test_unknown_families_are_refused() -> None:
    model, _ = zoo.build("llama")
    model.config.model_type = "lama"
    with pytest.raises(InputError) as caught:
        family_of(model)
    assert "'llama'" in caught.value.hint


def test_a_known_type_with_other_modules_is_refused() -> None:
    model, _ = zoo.build("llama")
    layer = model.get_submodule("model.layers.0.self_attn")
    layer.qkv = layer.q_proj
    del layer.q_proj
    with pytest.raises(InputError, match=r"no module 'model.layers.0.self_attn.q_proj'"):
        family_of(model)
    model, _ = zoo.build("gpt2")
    model.lm_head = nn.Identity()
    del model.transformer.h
    with pytest.raises(InputError, match=r"no module 'transformer.h'"):
        family_of(model)


def _hollow(model_type: str, **config: object) -> PreTrainedModel:
    """A model of real size without weights."""
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **config))
    return model


@pytest.mark.parametrize(
    ("model_type", "hidden", "intermediate", "layers", "heads", "kv", "vocab"),
    [
        ("llama", 576, 1536, 30, 9, 3, 49152),  # 135e6
        ("qwen2", 896, 4864, 24, 14, 2, 151936),  # 494e6
        ("llama", 3072, 8192, 28, 24, 8, 128256),  # 3.2e9
        ("qwen2", 5120, 27648, 64, 40, 8, 152064),  # 33e9
    ],
)
def test_presets_keep_the_shares_that_their_table_states(
    model_type: str, hidden: int, intermediate: int, layers: int, heads: int, kv: int, vocab: int
) -> None:
    model = _hollow(
        model_type,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv,
        vocab_size=vocab,
        tie_word_embeddings=hidden < 4096,
    )
    total = model.num_parameters()
    share = {name: 100 * _parameters(model, resolve_targets(model, preset(name, total))) / total for name in PRESETS}
    assert 0.1 <= share["efficient"] <= 0.7
    assert 0.3 <= share["balanced"] <= 0.95
    assert 0.85 <= share["quality"] <= 2.1
    assert 0.005 <= share["memory"] <= 0.12


@pytest.mark.parametrize("name", PRESETS)
def test_presets_fit_the_tiny_models(name: str) -> None:
    for model_type in zoo.FAMILIES:
        model, _ = zoo.build(model_type)
        assert resolve_targets(model, preset(name, model.num_parameters()))


def test_unknown_presets_are_refused() -> None:
    with pytest.raises(InputError, match="no preset 'fast'"):
        preset("fast", 10**9)
    with pytest.raises(InputError) as caught:
        preset("balance", 10**9)
    assert "'balanced'" in caught.value.hint
