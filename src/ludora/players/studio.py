"""A base model, opened once per process and settings, with the adapters and players that share it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import torch

from ludora.errors import InputError
from ludora.fields import shown
from ludora.models.adapters import Adapter, AdapterPack
from ludora.models.chat import ChatFormat
from ludora.models.engine import Engine
from ludora.models.families import LoraSettings
from ludora.models.generate import Sampler
from ludora.models.load import load_base
from ludora.models.machine import set_threads
from ludora.models.policy import Policy
from ludora.models.storage import load_adapter
from ludora.players.model import Acting, Chooser, ModelPlayer
from ludora.settings import ModelSettings, TrainSettings
from ludora.types import Spec


class Studio:
    """An opened base model with its adapter pack, and the players made of them."""

    def __init__(self, settings: ModelSettings, say: Callable[[str], None]) -> None:
        self.settings, self.say = settings, say
        self.threads, reason = set_threads(settings.threads)
        say(f"threads: {self.threads} ({reason})")
        self.base = load_base(
            settings.model,
            dtype=settings.dtype,
            device=settings.device,
            quantize=settings.quantize,
            gradient_checkpointing=settings.gradient_checkpointing,
            trust_remote_code=settings.trust_remote_code,
            say=say,
        )
        self.pack = AdapterPack(self.base)
        self.engine = Engine(self.base, self.pack)
        self.chat = ChatFormat(self.base.tokenizer)
        if not self.chat.stop_ids:
            raise InputError(f"no token of {settings.model} ends an answer", "its tokenizer needs an eos_token")
        if settings.history and not (self.chat.append_only if settings.reasoning else self.chat.append_only_plain):
            raise InputError(
                f"the chat template of {settings.model} rewrites earlier turns, so a history cannot grow at its end",
                "use history=false",
            )
        self.policy = Policy(self.engine, self.chat.stop_ids[0], settings.temperature)
        self.sampler = Sampler(self.policy, self.chat.stop_ids, settings.top_p)
        self.acting = Acting(
            settings.act,
            settings.labels,
            settings.history,
            settings.reasoning,
            settings.max_new_tokens,
            settings.retries,
        )

    def player(self, name: str, adapter: Adapter | None, temperature: float = 0.0) -> ModelPlayer:
        """A player of this base with an adapter of its pack, or none; `temperature` 0 is that of the settings."""
        kind = Chooser if self.acting.act == "choose" else ModelPlayer
        policy, sampler = self.policy, self.sampler
        if temperature not in (0.0, policy.temperature):
            policy = Policy(self.engine, policy.end, temperature)
            sampler = Sampler(policy, self.chat.stop_ids, self.settings.top_p)
        return kind(name, policy, self.chat, adapter, self.acting, sampler)

    def load(self, path: str, name: str = "") -> Adapter:
        """An adapter from a folder; the same folder is loaded once."""
        name = name or f"adapter({path})"
        return self.pack.adapters.get(name) or load_adapter(self.pack, Path(path), name)

    def fixed(self, spec: Spec, temperature: float = 0.0) -> ModelPlayer:
        """The player that a checked `base`, `adapter(FOLDER)` or `merged(FOLDER)` (another base) names.

        For the temperature see `player`.
        """
        if spec.name == "merged":
            own = {name: getattr(self.settings, name) for name in ModelSettings.model_fields}
            other = studio(ModelSettings(**own | {"model": str(spec.args[0])}), self.say)
            return other.player(str(spec), None, temperature)
        return self.player(str(spec), self.load(str(spec.args[0])) if spec.args else None, temperature)

    def learner(self, config: TrainSettings) -> tuple[ModelPlayer, Adapter | None]:
        """The player that learns and the adapter it is held near to (None: the base).

        Starting from an adapter, the learner is a copy of it and the frozen original is the reference.
        """
        if self.base.dtype == torch.float16:
            self.say("warning: fp16 loses gradients that are too small for it (no loss scaling here); bf16 keeps them")
        if config.adapter:
            reference = self.load(config.adapter)
            self._refuse_others(config, reference)
            adapter = self.pack.copy(reference, "learner")
            adapter.settings = replace(adapter.settings, dropout=config.dropout)  # how it learns, not what it is
        else:
            reference = None
            settings = LoraSettings(
                rank=config.rank,
                alpha=config.alpha,
                dropout=config.dropout,
                rslora=config.rslora,
                targets=config.targets if isinstance(config.targets, str) else tuple(config.targets),
                layers=config.layers,
                rank_pattern=tuple(config.rank_pattern.items()),
            )
            adapter = self.pack.add("learner", settings, config.seed)
        return self.player("self", adapter), reference

    def _refuse_others(self, config: TrainSettings, adapter: Adapter) -> None:
        """An adapter brings its own rank, modules ...: whoever gives them too must mean the same.

        Raises:
            InputError: the adapter has something else there.
        """
        here = self._layout(adapter.settings)

        def fits(keys: Iterable[str]) -> bool:
            given = {key: getattr(config, key) for key in keys}
            if "rank_pattern" in given:
                given["rank_pattern"] = tuple(given["rank_pattern"].items())
            return self._layout(replace(adapter.settings, **given)) == here

        keys = sorted((config.BROUGHT - {"lora"}) & config.model_fields_set)  # no recipe goes with an adapter
        if keys and not fits(keys):
            key = next((key for key in keys if not fits([key])), keys[0])
            raise InputError(
                f"{key} = {shown(getattr(config, key))} is not what adapter = {config.adapter} has",
                f"leave {key} out: an adapter brings its own",
            )

    def _layout(self, settings: LoraSettings) -> dict[str, tuple[int, float]]:
        """Rank and scaling of every module that these settings adapt."""
        return {name: (rank, settings.scaling_of(name)) for name, rank in self.pack.targets(settings).items()}


_opened: dict[ModelSettings, Studio] = {}


def studio(settings: ModelSettings, say: Callable[[str], None]) -> Studio:
    """The studio of these settings, opened once per process, whoever is told about it."""
    if settings not in _opened:
        _opened[settings] = Studio(settings, say)
    return _opened[settings]
