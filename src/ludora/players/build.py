"""PLAYER strings become players. One base model per process and settings, shared by all its adapters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from ludora.errors import InputError, nearest
from ludora.grammar import parse
from ludora.models.adapters import Adapter, AdapterPack
from ludora.models.chat import ChatFormat
from ludora.models.engine import Engine
from ludora.models.families import LoraSettings
from ludora.models.generate import Sampler
from ludora.models.load import load_base
from ludora.models.machine import set_threads
from ludora.models.policy import Policy
from ludora.models.storage import load_adapter
from ludora.players import bots, human, search
from ludora.players.base import Player
from ludora.players.model import Acting, Chooser, ModelPlayer
from ludora.settings import ModelSettings, PPOConfig
from ludora.types import Spec

PLAYERS: Mapping[str, str] = {
    "random": "uniform over the legal actions",
    "first": "always the first legal action",
    "mcts": "Monte Carlo tree search; sees hidden cards; mcts:weak|medium|strong|origin or (simulations=, rollouts=)",
    "ismcts": "information-set MCTS: sees what its seat sees; (simulations=, rollouts=)",
    "nash": "near-Nash strategy by CFR+; small games only; (iterations=)",
    "epsilon": "a share of random moves, else another player: epsilon(0.2, mcts:weak)",
    "human": "you, at the terminal",
    "base": "the base model without an adapter",
    "adapter": "the base model with an adapter: adapter(runs/NAME/adapter)",
    "self": "the learner itself; only as a training opponent",
    "snapshots": "earlier selves of the learner, snapshots(last=5); only as a training opponent",
}


class Studio:
    """An opened base model with its adapter pack, and the players made of them."""

    def __init__(self, settings: ModelSettings, say: Callable[[str], None]) -> None:
        self.settings, self.say = settings, say
        self.threads, reason = set_threads(settings.threads)
        say(reason)
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

    def player(self, name: str, adapter: Adapter | None) -> ModelPlayer:
        """A player of this base with an adapter of its pack, or none."""
        kind = Chooser if self.acting.act == "choose" else ModelPlayer
        return kind(name, self.policy, self.chat, adapter, self.acting, self.sampler)

    def load(self, path: str, name: str = "") -> Adapter:
        """An adapter from a folder; the same folder is loaded once."""
        name = name or f"adapter({path})"
        return self.pack.adapters.get(name) or load_adapter(self.pack, Path(path), name)

    def learner(self, config: PPOConfig) -> tuple[ModelPlayer, Adapter | None]:
        """The player that learns and the adapter it is held near to (None: the base).

        Starting from an adapter, the learner is a copy of it and the frozen original is the reference.
        """
        if config.adapter:
            reference = self.load(config.adapter)
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


_opened: dict[ModelSettings, Studio] = {}


def studio(settings: ModelSettings, say: Callable[[str], None]) -> Studio:
    """The studio of these settings, opened once per process, whoever is told about it."""
    if settings not in _opened:
        _opened[settings] = Studio(settings, say)
    return _opened[settings]


def build_player(text: str, settings: ModelSettings, say: Callable[[str], None]) -> Player:
    """The player a PLAYER string names.

    Raises:
        InputError: no such player, options it does not have, or one that only makes sense in training.
    """
    spec = parse(text)
    if spec.name not in PLAYERS:
        raise InputError(f"there is no player {spec.name!r}", nearest(spec.name, PLAYERS))
    if spec.name in ("self", "snapshots"):
        raise InputError(f"{spec.name} is an opponent for training only", "use adapter(runs/NAME/adapter)")
    if spec.name == "epsilon":
        return bots.epsilon(spec, lambda inner: build_player(inner, settings, say))
    if spec.name == "base":
        if spec != Spec("base"):
            raise InputError(f"{text!r}: base takes no options", "write base; --model chooses another model")
        return studio(_model_settings(settings), say).player("base", None)
    if spec.name == "adapter":
        if len(spec.args) != 1 or spec.params or spec.variant:
            raise InputError(f"{text!r} needs the adapter's folder and nothing else", "adapter(runs/NAME/adapter)")
        opened = studio(_model_settings(settings), say)
        return opened.player(str(spec), opened.load(str(spec.args[0])))
    return _scripted(spec)


def _model_settings(settings: ModelSettings) -> ModelSettings:
    """Only what concerns the model: a training config is a ModelSettings with more in it."""
    return ModelSettings(**{name: getattr(settings, name) for name in ModelSettings.model_fields})


def _scripted(spec: Spec) -> Player:
    """Players without a model; each room checks its own options."""
    if spec.name in ("random", "first"):
        return bots.build(spec)
    return human.build(spec) if spec.name == "human" else search.build(spec)
