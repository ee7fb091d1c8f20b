"""What every command can be told: one flat, frozen model per command, strict about keys and ranges.

Here are the fields, what they may be, and which of them need one another; what all configs share is in
`ludora.fields`, reading files and `key=value` overrides in `ludora.config`. A value that could not be
honoured is refused, never ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from ludora.errors import ConfigError
from ludora.fields import (
    AtLeastOne,
    Count,
    Games,
    Positive,
    Rank,
    Settings,
    Share,
    Threads,
    Zero,
    about,
    listed,
    readable,
    shown,
    weighted,
)
from ludora.grammar import parse

_SHAPE = frozenset({"rank", "alpha", "targets", "layers"})


ACTING = ("act", "labels", "history", "reasoning", "top_p", "max_new_tokens", "retries")  # beside the temperature


class ModelSettings(Settings):
    """Which language model, on what machine, and how it acts."""

    model: str = about("base model: smollm2-135m (built in), a hub id, or a local folder", "smollm2-135m")
    dtype: Literal["auto", "bf16", "fp32", "fp16"] = about("precision; auto measures which is faster here", "auto")
    device: str = about("auto, cpu, cuda or cuda:N", "auto")
    threads: Threads | Literal["auto"] = about("CPU threads; auto leaves busy cores alone and says how many", "auto")
    quantize: Literal["none", "8bit", "4bit"] = about("weights of the frozen base in 8 or 4 bits (NF4)", "none")
    gradient_checkpointing: bool = about("recompute activations in the backward pass to save memory", False)
    trust_remote_code: bool = about("run Python code that comes with a model folder or hub id", False)
    act: Literal["choose", "say"] = about("choose among the legal actions, or say one in free text", "choose")
    labels: Literal["letters", "names", "ids"] = about("how legal actions are written in the prompt", "letters")
    history: bool = about("keep the whole conversation of a game (act = say)", False)
    reasoning: bool = about("ask for reasoning before the move (act = say)", False)
    temperature: Annotated[float, Field(ge=0.001)] = about("sampling temperature; 1 samples the policy itself", 1.0)
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = about("nucleus sampling (act = say)", 1.0)
    max_new_tokens: AtLeastOne = about("tokens of one answer at most (act = say)", 32)
    retries: Count = about("further answers asked for when none could be read (act = say)", 2)

    NEEDS: ClassVar = tuple(
        (key, "act", ("say",)) for key in ("history", "reasoning", "top_p", "max_new_tokens", "retries")
    )


class RunSettings(ModelSettings):
    """A command that makes a run folder: what it is called, and what `--resume` may not change."""

    name: Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]*)?$", max_length=80)] = about(
        "name of the run folder: letters, digits, dots, dashes; empty: that of the preset or file", ""
    )
    runs_dir: Annotated[str, Field(min_length=1)] = about("folder that holds the run folders", "runs")

    FIXED: ClassVar[frozenset[str]] = frozenset()


class TrainSettings(RunSettings):
    """A command that trains one LoRA adapter: what it starts from, its shape, its optimiser, and what is kept of it."""

    seed: Count = about("where all randomness of the run comes from", 0)
    adapter: str = about("start from this adapter folder; empty: a fresh one", "")
    lora: Literal["none", "efficient", "balanced", "quality", "memory", "seed-speed", "seed-quality", "seed-memory"] = (
        about("the adapter's shape by the model's parameter count; what is given beside it wins", "none")
    )
    rank: Rank = about("LoRA rank", 8)
    alpha: Positive = about("LoRA alpha: what the adapter adds is scaled by alpha / rank", 16.0)
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = about("dropout on the adapter's input", 0.0)
    rslora: bool = about("scale by alpha / sqrt(rank) instead", False)
    targets: str | tuple[str, ...] = about("all-linear, attention, mlp, or names of modules", "all-linear")
    layers: Annotated[str, Field(pattern=r"^(all|top:[1-9]\d*|\d+-\d+)$")] = about("all, top:N or A-B", "all")
    rank_pattern: dict[str, Rank] = about("ranks of single modules, by pattern of their name", {})

    minutes: Zero = about("stop after so many minutes of training; 0: no bound", 0.0)
    accumulation: AtLeastOne = about("parts in which a mini-batch is computed, to save memory", 1)
    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)] = about("learning rate of the adapter", 5e-4)
    schedule: Literal["constant", "linear", "cosine"] = about(
        "learning rate over the training; to a tenth unless constant", "constant"
    )
    weight_decay: Zero = about("AdamW weight decay of the adapter", 0.0)
    beta1: Annotated[float, Field(ge=0.0, lt=1.0)] = about("AdamW: decay of the mean gradient", 0.9)
    beta2: Annotated[float, Field(ge=0.0, lt=1.0)] = about("AdamW: decay of the squared gradient", 0.95)
    max_grad_norm: Positive = about("gradient norm above which gradients are scaled down", 1.0)

    save_every: AtLeastOne = about("updates between checkpoints", 10)
    keep: AtLeastOne = about("newest checkpoints kept, beside the best", 3)
    evaluate_every: Count = about("updates between evaluations; 0: none", 5)
    evaluate_games: Games = about("games of one evaluation", 200)
    evaluate_temperature: Annotated[float, Field(ge=0.0)] = about(
        "sampling temperature of the games that measure; 0: the one that is trained at", 0.0
    )
    evaluate_on: tuple[str, ...] = about("further TASKs to measure on when training is over", ())
    compare: tuple[str, ...] = about("PLAYERs to compare with when training is over, beside what it began as", ())
    patience: Count = about("evaluations without a better one after which training ends; 0: never", 0)
    trackers: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = about("where else metrics go", ())

    # What each recipe gives to any model: a preset's values of these step aside for a recipe that the user names.
    RECIPES: ClassVar[Mapping[str, frozenset[str]]] = {
        **dict.fromkeys(("efficient", "balanced", "quality", "memory"), _SHAPE),
        **dict.fromkeys(("seed-speed", "seed-quality", "seed-memory"), _SHAPE | {"dropout", "batch", "accumulation"}),
    }
    BROUGHT: ClassVar = frozenset({"lora", "rank", "alpha", "rslora", "targets", "layers", "rank_pattern"})
    # What a checkpoint's tensors and streams were made with: `--resume` may change anything else.
    FIXED: ClassVar[frozenset[str]] = frozenset({"name", "model", "quantize", "seed", "adapter", *BROUGHT})

    @model_validator(mode="after")
    def _shape(self) -> TrainSettings:
        for key in ("evaluate_on", "compare"):
            for text in getattr(self, key):
                readable(key, text)
        if self.adapter and self.lora != "none":
            raise ConfigError(
                f"lora = {self.lora} has no effect with adapter = {self.adapter}, which brings its own shape",
                "leave lora out",
            )
        if not self.targets:
            raise ConfigError("targets = [] names no module", "all-linear adapts every linear module")
        return self


class StageSettings(Settings):
    """One stage of a curriculum: `[[stages]]` in a config of `ludora train ppo`."""

    name: Annotated[str, Field(min_length=1, max_length=40)] = about("what the stage is called", "stage")
    task: str | tuple[str, ...] = about("TASK, ids(FIRST, LAST), or a list of them; empty: the run's", "")
    opponent: str | dict[str, Positive] = about("PLAYER, or a table PLAYER -> weight; empty: the run's", "")
    threshold: Share = about("success rate that ends the stage, unless it is the last; 0: the run's", 0.0)

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(filter(None, listed(self.task)))

    @property
    def opponents(self) -> dict[str, float]:
        return weighted(self.opponent)


class PPOConfig(TrainSettings):
    """`ludora train ppo`: proximal policy optimisation of a LoRA adapter, on games, against given opponents."""

    KIND: ClassVar[str] = "ppo"

    task: str | tuple[str, ...] = about(
        "TASK to learn, for example leduc_poker; ids(FIRST, LAST) for a range of task ids; or a list of several",
        "leduc_poker",
    )
    opponent: str | dict[str, Positive] = about(
        "PLAYER of the other seats; a table PLAYER -> weight mixes several; self is self-play", "random"
    )
    stages: tuple[StageSettings, ...] = about(
        "curriculum: tables with name, task, opponent and threshold, played one after the other", ()
    )
    window: AtLeastOne = about("results that must be in before a stage can end", 100)
    threshold: Annotated[float, Field(gt=0.0, le=1.0)] = about("success rate that ends a stage without its own", 0.7)
    sampler: Literal["uniform", "progress"] = about("games drawn alike, or those whose scores move", "uniform")
    replay: Share = about("share of the games that are tasks lost before, dealt again", 0.0)
    replay_size: AtLeastOne = about("tasks kept for that", 1000)
    replay_decay: Annotated[float, Field(gt=0.0, le=1.0)] = about("of a kept task's weight, per update", 0.98)
    max_turns: Count = about("moves of one seat after which a game counts as truncated; 0: as the game's rules say", 0)
    max_tokens: Count = about("tokens read and written by one seat after which, too; 0: no bound", 0)

    games_per_update: Games = about("games played for one update, at most", 256)
    tokens_per_update: Count = about(
        "tokens to be read and written in one update, shared evenly by its games; 0: no bound", 0
    )
    updates: AtLeastOne = about("updates at most", 1000)
    epochs: AtLeastOne = about("passes over the decisions of one update", 2)
    minibatch: AtLeastOne = about("decisions of one optimiser step", 256)
    warmup_updates: Count = about("updates over which the learning rate rises, evenly, beside its schedule", 0)

    clip: Annotated[float, Field(gt=0.0, lt=1.0)] = about("PPO: how far the probability ratio may pay", 0.2)
    value_clip: Zero = about(
        "PPO: how far a value may move in one update, in spreads of its game's returns; 0: freely", 0.0
    )
    invalid_penalty: Zero = about("taken off a turn's reward for each answer that could not be read; 0: nothing", 0.0)
    gamma: Share = about("discount per turn", 0.99)
    lam: Share = about("lambda of generalised advantage estimation", 0.95)
    baseline: Literal["critic", "ema"] = about("a learned value, or a running mean per (game, seat)", "critic")
    value_learning_rate: Annotated[float, Field(gt=0.0, le=1.0)] = about("learning rate of the critic", 1e-3)
    value_hidden: AtLeastOne = about("width of the critic", 256)
    value_steps: AtLeastOne = about("full-batch steps of the critic per update; its features are cached", 32)
    value_warmup: Count = about("first updates that train the critic alone", 0)
    ema_decay: Annotated[float, Field(ge=0.0, lt=1.0)] = about("decay of the running mean (baseline = ema)", 0.95)
    normalize_advantages: bool = about("centre and scale advantages per game and seat", True)
    kl: Literal["none", "fixed", "adaptive"] = about("penalty on the divergence from the starting policy", "none")
    kl_coef: Zero = about("weight of that penalty, or its first value when adaptive", 0.0)
    kl_target: Zero = about("divergence that the adaptive weight steers to", 0.0)
    target_kl: Zero = about("end an update early when it moved the policy this far; 0: never", 0.0)
    entropy_coef: Zero = about("weight of the entropy bonus, or its first value with a target", 0.0)
    entropy_schedule: Literal["constant", "linear", "cosine"] = about(
        "that weight over the updates; to a tenth unless constant", "constant"
    )
    entropy_target: Share = about("entropy the bonus steers to, as a share of the largest possible; 0: none", 0.0)
    magnet_weight: Zero = about("weight of the divergence from an older self, for self-play; 0: none", 0.0)
    magnet_every: AtLeastOne = about("updates between two such older selves", 25)
    snapshot_every: Count = about("updates between snapshots kept as opponents; 0: none", 0)
    episodes: Count = about("games of an update kept to look at, at each evaluation; 0: none", 8)

    NEEDS: ClassVar = (
        *ModelSettings.NEEDS,
        *((f"value_{key}", "baseline", ("critic",)) for key in ("clip", "learning_rate", "hidden", "warmup", "steps")),
        ("invalid_penalty", "act", ("say",)),
        ("lam", "baseline", ("critic",)),
        ("ema_decay", "baseline", ("ema",)),
        ("kl_coef", "kl", ("fixed", "adaptive")),
        ("kl_target", "kl", ("adaptive",)),
        ("entropy_schedule", "entropy_coef", True),
        ("entropy_target", "entropy_coef", True),
        ("magnet_every", "magnet_weight", True),
        ("patience", "evaluate_every", True),
        ("replay_size", "replay", True),
        ("replay_decay", "replay", True),
        ("window", "stages", True),
        ("threshold", "stages", True),
        ("episodes", "evaluate_every", True),
    )
    FIXED: ClassVar[frozenset[str]] = TrainSettings.FIXED | {"task", "stages", "window", "baseline", "value_hidden"}

    @model_validator(mode="after")
    def _consistent(self) -> PPOConfig:
        self._check_stages()
        for task in (*self.tasks, *(task for stage in self.stages for task in stage.tasks)):
            readable("task", task)
        players = list(self.opponents | {p: 1.0 for stage in self.stages for p in stage.opponents})
        for player in players:
            readable("opponent", player)
            if parse(player).name == "snapshots" and not self.snapshot_every:
                raise ConfigError(f"opponent = {player!r} needs snapshots", "set snapshot_every above 0")
        if not self.opponents:
            raise ConfigError("opponent = {} names no player", "random is one")
        if not self.tasks:
            raise ConfigError("task = [] names no game", "leduc_poker is one")
        if self.snapshot_every and not any(parse(player).name == "snapshots" for player in players):
            raise ConfigError(
                f"snapshot_every = {self.snapshot_every} has no effect: no opponent is a snapshot",
                "set opponent = snapshots(last=5), or leave snapshot_every out",
            )
        if self.magnet_weight and self.act == "say":
            raise ConfigError("a magnet needs exact probabilities, which act = say has not", "set magnet_weight=0")
        for values, other in ((("fixed", "adaptive"), "kl_coef"), (("adaptive",), "kl_target")):
            if self.kl in values and not getattr(self, other):
                raise ConfigError(f"kl = {self.kl!r} needs {other} above 0", f"set {other}, or kl = none")
        if self.entropy_target and self.entropy_schedule != "constant":
            raise ConfigError("entropy_target moves entropy_coef, so entropy_schedule cannot", "set one of the two")
        return self

    def _check_stages(self) -> None:
        """What a curriculum cannot be.

        Raises:
            ConfigError: it contradicts itself.
        """
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ConfigError(f"two stages are called {max(names, key=names.count)!r}", "a name tells them apart")
        for key in ("task", "opponent"):
            given = getattr(self, key) != type(self).model_fields[key].default
            if given and self.stages and all(getattr(stage, key) for stage in self.stages):
                raise ConfigError(f"{key} has no effect: every stage names its own", f"leave {key} out, or in a stage")
        given = self.threshold != type(self).model_fields["threshold"].default
        if given and all(stage.threshold for stage in self.stages[:-1]):
            raise ConfigError("threshold has no effect: every stage that can end names its own", "leave it out")
        for stage in self.stages[:-1]:
            if not {parse(player).name for player in stage.opponents or self.opponents} - {"self"}:
                raise ConfigError(
                    f"stage {stage.name!r} would never end: games against oneself are always won by somebody",
                    "give it another opponent, or make it the last",
                )

    @property
    def tasks(self) -> tuple[str, ...]:
        """TASKs and ranges of ids, one where there is one."""
        return tuple(filter(None, listed(self.task)))

    @property
    def opponents(self) -> dict[str, float]:
        """PLAYER -> weight, one entry where there is one opponent."""
        return weighted(self.opponent)


class SFTConfig(TrainSettings):
    """`ludora train sft`: a LoRA adapter learns the moves of recorded games, or the answers of conversations."""

    KIND: ClassVar[str] = "sft"

    data: str | tuple[str, ...] = about("JSONL files to learn from: games that were played, or messages", "")
    eval_data: str | tuple[str, ...] = about("JSONL files to measure on; empty: a share of the data", "")
    eval_share: Annotated[float, Field(ge=0.0, lt=1.0)] = about("share of the lines (games) held out for that", 0.05)
    bad_lines: Literal["refuse", "skip"] = about("what to do about lines that cannot be used", "refuse")
    answer: Literal["move", "reasoning"] = about("learn a game's moves alone, or with their reasoning", "move")
    loss: Literal["choices", "tokens"] = about("of a move: among the legal ones, or as text", "choices")
    assistant: Literal["last", "all"] = about("which assistant messages of a conversation are learnt", "last")

    epochs: AtLeastOne = about("passes over the data at most", 3)
    steps: Count = about("optimiser steps at most; 0: as many as the epochs have", 0)
    batch: AtLeastOne = about("examples of one optimiser step", 32)
    part_tokens: AtLeastOne = about("tokens computed at a time; a batch of more is computed in more parts", 8192)
    schedule: Literal["constant", "linear", "cosine"] = about(
        "learning rate over the training; to a tenth unless constant", "cosine"
    )
    warmup: Share = about("share of the training over which the learning rate rises from 0", 0.03)

    log_every: AtLeastOne = about("steps between lines of metrics, each the mean since the one before", 10)
    save_every: AtLeastOne = about("steps between checkpoints", 100)
    evaluate_every: Count = about("steps between measurements on the held-out examples; 0: none", 50)
    evaluate_examples: AtLeastOne = about("held-out examples measured at most", 512)
    evaluate_answers: Count = about("held-out turns answered by sampling at each measurement (act = say)", 32)
    task: str = about("TASK to play when training is over; empty: that of the data; none: no games", "")
    opponent: str = about("PLAYER of the other seats in those games", "random")
    evaluate_games: Games = about("games played when training is over", 200)

    NEEDS: ClassVar = (
        *ModelSettings.NEEDS,
        *((key, "evaluate_every", True) for key in ("evaluate_examples", "evaluate_answers", "patience")),
        ("evaluate_answers", "act", ("say",)),
    )
    # The files may move, so what they hold is what must stay: see `learn.sft`.
    FIXED: ClassVar[frozenset[str]] = TrainSettings.FIXED | {"batch", "answer", "loss", "act", "labels", "history"}

    @model_validator(mode="before")
    @classmethod
    def _act_as_trained(cls, values: Any) -> Any:
        """What is learnt decides how the model acts, unless that is said, too."""
        if isinstance(values, Mapping) and values.get("answer") == "reasoning":
            values = {"act": "say", "reasoning": True, **values}
        if isinstance(values, Mapping) and values.get("act") == "say":
            values = {"loss": "tokens", **values}
        return values

    @model_validator(mode="after")
    def _consistent(self) -> SFTConfig:
        if self.reasoning != (self.answer == "reasoning"):
            raise ConfigError(
                f"reasoning = {shown(self.reasoning)} does not go with answer = {self.answer}",
                "a model acts as it was trained: leave reasoning out",
            )
        if self.act == "say" and self.loss == "choices":
            raise ConfigError("loss = choices has no effect with act = say", "set loss = tokens, or act = choose")
        if self.eval_data and self.eval_share not in (0.0, type(self).model_fields["eval_share"].default):
            raise ConfigError("eval_share has no effect with eval_data", "leave eval_share out")
        if self.evaluate_every and not (self.eval_data or self.eval_share):
            raise ConfigError("evaluate_every needs examples to measure on", "set eval_share, or evaluate_every = 0")
        for key in ("task", "opponent"):
            if getattr(self, key):
                readable(key, getattr(self, key))
        for key in ("evaluate_on", "compare", "evaluate_temperature", "opponent"):
            if self.task == "none" and getattr(self, key) not in ((), 0.0, "", "random"):
                raise ConfigError(f"{key} = {shown(getattr(self, key))} has no effect with task = none", "name a task")
        return self
