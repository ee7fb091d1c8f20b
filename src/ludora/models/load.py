"""Base models: the built-in one, tiny random ones, local folders and the hub. All frozen, in eval mode."""

from __future__ import annotations

import hashlib
import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from ludora.errors import InputError, MissingExtra, nearest
from ludora.models.builtin import builtin_folder, file_digest, quiet
from ludora.models.families import decoder_layers, family_of
from ludora.models.known import BUILTIN, Family, model_folder, weight_files
from ludora.models.machine import pick_device, pick_dtype
from ludora.models.tiny import tiny_model

QUANTIZE = ("none", "8bit", "4bit")

# It warns at every single product that 8-bit inputs are cast to fp16, and at import that no kernel was downloaded.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


@dataclass(frozen=True)
class Base:
    """A frozen base model, in eval mode, no parameter of which requires a gradient.

    `name` loads it again; `fingerprint` is the hash of its weights as they were stored, so an adapter can tell whether
    a base is its own, whatever it is called. `dtype` is what it computes in; `layers` and `hidden` are its depth and
    width; `parameters` counts its numbers, however they are stored.
    """

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    dtype: torch.dtype
    device: torch.device
    family: Family
    fingerprint: str
    layers: int
    hidden: int
    quantize: str = "none"
    gradient_checkpointing: bool = False
    parameters: int = 0


@dataclass(frozen=True)
class _Source:
    """Where weights come from: a folder, or a model made in memory."""

    fingerprint: str
    folder: Path | None = None
    made: tuple[PreTrainedModel, PreTrainedTokenizerBase] | None = None


