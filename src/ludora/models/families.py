"""The parts of a model, by the row of its family in `known`, and what LoRA adapts in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar, cast

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ludora.errors import InputError, nearest
from ludora.models.known import FAMILIES, Family


def family_of(model: PreTrainedModel) -> Family:
    """The row for this model.

    Raises:
        InputError: no row has its `model_type`, or the model does not look like the row (remote code that borrows a
            known `model_type` for other modules).
    """
    model_type = str(getattr(model.config, "model_type", ""))
    family = FAMILIES.get(model_type)
    if family is None:
        raise InputError(f"models of type {model_type!r} are not known", nearest(model_type, FAMILIES))
    names = dict(model.named_modules())
    first = f"{family.layers}.0."
    missing = [name for name in (family.backbone, family.layers, family.head) if name not in names]
    missing += [first + name for name in family.attention + family.mlp if not is_linear(names.get(first + name))]
    if missing:
        raise InputError(
            f"this model calls itself {model_type!r} but has no module {missing[0]!r}",
            "its own code differs from the family's: only the families' own architectures can be adapted",
        )
    return family


def decoder_layers(model: PreTrainedModel, family: Family) -> nn.ModuleList:
    """The decoder layers, lowest first."""
    return cast(nn.ModuleList, model.get_submodule(family.layers))


def is_linear(module: nn.Module | None) -> bool:
    """Whether LoRA can adapt this module: Linear (bitsandbytes' are subclasses of it) or GPT-2's Conv1D."""
    return isinstance(module, (nn.Linear, Conv1D))


def features(module: nn.Module) -> tuple[int, int]:
    """Input and output width of a linear module. Conv1D keeps its weight as [in, out]."""
    if isinstance(module, Conv1D):
        return int(module.weight.shape[0]), int(module.weight.shape[1])
    assert isinstance(module, nn.Linear)
    return module.in_features, module.out_features


@dataclass(frozen=True)
class LoraSettings:
    """What a LoRA adapter looks like. Field names and pattern rules are PEFT's where PEFT has them.

    `targets`: `all-linear` (every linear module inside the decoder layers, never the head), `attention`, `mlp`, or
    module names, full or their last parts (`q_proj`, `mlp.c_proj`). `layers`: `all`, `top:N` (the N layers nearest
    the head) or `A-B` (first and last index, from 0, both included). The keys of `rank_pattern` and `alpha_pattern`
    are regular expressions for the end of a module's name; the first that matches wins.

    Raises:
        InputError: a value is out of range.
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    rslora: bool = False
    targets: str | tuple[str, ...] = "all-linear"
    layers: str = "all"
    rank_pattern: tuple[tuple[str, int], ...] = ()
    alpha_pattern: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        if self.rank < 1 or any(rank < 1 for _, rank in self.rank_pattern):
            raise InputError("a LoRA rank must be at least 1", "common ranks are 4 to 64")
        if self.alpha <= 0 or any(alpha <= 0 for _, alpha in self.alpha_pattern):
            raise InputError("LoRA alpha must be above 0", "twice the rank is a good start")
        if not 0 <= self.dropout < 1:
            raise InputError(f"LoRA dropout {self.dropout} is not in [0, 1)", "0 is the default, 0.05 is common")
        if not self.targets:
            raise InputError("no LoRA targets are given", "all-linear adapts every linear module of the layers")
        if not _LAYERS.fullmatch(self.layers):
            raise InputError(f"cannot read layers {self.layers!r}", "write all, top:8 or 0-11")
        for pattern, _ in (*self.rank_pattern, *self.alpha_pattern):
            try:
                re.compile(pattern)
            except re.error as error:
                raise InputError(f"{pattern!r} is not a regular expression: {error}", "q_proj is one") from None

    def rank_of(self, name: str) -> int:
        """The rank for a module, by its full name."""
        return _by_pattern(self.rank_pattern, name, self.rank)

    def alpha_of(self, name: str) -> float:
        """Alpha for a module, by its full name."""
        return _by_pattern(self.alpha_pattern, name, self.alpha)

    def scaling(self, rank: int, alpha: float | None = None) -> float:
        """What multiplies B A x: alpha / rank, or alpha / sqrt(rank) with rsLoRA (arXiv 2312.03732)."""
        alpha = self.alpha if alpha is None else alpha
        return alpha / rank**0.5 if self.rslora else alpha / rank

    def scaling_of(self, name: str) -> float:
        """The scaling of a module, by its full name, patterns included."""
        return self.scaling(self.rank_of(name), self.alpha_of(name))


_T = TypeVar("_T")
_LAYERS = re.compile(r"all|top:[1-9]\d*|\d+-\d+")


def _by_pattern(patterns: tuple[tuple[str, _T], ...], name: str, default: _T) -> _T:
    """PEFT's `get_pattern_key`: the pattern must match the whole name, or all of it after some dot."""
    return next((value for pattern, value in patterns if re.match(rf"(.*\.)?({pattern})$", name)), default)


def resolve_targets(model: PreTrainedModel, settings: LoraSettings) -> dict[str, int]:
    """Full name of every module to adapt, and its rank, in the model's own order.

    Raises:
        InputError: a name matches nothing (the hint names the nearest modules), the layers are out of range, or a
            pattern matches no adapted module.
    """
    family = family_of(model)
    first, last = _layer_range(settings.layers, len(decoder_layers(model, family)))
    inside: dict[str, int] = {}  # every linear module of every decoder layer -> its layer
    for name, module in model.named_modules():
        if name.startswith(f"{family.layers}.") and is_linear(module):
            inside[name] = _layer_of(name)
    wanted = _wanted(family, settings.targets, inside)
    chosen = [name for name, layer in inside.items() if name in wanted and first <= layer <= last]
    targets = {name: settings.rank_of(name) for name in chosen}
    if not targets:
        raise InputError(
            f"targets {settings.targets!r} match no module in layers {first} to {last}", _nearby("", inside)
        )
    for pattern, _ in (*settings.rank_pattern, *settings.alpha_pattern):
        if not any(re.match(rf"(.*\.)?({pattern})$", name) for name in targets):
            raise InputError(f"the pattern {pattern!r} matches no adapted module", _nearby(pattern, targets))
    return targets


def first_layer(targets: Iterable[str]) -> int:
    """Index of the lowest decoder layer among adapted modules; every layer below is the frozen trunk."""
    return min(_layer_of(name) for name in targets)


def _wanted(family: Family, targets: str | tuple[str, ...], inside: Mapping[str, int]) -> set[str]:
    groups = {"attention": family.attention, "mlp": family.mlp}
    if targets == "all-linear":
        return set(inside)
    wanted: set[str] = set()
    for target in (targets,) if isinstance(targets, str) else targets:
        ends = groups.get(target, (target,))
        found = {name for name in inside if any(name == end or name.endswith(f".{end}") for end in ends)}
        if target == family.head:
            raise InputError(f"{target!r} is not in a decoder layer", "only their linear modules are adapted")
        if not found:
            raise InputError(f"no linear module is called {target!r}", _nearby(target, inside))
        wanted |= found
    return wanted


def _layer_range(layers: str, count: int) -> tuple[int, int]:
    """First and last layer index, both included."""
    if layers == "all":
        return 0, count - 1
    if layers.startswith("top:"):
        first, last = count - int(layers[4:]), count - 1
    else:
        first, last = (int(part) for part in layers.split("-"))
    if not 0 <= first <= last < count:
        raise InputError(f"layers {layers!r} are out of range: the model has {count}", f"they are 0 to {count - 1}")
    return first, last


def _layer_of(name: str) -> int:
    """The layer index in a module's full name: its first numeric part, in every family."""
    return next(int(part) for part in name.split(".") if part.isdecimal())


def _nearby(word: str, names: Iterable[str]) -> str:
    """A hint naming the module nearest to `word`, as it is called inside a layer; its last part if `word` is one."""
    inside = {re.sub(r"^.*?\.\d+\.", "", name) for name in names}
    return nearest(word, inside if "." in word else {name.rpartition(".")[2] for name in inside})


# Models of fewer parameters than the first number take that row: rank, targets, layers; alpha is twice the rank. Share
# of the model, over models of 7e7 to 3e10 parameters: efficient 0.1-0.7 %, balanced 0.3-0.9 %, quality 0.9-2.1 %,
# memory 0.01-0.12 %. `efficient` and `memory` adapt the top layers only: what lies below is a frozen trunk, computed
# once per prompt, with no backward pass. `memory` leaves the MLP alone as well, whose activations are the widest.
_TABLE: tuple[tuple[float, dict[str, tuple[int, str, str]]], ...] = (
    (
        1e8,
        {
            "efficient": (8, "all-linear", "top:2"),
            "balanced": (8, "all-linear", "all"),
            "quality": (16, "all-linear", "all"),
            "memory": (4, "attention", "top:2"),
        },
    ),
    (
        1e9,
        {
            "efficient": (8, "all-linear", "top:8"),
            "balanced": (4, "all-linear", "all"),
            "quality": (8, "all-linear", "all"),
            "memory": (4, "attention", "top:8"),
        },
    ),
    (
        8e9,
        {
            "efficient": (8, "all-linear", "top:12"),
            "balanced": (8, "all-linear", "all"),
            "quality": (32, "all-linear", "all"),
            "memory": (4, "attention", "top:12"),
        },
    ),
    (
        float("inf"),
        {
            "efficient": (16, "all-linear", "top:16"),
            "balanced": (16, "all-linear", "all"),
            "quality": (64, "all-linear", "all"),
            "memory": (4, "attention", "top:16"),
        },
    ),
)
PRESETS = ("efficient", "balanced", "quality", "memory")


def query_and_value(family: Family) -> tuple[str, ...]:
    """The modules of attention that make queries and values; where these are fused, the one that makes all three."""
    found = tuple(name for name in family.attention if name.rpartition(".")[2] in ("q_proj", "v_proj"))
    return found or family.attention[:1]


def preset(name: str, parameters: int) -> LoraSettings:
    """LoRA settings by preset name, for a model of this many parameters (counted, never read off its name).

    Raises:
        InputError: there is no such preset.
    """
    if name not in PRESETS:
        raise InputError(f"there is no preset {name!r}", nearest(name, PRESETS))
    rank, targets, layers = next(row[name] for below, row in _TABLE if parameters < below)
    return LoraSettings(rank, 2.0 * rank, targets=targets, layers=layers)
