"""Adapters on disk, in PEFT's format: `adapter_config.json` and `adapter_model.safetensors`.

What PEFT does not record - which base it was trained on, by content - stands under `ludora` in the safetensors header and
in `ludora.json` beside it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from peft import LoraConfig, TaskType
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from ludora.errors import InputError
from ludora.models.adapters import Adapter, AdapterPack
from ludora.models.checkpoint import pack_tensors
from ludora.models.families import LoraSettings
from ludora.models.load import Base

CONFIG, WEIGHTS, ORIGIN = "adapter_config.json", "adapter_model.safetensors", "ludora.json"


def adapter_files(adapter: Adapter, base: Base) -> dict[str, bytes]:
    """The files of an adapter folder, by name; PEFT loads them as they are."""
    settings = adapter.settings
    ranks = {name: shape[0] for name, shape in adapter.shapes.items()}
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        base_model_name_or_path=base.name,
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]
        lora_dropout=settings.dropout,
        use_rslora=settings.rslora,
        target_modules=list(adapter.shapes),
        rank_pattern={name: rank for name, rank in ranks.items() if rank != settings.rank},
        alpha_pattern={
            name: alpha for name in adapter.shapes if (alpha := settings.alpha_of(name)) != settings.alpha
        },
        fan_in_fan_out=base.model.config.model_type == "gpt2",
        inference_mode=True,
        bias="none",
    ).to_dict()
    config["target_modules"] = sorted(config["target_modules"])
    origin = {
        "base": base.name,
        "base_fingerprint": base.fingerprint,
        "targets": settings.targets if isinstance(settings.targets, str) else list(settings.targets),
        "layers": settings.layers,
    }
    dump = {"format": "pt", "ludora": json.dumps(origin, sort_keys=True)}
    return {
        CONFIG: json.dumps({k: _plain(v) for k, v in config.items()}, indent=2, sort_keys=True).encode(),
        WEIGHTS: pack_tensors(adapter.tensors(), dump),
        ORIGIN: json.dumps(origin, indent=2, sort_keys=True).encode(),
    }


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, set) else value


def load_adapter(pack: AdapterPack, path: Path, name: str) -> Adapter:
    """Read a PEFT LoRA adapter into a pack.

    Raises:
        InputError: no adapter there, a kind that is not plain LoRA, another base, or weights that do not fit.
    """
    try:
        config = json.loads((path / CONFIG).read_text())
        tensors = load_file(path / WEIGHTS)
        with safe_open(path / WEIGHTS, "pt") as handle:
            header = handle.metadata() or {}
    except FileNotFoundError as error:
        raise InputError(f"no adapter in {path}: {Path(error.filename or WEIGHTS).name} is missing", _WHERE) from None
    except NotADirectoryError:
        raise InputError(f"{path} is not a folder", _WHERE) from None
    except (json.JSONDecodeError, UnicodeDecodeError, SafetensorError) as error:
        raise InputError(f"the adapter in {path} cannot be read: {error}", "copy it again from where it was made") from None
    origin = json.loads(header.get("ludora", "{}"))
    if origin and origin["base_fingerprint"] != pack.base.fingerprint:
        raise InputError(
            f"the adapter in {path} was trained on {origin['base']}, whose weights are not those of {pack.base.name}",
            f"load it with --model {origin['base']}",
        )
    settings = _settings(config, path)
    adapter = pack.add(name, settings)
    try:
        adapter.load_tensors({key: value.float() for key, value in tensors.items()})
    except InputError:
        pack.remove(name)
        raise
    return adapter


_WHERE = "give the folder that holds adapter_config.json, for example runs/NAME/adapter"


def _settings(config: dict[str, Any], path: Path) -> LoraSettings:
    for key in ("use_dora", "modules_to_save", "lora_bias", "target_parameters", "exclude_modules", "trainable_token_indices"):
        if config.get(key):
            raise InputError(f"the adapter in {path} uses {key}, which Ludora does not", "plain LoRA adapters are loaded")
    if config.get("peft_type") != "LORA" or config.get("bias", "none") != "none":
        raise InputError(f"the adapter in {path} is not a plain LoRA adapter", "plain LoRA adapters are loaded")
    targets = config["target_modules"]
    layers = config.get("layers_to_transform")
    if layers is not None:
        layers = sorted([layers] if isinstance(layers, int) else layers)
        if layers != list(range(layers[0], layers[-1] + 1)):
            raise InputError(f"the adapter in {path} adapts layers {layers}, with gaps", "layers must be one range")
    return LoraSettings(
        rank=config["r"],
        alpha=config["lora_alpha"],
        dropout=config.get("lora_dropout", 0.0),
        rslora=bool(config.get("use_rslora")),
        targets=targets if isinstance(targets, str) else tuple(targets),
        layers="all" if layers is None else f"{layers[0]}-{layers[-1]}",
        rank_pattern=tuple((config.get("rank_pattern") or {}).items()),
        alpha_pattern=tuple((config.get("alpha_pattern") or {}).items()),
    )
