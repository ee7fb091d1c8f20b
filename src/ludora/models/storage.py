"""Adapters on disk, in PEFT's format: `adapter_config.json` and `adapter_model.safetensors`.

What PEFT does not record - which base it was trained on, by content - stands under `ludora` in the safetensors header
and in `ludora.json` beside it. The latter also tells the data set of an adapter that was evolved on one, and hashes of
the questions that it has seen.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from ludora.errors import InputError
from ludora.models.adapters import Adapter, AdapterPack
from ludora.models.checkpoint import pack_tensors
from ludora.models.families import LoraSettings
from ludora.models.known import ADAPTER_FILES, ORIGIN, check_adapter
from ludora.models.load import Base

CONFIG, WEIGHTS = ADAPTER_FILES


def adapter_files(adapter: Adapter, base: Base, data: Mapping[str, Any] | None = None) -> dict[str, bytes]:
    """The files of an adapter folder, by name; PEFT loads them as they are.

    Args:
        data: what is to be recorded of the data set that it learnt.
    """
    from peft import LoraConfig, TaskType  # seconds to import, and needed once per run

    settings = adapter.settings
    alphas = {name: settings.alpha_of(name) for name in adapter.shapes}
    make: Any = LoraConfig
    config = make(
        task_type=TaskType.CAUSAL_LM,
        base_model_name_or_path=base.name,
        r=settings.rank,
        lora_alpha=_whole(settings.alpha),
        lora_dropout=settings.dropout,
        use_rslora=settings.rslora,
        target_modules=list(adapter.shapes),
        rank_pattern={name: rank for name, (rank, _, _) in adapter.shapes.items() if rank != settings.rank},
        alpha_pattern={name: _whole(alpha) for name, alpha in alphas.items() if alpha != settings.alpha},
        fan_in_fan_out=base.model.config.model_type == "gpt2",
        inference_mode=True,
        bias="none",
    ).to_dict()
    origin = {
        "base": base.name,
        "base_fingerprint": base.fingerprint,
        "targets": settings.targets if isinstance(settings.targets, str) else list(settings.targets),
        "layers": settings.layers,
    }
    dump = {"format": "pt", "ludora": json.dumps(origin, sort_keys=True)}
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    return {
        CONFIG: json.dumps(plain, indent=2, sort_keys=True).encode(),
        WEIGHTS: pack_tensors(adapter.tensors(), dump),
        ORIGIN: json.dumps(origin | ({"data": dict(data)} if data else {}), indent=2, sort_keys=True).encode(),
    }


def _whole(alpha: float) -> int | float:
    """PEFT declares alpha a whole number, but multiplies by any."""
    return int(alpha) if alpha == int(alpha) else alpha


def load_adapter(pack: AdapterPack, path: Path, name: str) -> Adapter:
    """Read a PEFT LoRA adapter into a pack.

    Raises:
        InputError: no adapter there, a kind that is not plain LoRA, another base, or weights that do not fit.
    """
    config, tensors, origin = read_adapter(path)
    if origin and origin.get("base_fingerprint") != pack.base.fingerprint:
        trained = origin.get("base", "another model")
        raise InputError(
            f"the adapter in {path} was trained on {trained}, whose weights are not those of {pack.base.name}",
            f"choose that base: model={trained}",
        )
    adapter = pack.add(name, _settings(config, tensors, path))
    try:
        adapter.load_tensors({key: value.float() for key, value in tensors.items()})
    except InputError:
        pack.remove(name)
        raise
    return adapter


def read_adapter(path: Path) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Any]]:
    """PEFT's config, the tensors, and what the file's header says of its origin (nothing if it was not made here).

    Raises:
        InputError: no adapter there, or a damaged one.
    """
    check_adapter(path)
    try:
        config = json.loads((path / CONFIG).read_text())
        tensors = load_file(path / WEIGHTS)
        with safe_open(path / WEIGHTS, "pt") as handle:
            origin = json.loads((handle.metadata() or {}).get("ludora", "{}"))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"the adapter in {path} cannot be read: {reason}", "copy it again") from None
    if not isinstance(config, dict) or not isinstance(origin, dict):
        where = WEIGHTS if isinstance(config, dict) else CONFIG
        raise InputError(f"the adapter in {path} cannot be read: {where} holds no table", "copy it again")
    for key, fits in _VALUES.items():
        if config.get(key) is not None and not fits(config[key]):
            raise InputError(f"the adapter in {path} is damaged: {key} = {config[key]!r}", "copy it again")
    # PEFT adapts what has the weights; a rank that none of them has would only take memory
    widest = max((max(tensor.shape, default=0) for tensor in tensors.values()), default=0)
    ranks = [config.get("r") or 0, *(config.get("rank_pattern") or {}).values()]
    if max(ranks) > widest:
        raise InputError(f"the adapter in {path} is damaged: it has no weights of rank {max(ranks)}", "copy it again")
    if odd := next((name for name, tensor in tensors.items() if not tensor.isfinite().all()), None):
        raise InputError(f"the adapter in {path} is damaged: {odd} is not finite", "copy it again")
    return config, tensors, origin


def _is_rank(value: Any) -> bool:
    return type(value) is int and value > 0


def _is_alpha(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value > 0


def _is_table(value: Any, fits: Callable[[Any], bool]) -> bool:
    """Whether it is a table of patterns whose values are all right."""
    try:
        return isinstance(value, dict) and all(re.compile(key) and fits(entry) for key, entry in value.items())
    except re.error:
        return False


# What the values of an `adapter_config.json` must be, where they are there.
_VALUES: dict[str, Callable[[Any], bool]] = {
    "r": _is_rank,
    "lora_alpha": _is_alpha,
    "lora_dropout": lambda value: type(value) in (int, float) and 0 <= value < 1,
    "rank_pattern": lambda value: _is_table(value, _is_rank),
    "alpha_pattern": lambda value: _is_table(value, _is_alpha),
}


def _settings(config: dict[str, Any], tensors: dict[str, Tensor], path: Path) -> LoraSettings:
    """The settings of a PEFT adapter. Its modules are those it has weights for.

    PEFT can name modules by regular expressions and leave some out, in ways of its own; what it then adapted is
    what it saved.
    """
    odd = next((key for key in _ELSEWHERE if config.get(key)), None)
    if odd is not None:
        raise InputError(f"the adapter in {path} uses {odd}, which Ludora does not", "plain LoRA adapters are loaded")
    kind, bias = config.get("peft_type"), config.get("bias", "none")
    if kind != "LORA" or bias != "none" or config.get("r") is None or config.get("lora_alpha") is None:
        raise InputError(f"the adapter in {path} is not a plain LoRA adapter", "plain LoRA adapters are loaded")
    modules = tuple(dict.fromkeys(re.sub(r"^base_model\.model\.|\.lora_[AB]\.weight$", "", key) for key in tensors))
    return LoraSettings(
        rank=config["r"],
        alpha=config["lora_alpha"],
        dropout=config.get("lora_dropout") or 0.0,
        rslora=bool(config.get("use_rslora")),
        targets=modules,
        rank_pattern=_patterns(config, "rank_pattern", modules),
        alpha_pattern=_patterns(config, "alpha_pattern", modules),
    )


_ELSEWHERE = ("use_dora", "modules_to_save", "lora_bias", "target_parameters", "trainable_token_indices")


def _patterns(config: dict[str, Any], key: str, modules: Iterable[str]) -> tuple[tuple[str, Any], ...]:
    """PEFT's patterns, without those that match no module: PEFT lets them stand, Ludora takes them for a slip."""
    given = (config.get(key) or {}).items()
    return tuple((p, value) for p, value in given if any(re.match(rf"(.*\.)?({p})$", name) for name in modules))
