"""What `ludora evolve` can be told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from ludora.errors import ConfigError, InputError, nearest
from ludora.evolve.genome import GENES, Space, Value, canonical
from ludora.evolve.operators import MOVES
from ludora.fields import AtLeastOne, Count, Games, Positive, Rank, Share, Zero, about, shown
from ludora.grammar import parse
from ludora.settings import ModelSettings, RunSettings

GAME = "game:"
Dropout = Annotated[float, Field(ge=0.0, lt=1.0)]
Multiple = Annotated[float, Field(gt=0.0, le=1e6)]
Rate = Annotated[float, Field(gt=0.0, le=1.0)]
Layers = Annotated[str, Field(pattern=r"^(all|top:[1-9]\d*|top:1/[1-9]\d*|\d+-\d+)$")]
# mean nothing where a game is played
ASKED = ("data", "metric", "answer_tokens", "eval_size", "fresh_questions", "rung_questions")
PLAYED = ("teacher", "opponent", "evaluate_games", "labels")  # mean nothing where none is
OPEN = ("learning_rate",)  # genes that may leave their list
NUMBERS = ("rank", "alpha", "learning_rate", "dropout", "weight_decay", "warmup")


class EvolveConfig(RunSettings):
    """`ludora evolve`: a population of LoRA adapters on one base, and search over their settings."""

    KIND: ClassVar[str] = "evolve"

    seed: Count = about("where all randomness of the run comes from", 0)
    data: str = about("data set to learn and to be measured on: see `ludora list datasets`", "arithmetic")
    train_size: AtLeastOne = about("examples to learn from", 400)
    eval_size: AtLeastOne = about("questions by which a generation is selected", 100)
    test_size: Count = about("questions of the untouched test, asked once at the end; 0: no test", 300)
    fresh_questions: bool = about("other questions in every generation; survivors answer those, too", True)
    fitness: str = about("what is selected by: accuracy, nll, seed (accuracy - perplexity / 100), or game:TASK", "nll")
    metric: Literal["strict", "flexible", "fuzzy", "choice"] = about(
        "when an answer counts as right: strict or flexible match, the seed's fuzzy one, or the likeliest option",
        "flexible",
    )
    answer_tokens: AtLeastOne = about("tokens of one answer at most", 48)
    teacher: str = about("fitness = game:TASK: PLAYER whose moves are learnt", "nash")
    opponent: str = about("fitness = game:TASK: PLAYER of the other seats", "random")
    evaluate_games: Games = about("fitness = game:TASK: games of one measurement, where it is not exact", 200)

    population: AtLeastOne = about("variants of a generation", 8)
    generations: AtLeastOne = about("generations", 4)
    survivors: AtLeastOne = about("variants that live on in the next generation and have children", 2)
    start: Literal["random", "sobol"] = about("first generation: drawn at random, or spread evenly (Sobol)", "sobol")
    starters: Count = about("variants of the first generation; 0: as many as the population", 0)
    crossover: Share = about("share of the children that two parents have", 0.25)
    mutate_crossed: bool = about("children of two parents mutate, too", True)
    mutation_rate: Annotated[float, Field(gt=0.0, le=1.0)] = about("chance of each gene to mutate", 0.3)
    null_mutations: bool = about("a mutation may change nothing; such a clone has its parent's result", False)
    immigrants: Count = about("variants drawn anew in every later generation", 0)
    selection: Literal["quality", "pareto"] = about(
        "the best live on: by quality, or by quality and trainable parameters (Pareto fronts)", "pareto"
    )
    posterior: bool = about("judge by posterior means, not by what was measured: noise makes nobody the best", True)
    rungs: tuple[Annotated[float, Field(gt=0.0, lt=1.0)], ...] = about(
        "shares of the training after which the worst stop (successive halving)", (0.34,)
    )
    rung_keep: Annotated[float, Field(gt=0.0, le=1.0)] = about("share of the variants that go on after a rung", 0.5)
    rung_questions: AtLeastOne = about("questions on whose answers' likelihood a rung decides", 32)
    inherit: bool = about("children go on from their parent's weights instead of from nothing", False)
    tokens: Count = about("tokens of training after which no new generation begins; 0: no bound", 0)
    stop_converged: bool = about("end when the best fitness has grown by less than 1 % in 5 generations", False)
    finalists: Count = about("best variants trained again from nothing, with several seeds, before the test", 2)
    final_seeds: AtLeastOne = about("seeds of each finalist", 3)

    ranks: tuple[Rank, ...] = about("gene: LoRA rank", (4, 8, 16, 32))
    alphas: tuple[Multiple, ...] = about("gene: LoRA alpha as a multiple of the rank", (1.0, 2.0, 4.0))
    alpha_rules: tuple[Literal["alpha/r", "rslora"], ...] = about(
        "gene: what alpha is divided by, the rank or its square root (rslora)", ("alpha/r", "rslora")
    )
    learning_rates: tuple[Rate, ...] = about("gene: learning rate", (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 4e-3))
    dropouts: tuple[Dropout, ...] = about("gene: dropout on the adapter's input", (0.0, 0.05, 0.1))
    targets: tuple[str, ...] = about(
        "gene: all-linear, attention, mlp, or names of modules joined by +", ("all-linear", "attention", "mlp")
    )
    layers: tuple[Layers, ...] = about("gene: all, top:N, top:1/N of them, or A-B", ("top:1/3",))
    weight_decays: tuple[Zero, ...] = about("gene: AdamW weight decay", (0.0, 0.01, 0.1))
    warmups: tuple[Share, ...] = about("gene: share of the steps over which the learning rate rises", (0.0, 0.1))
    mutations: dict[str, str] = about("gene -> how it mutates, where not as usual: step, draw, scale, jitter or /", {})
    learning_rate_low: Rate = about("learning rates never mutate below", 1e-6)
    learning_rate_high: Rate = about("learning rates never mutate above", 1e-2)

    epochs: AtLeastOne = about("passes over the training examples", 2)
    batch: AtLeastOne = about("examples of one optimiser step", 16)
    accumulation: AtLeastOne = about("parts in which a step is computed, to save memory", 1)
    part_tokens: AtLeastOne = about("tokens of one variant computed at a time", 8192)
    schedule: Literal["constant", "linear", "cosine"] = about(
        "learning rate over the training; to a tenth unless constant", "linear"
    )
    beta1: Dropout = about("AdamW: decay of the mean gradient", 0.9)
    beta2: Dropout = about("AdamW: decay of the squared gradient", 0.95)
    max_grad_norm: Positive = about("gradient norm above which a variant's gradient is scaled down", 1.0)
    pack: AtLeastOne | Literal["auto"] = about("variants trained at once; auto: as many as fit into memory", "auto")
    save_every: AtLeastOne = about("optimiser steps between checkpoints", 50)
    keep: AtLeastOne = about("newest checkpoints kept", 2)
    trackers: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = about("where else metrics go", ())

    NEEDS: ClassVar = (
        *ModelSettings.NEEDS,
        ("rung_keep", "rungs", True),
        ("rung_questions", "rungs", True),
        ("final_seeds", "finalists", True),
    )
    # Everything else shapes the lineage, which `--resume` restores.
    FREE: ClassVar[frozenset[str]] = frozenset(
        {"runs_dir", "threads", "device", "pack", "save_every", "keep", "trackers", "gradient_checkpointing", "dtype"}
        | {"trust_remote_code"}
    )

    @classmethod
    def idle(cls, found: Callable[[str], Any]) -> set[str]:
        """See `Settings.idle`; a game asks no questions, a data set plays no games, one parent alone is not crossed."""
        game = str(found("fitness")).startswith(GAME)
        others = {"test_size"} if game and found("test_size") else set()
        others |= {"crossover"} if found("survivors") == 1 else set()
        return super().idle(found) | set(ASKED if game else PLAYED) | others

    @model_validator(mode="after")
    def _consistent(self) -> EvolveConfig:
        self._check_fitness()
        for gene, text in self.mutations.items():
            if gene not in GENES:
                raise ConfigError(f"mutations: there is no gene {gene!r}", nearest(gene, GENES))
            for move in text.split("/"):
                if move not in MOVES:
                    raise ConfigError(f"mutations: {gene} cannot mutate by {move!r}", nearest(move, MOVES))
                if move in ("scale", "jitter") and gene not in OPEN:
                    raise ConfigError(f"mutations: {gene} cannot leave its list", "only learning_rate can")
        for key, values in self.genes.items():
            distinct = {canonical(value) if isinstance(value, float) else value for value in values}
            if not values or len(distinct) < len(values):
                what = "the same value twice" if values else "no value"
                raise ConfigError(f"the gene {key} has {what}", "list each value once")
        if self.learning_rate_low > self.learning_rate_high:
            raise ConfigError("learning_rate_low is above learning_rate_high", "set them the other way round")
        for rate in self.learning_rates:
            if not self.learning_rate_low <= rate <= self.learning_rate_high:
                raise ConfigError(
                    f"learning_rates: {rate:g} is not within learning_rate_low = {self.learning_rate_low:g} and "
                    f"learning_rate_high = {self.learning_rate_high:g}",
                    "leave it out, or move the bound",
                )
        self.check_searchable(self.space)
        if list(self.rungs) != sorted(set(self.rungs)):
            raise ConfigError(f"rungs = {list(self.rungs)} do not rise", "for example rungs=[0.25, 0.5]")
        if self.survivors == 1 and self.crossover not in (0.0, type(self).model_fields["crossover"].default):
            raise ConfigError(
                f"crossover = {self.crossover:g} has no effect: survivors = 1 has nobody to be crossed with",
                "keep more, or leave crossover out",
            )
        if self.survivors > self.population:
            raise ConfigError(
                f"survivors = {self.survivors} are more than population = {self.population}", "keep fewer"
            )
        if self.generations > 1 and self.survivors == self.population:
            raise ConfigError(
                f"survivors = {self.survivors} leave no place for children in population = {self.population}",
                "keep fewer, or set generations=1",
            )
        if self.survivors + self.immigrants > self.population:
            raise ConfigError(
                f"immigrants = {self.immigrants} and survivors = {self.survivors} are more than "
                f"population = {self.population}",
                "draw or keep fewer",
            )
        if self.inherit and self.rungs:
            raise ConfigError("rungs have no effect with inherit: a child goes on where its parent was", "set rungs=[]")
        return self

    def check_searchable(self, space: Space) -> None:
        """Refuse a space in which nothing can change.

        Raises:
            ConfigError: no gene has a second value.
        """
        if not space.free and not self.null_mutations:
            raise ConfigError("no gene has a second value, so nothing can be searched", "list more values of a gene")

    def _check_fitness(self) -> None:
        idle: tuple[str, ...]
        known = ("accuracy", "nll", "seed")
        if self.game:
            try:
                parse(self.game)
            except InputError as error:
                raise ConfigError(f"fitness = {self.fitness!r}: {error.message}", error.hint) from None
            idle, why = ASKED, "a game is played"
            if self.act != "choose":
                raise ConfigError("act = say has no effect: games are learnt as choices", "leave act out")
        elif self.fitness in known:
            idle, why = PLAYED, "no game is played"
            if self.act != "choose":
                raise ConfigError("act has no effect on a data set, which is answered in free text", "leave act out")
        else:
            raise ConfigError(f"fitness = {self.fitness!r} is not known", nearest(self.fitness, [*known, GAME]))
        for key in (*idle, *(() if self.game else ("temperature",))):
            if getattr(self, key) != type(self).model_fields[key].default:
                raise ConfigError(f"{key} = {shown(getattr(self, key))} has no effect: {why}", f"leave {key} out")
        if self.game and self.test_size not in (0, type(self).model_fields["test_size"].default):
            raise ConfigError(f"test_size = {self.test_size} has no effect: {why}", "leave it out; 0 means no test")

    @property
    def game(self) -> str:
        """The TASK of a fitness that is a game; empty for data sets."""
        return self.fitness.removeprefix(GAME) if self.fitness.startswith(GAME) else ""

    @property
    def genes(self) -> dict[str, tuple[Value, ...]]:
        """The values of each gene. Numbers rise, so that neighbours are near one another."""
        values: dict[str, tuple[Value, ...]] = {
            "rank": self.ranks,
            "alpha": self.alphas,
            "rslora": tuple(rule == "rslora" for rule in self.alpha_rules),
            "learning_rate": self.learning_rates,
            "dropout": self.dropouts,
            "targets": self.targets,
            "layers": self.layers,
            "weight_decay": self.weight_decays,
            "warmup": self.warmups,
        }
        return {gene: tuple(sorted(v)) if gene in NUMBERS else v for gene, v in values.items()}

    @property
    def space(self) -> Space:
        """Which genomes there may be."""
        usual: dict[str, str] = {gene: "draw" for gene in GENES}
        usual |= {"rank": "step/draw", "learning_rate": "jitter/draw"}
        moves = {gene: tuple(text.split("/")) for gene, text in {**usual, **self.mutations}.items()}
        return Space(self.genes, moves, (self.learning_rate_low, self.learning_rate_high))


EvolveConfig.FIXED = frozenset(EvolveConfig.model_fields) - EvolveConfig.FREE

# Sizes of trial runs; what means nothing beside the user's own values steps aside.
# `--pipeline-test`: everything once. Its one child is a crossover, then mutated.
PIPELINE_TEST: dict[str, Any] = {
    "population": 3,
    "generations": 2,
    "survivors": 2,
    "starters": 0,
    "immigrants": 0,
    "crossover": 1.0,
    "mutate_crossed": True,
    "null_mutations": False,
    "train_size": 10,
    "eval_size": 5,
    "evaluate_games": 4,
    "test_size": 5,
    "epochs": 1,
    "batch": 2,
    "rungs": (),
    "finalists": 1,
    "final_seeds": 1,
    "ranks": (16, 32),
}
# `--quick-test`: small, but all of it is there and there are children.
QUICK_TEST: dict[str, Any] = {
    "population": 4,
    "generations": 2,
    "survivors": 2,
    "starters": 0,
    "immigrants": 0,
    "train_size": 100,
    "eval_size": 20,
    "evaluate_games": 20,
    "test_size": 50,
    "epochs": 1,
    "batch": 10,
    "finalists": 1,
    "final_seeds": 1,
}