def load_base(
    name: str,
    *,
    dtype: str = "auto",
    device: str = "auto",
    quantize: str = "none",
    gradient_checkpointing: bool = False,
    trust_remote_code: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Base:
    """Load a base model by name: `smollm2-135m`, `tiny`, `tiny:gpt2`, a local folder or a hub id.

    Args:
        name: see `known.models`.
        dtype: `bf16`, `fp32`, `fp16`, or `auto`: what multiplies fastest on this device.
        device: `cpu`, `cuda`, `cuda:N`, or `auto`.
        quantize: `8bit` (LLM.int8) or `4bit` (NF4, double quantisation), by bitsandbytes; the head stays as it is.
        gradient_checkpointing: recompute decoder layers in the backward pass, inside `recompute`.
        trust_remote_code: run the code that comes with a model. Only its architecture may then be a known one.
        say: is told in one line each what was decided, and what takes long.

    Raises:
        InputError: no such model, or an option that this model or device cannot honour.
        MissingExtra: a package is needed.
    """
    where = pick_device(device)
    compute, reason = pick_dtype(dtype, where)
    say(f"dtype: {reason}")
    if quantize != "none":
        _check_quantize(quantize, where)
    source = _find(name, trust_remote_code, say)
    if source.made and quantize != "none":
        model, tokenizer = _quantized_tiny(source.made, compute, where, quantize)
    elif source.made:
        model, tokenizer = source.made
    else:
        assert source.folder is not None
        model, tokenizer = _from_folder(source.folder, name, compute, where, quantize, trust_remote_code)
    if quantize == "none":
        _cast(model, where, compute)
    torch.nn.Module.eval(model).requires_grad_(False)
    family = family_of(model)
    if gradient_checkpointing:
        _allow_recompute(model)
    config = model.config
    return Base(
        name=name,
        model=model,
        tokenizer=tokenizer,
        dtype=compute,
        device=where,
        family=family,
        fingerprint=source.fingerprint,
        layers=len(decoder_layers(model, family)),
        hidden=int(config.hidden_size),
        quantize=quantize,
        gradient_checkpointing=gradient_checkpointing,
        parameters=_outline(source, trust_remote_code)[0] if quantize != "none" else _count(model),
    )


def _cast(model: Any, device: torch.device, dtype: torch.dtype) -> None:
    """Move a model and cast its weights. Its buffers stay what they are: frequencies of rotary positions rounded to 16
    bits would be off by a third of a percent, a radian and more at a distance of a thousand tokens.
    """
    torch.nn.Module.to(model, device=device)
    for weight in torch.nn.Module.parameters(model):
        weight.data = weight.data.to(dtype)


def outline(
    name: str, *, trust_remote_code: bool = False, say: Callable[[str], None] = lambda line: None
) -> tuple[int, Family]:
    """Number of parameters and family of a model, without reading its weights.

    Raises:
        InputError: as `load_base`.
    """
    return _outline(_find(name, trust_remote_code, say), trust_remote_code)


def _outline(source: _Source, trust_remote_code: bool) -> tuple[int, Family]:
    if source.made:
        model = source.made[0]
    else:
        read: Any = AutoConfig.from_pretrained
        make: Any = AutoModelForCausalLM.from_config
        try:
            with quiet(), torch.device("meta"):
                config = read(source.folder, trust_remote_code=trust_remote_code, local_files_only=True)
                model = make(config, trust_remote_code=trust_remote_code)
        except (OSError, ValueError, ImportError, KeyError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise InputError(f"cannot read the model's config: {reason}", "see: ludora list models") from None
    return _count(model), family_of(model)


def _count(model: PreTrainedModel) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@contextmanager
def recompute(base: Base) -> Iterator[None]:
    """Within the block, decoder layers of a base loaded with `gradient_checkpointing` keep no activations.

    They are recomputed in the backward pass, which may happen after the block. Keys and values cannot be cached inside,
    so generate outside. For other bases the block does nothing.
    """
    layers = decoder_layers(base.model, base.family) if base.gradient_checkpointing else ()
    try:
        for layer in layers:
            layer.training = True  # of the layer alone: what it is made of (dropout) stays in eval mode
        yield
    finally:
        for layer in layers:
            layer.training = False


def _allow_recompute(model: PreTrainedModel) -> None:
    if not model.supports_gradient_checkpointing:
        raise InputError(
            f"models of type {model.config.model_type!r} cannot recompute activations", "gradient_checkpointing=false"
        )
    enable: Any = model.activation_checkpointing_enable
    enable(activation_checkpointing_kwargs={"use_reentrant": False})
    # transformers lets the embeddings require a gradient, for reentrant checkpoints: that would track the frozen trunk
    disable: Any = model.disable_input_require_grads
    disable()


# ---- where a name leads --------------------------------------------------------------------------------------------


def _find(name: str, trust_remote_code: bool, say: Callable[[str], None]) -> _Source:
    local = model_folder(name)
    if name == BUILTIN:
        folder, digest = builtin_folder(say)
        return _Source(f"gguf-sha256:{digest}", folder)
    if name == "tiny" or name.startswith("tiny:"):
        model, tokenizer = tiny_model(name.partition(":")[2] or "llama")
        return _Source(_state_fingerprint(model), made=(model, tokenizer))
    folder = local or _download(name, trust_remote_code, say)
    return _Source(_folder_fingerprint(folder, name), folder)


def _download(name: str, trust_remote_code: bool, say: Callable[[str], None]) -> Path:
    """The hub's files for a model, from its cache where they are there already: JSON and safetensors only."""
    wanted = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", *(["*.py"] if trust_remote_code else [])]
    say(f"looking up {name} on the Hugging Face hub")
    try:
        return Path(snapshot_download(name, allow_patterns=wanted, ignore_patterns=["*/*", "consolidated*"]))
    except (OSError, ValueError) as error:
        hint = nearest(name, [BUILTIN, "tiny"])
        if not hint.startswith("did you mean"):
            hint = f"{BUILTIN} needs no hub; a local folder works too"
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"cannot get model {name!r} from the hub: {reason}", hint) from None


def _folder_fingerprint(folder: Path, name: str) -> str:
    """Hash of the weights. One file: its own; several: of their names and hashes."""
    files = weight_files(folder, name)
    if len(files) == 1:
        return f"safetensors-sha256:{file_digest(files[0])}"
    lines = "".join(f"{file.name} {file_digest(file)}\n" for file in files)
    return f"safetensors-sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def _state_fingerprint(model: PreTrainedModel) -> str:
    """Hash of a model made in memory: names and bytes of its parameters, in fp32 as it was made."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        digest.update(name.encode())
        digest.update(parameter.detach().numpy().tobytes())
    return f"state-sha256:{digest.hexdigest()}"


# ---- loading -------------------------------------------------------------------------------------------------------


def _from_folder(
    folder: Path, name: str, dtype: torch.dtype, device: torch.device, quantize: str, trust_remote_code: bool
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model and tokenizer of a folder.

    Raises:
        InputError: transformers cannot read it, or weights are missing (they would silently be random).
    """
    load_model: Any = AutoModelForCausalLM.from_pretrained
    load_tokenizer: Any = AutoTokenizer.from_pretrained
    options: dict[str, Any] = {"trust_remote_code": trust_remote_code, "local_files_only": True}
    quantization = {} if quantize == "none" else _quantization(quantize, dtype, device)
    try:
        with quiet():
            model, info = load_model(
                folder, dtype=dtype, use_safetensors=True, output_loading_info=True, **quantization, **options
            )
            tokenizer = load_tokenizer(folder, **options)
    except (OSError, ValueError, ImportError, KeyError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        hint = "see: ludora list models"
        if "trust_remote_code" in str(error):
            reason, hint = "it comes with its own code", "if you trust that code: trust_remote_code=true"
        raise InputError(f"cannot load model {name!r}: {reason}", hint) from None
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise InputError(
            f"model {name!r} lacks {len(missing)} of its weights, {missing[0]} for one", "download or save it again"
        )
    return model, tokenizer


def _check_quantize(quantize: str, device: torch.device) -> None:
    if quantize not in QUANTIZE:
        raise InputError(f"there is no quantisation {quantize!r}", nearest(quantize, QUANTIZE))
    if find_spec("bitsandbytes") is None:
        raise MissingExtra(f"quantize={quantize} needs bitsandbytes", "pip install 'bitsandbytes>=0.50'")


def _quantization(quantize: str, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    from transformers import BitsAndBytesConfig  # with bitsandbytes, seconds to import: only where it is used

    make: Any = BitsAndBytesConfig
    if quantize == "8bit":
        config = make(load_in_8bit=True)
    else:
        config = make(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    return {"quantization_config": config, "device_map": {"": str(device)}}


def _quantized_tiny(
    made: tuple[PreTrainedModel, PreTrainedTokenizerBase], dtype: torch.dtype, device: torch.device, quantize: str
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """bitsandbytes quantises while it loads, so a model made in memory takes the way over a folder."""
    with tempfile.TemporaryDirectory(prefix="ludora-tiny-") as folder:
        with quiet():
            for part in made:
                part.save_pretrained(folder)
        return _from_folder(Path(folder), "tiny", dtype, device, quantize, False)
