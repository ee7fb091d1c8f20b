"""What has happened in an evolution: the rows of its event log, and all that follows from them.

The log is the state. `History.record` writes a row and applies it, `History.read` applies the rows of a run again; so a
resumed run knows what the one that was killed knew, and a report reads nothing else. Weights are in the checkpoint.

    born        a variant, its parents, how it came about and in which genes it differs
    rung        who goes on after a share of the training, and by what
    scored      one variant's answers to one block of questions
    written     what the best variant's written answers to a block come to, where likelihoods are selected by
    failed      a variant whose numbers were no longer finite
    generation  who was in it, who lives on, and the best so far
    pack        how many variants are trained at once from here on
    final       a finalist that is trained again with another seed
    test        the answers to the questions that nothing was selected by
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from ludora.evolve.genome import Genome, Value

WORST = -1e9  # the fitness of numbers that are not finite
BASE = "base"  # the name under which the base model's own results stand


@dataclass(frozen=True, slots=True)
class Score:
    """The answers to a block of questions: mean and variance of what is selected by, over `n` questions.

    A variance of 0 means an exact value. `measures` are further figures, such as accuracy and perplexity. `values` are
    those of the single questions while they are at hand; they are not written down.
    """

    n: int
    mean: float
    variance: float
    measures: dict[str, float] = field(default_factory=dict)
    values: tuple[float, ...] = field(default=(), repr=False, compare=False)

    @property
    def error(self) -> float:
        """Standard error of the mean."""
        return math.sqrt(self.variance / self.n)


@dataclass(slots=True)
class Variant:
    """One genome and its fate.

    Attributes:
        operator: start, mutation, crossover, crossover+mutation or immigrant.
        changes: of each parent, the genes that differ: gene -> [before, after].
        clone_of: the earlier variant with this genome, or one that comes to the same: its result and weights count
            for this one, too.
        heir_of: the parent whose weights it began with, when weights are inherited.
        scores: by block of questions.
    """

    id: str
    generation: int
    parents: list[str]
    operator: str
    genome: Genome
    parameters: int
    changes: dict[str, dict[str, list[Value]]] = field(default_factory=dict)
    clone_of: str = ""
    heir_of: str = ""
    steps: int = 0
    tokens: int = 0
    stopped_at: int | None = None  # the rung after which it stopped
    failed: str = ""
    scores: dict[str, Score] = field(default_factory=dict)

    @property
    def measured(self) -> tuple[float, float]:
        """Mean of what is selected by over all questions answered, and its standard error."""
        n = sum(score.n for score in self.scores.values())
        mean = math.fsum(score.n * score.mean for score in self.scores.values()) / n
        squares = math.fsum(s.n * (s.variance + (s.mean - mean) ** 2) for s in self.scores.values())
        return mean, math.sqrt(squares) / n

    @property
    def measures(self) -> dict[str, float]:
        """Accuracy, perplexity ...: each the mean over all questions that it was measured on."""
        found = {}
        for key in dict.fromkeys(key for score in self.scores.values() for key in score.measures):
            scores = [score for score in self.scores.values() if key in score.measures and score.n]
            if scores:
                found[key] = math.fsum(s.n * s.measures[key] for s in scores) / sum(s.n for s in scores)
        return found

    @property
    def is_exact(self) -> bool:
        """Whether its value was computed, not measured on questions or games."""
        return all(score.n == 1 and score.variance == 0 for score in self.scores.values())

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)


@dataclass(slots=True)
class Generation:
    """A generation that is over: its variants, those that live on (the best first), and the fitness of the best."""

    number: int
    population: list[str]
    survivors: list[str]
    front: list[str]
    best: str
    best_fitness: float
    fitness: dict[str, float]


class History:
    """All variants and generations so far.

    Args:
        write: receives every new row: its kind and its values.
    """

    def __init__(self, write: Callable[..., None]) -> None:
        self._write = write
        self.variants: dict[str, Variant] = {}
        self.generations: list[Generation] = []
        self.rungs: dict[tuple[int, int], list[str]] = {}  # (generation, rung) -> who goes on
        self.base: dict[str, Score] = {}
        self.finals: dict[str, dict[str, Any]] = {}
        self.capacity = 0  # variants trained at once; 0: not yet known
        self.pass_tokens = 0
        self.converged = False
        self.tested: dict[str, Any] = {}

    @classmethod
    def read(
        cls, rows: Iterable[Mapping[str, Any]], write: Callable[..., None] = lambda kind, **values: None
    ) -> History:
        """The history that a run's events tell."""
        history = cls(write)
        for row in rows:
            history._apply(str(row.get("event")), row)
        return history

    def record(self, kind: str, **values: Any) -> None:
        """Something happened: write it down, and know it."""
        self._write(kind, **values)
        self._apply(kind, values)

    def _apply(self, kind: str, row: Mapping[str, Any]) -> None:
        match kind:
            case "born":
                genome = Genome.from_json(row["genome"])
                self.variants[row["id"]] = Variant(genome=genome, **{name: row[name] for name in _BORN})
            case "rung":
                self.rungs[row["generation"], row["rung"]] = list(row["kept"])
                for name in row["stopped"]:
                    self.variants[name].stopped_at = row["rung"]
                for name, facts in row["at"].items():
                    self.variants[name].steps, self.variants[name].tokens = facts["steps"], facts["tokens"]
            case "scored":
                score = Score(row["n"], row["mean"], row["variance"], dict(row["measures"]))
                if row["id"] == BASE:
                    self.base[row["block"]] = score
                elif row["id"] in self.variants:
                    variant = self.variants[row["id"]]
                    variant.scores[row["block"]] = score
                    variant.steps, variant.tokens = row["steps"], row["tokens"]
                else:
                    self.finals[row["id"]]["scores"][row["block"]] = score
                    self.finals[row["id"]]["tokens"] = row["tokens"]
            case "written":
                scores = self.variants[row["id"]].scores
                old = scores[row["block"]]
                scores[row["block"]] = replace(old, measures={**row["measures"], **old.measures})
            case "failed":
                if row["id"] in self.variants:
                    variant = self.variants[row["id"]]
                    variant.failed, variant.steps, variant.tokens = row["reason"], row["steps"], row["tokens"]
                else:
                    self.finals[row["id"]]["failed"] = row["reason"]
            case "generation":
                self.generations.append(Generation(**{name: row[name] for name in _GENERATION}))
            case "pack":
                self.capacity, self.pass_tokens = row["capacity"], row["pass_tokens"]
            case "converged":
                self.converged = True
            case "final":
                self.finals[row["id"]] = {
                    "variant": row["variant"],
                    "seed": row["seed"],
                    "tokens": 0,
                    "scores": {},
                    "failed": "",
                }
            case "test":
                self.tested = dict(row)

    # ---- what follows ------------------------------------------------------------------------------------------------

    @property
    def number(self) -> int:
        """The generation that is under way."""
        return len(self.generations)

    @property
    def survivors(self) -> list[Variant]:
        """Those that live on from the last generation, the best first."""
        return [self.variants[name] for name in self.generations[-1].survivors] if self.generations else []

    @property
    def best(self) -> str:
        """The best of all generations so far; empty while there is none."""
        return self.generations[-1].best if self.generations else ""

    def born_in(self, generation: int) -> list[Variant]:
        """The variants that came up in a generation, in order."""
        return [variant for variant in self.variants.values() if variant.generation == generation]

    def of_genome(self, genome: Genome) -> Variant | None:
        """The latest variant with this genome, or one that comes to the same; no clones, and no heirs."""
        wanted = genome.identity
        own = (v for v in reversed(self.variants.values()) if not v.clone_of and not v.heir_of)
        return next((v for v in own if v.genome.identity == wanted), None)

    def to_clone(self, genome: Genome) -> Variant | None:
        """The variant with this genome whose result and weights can be those of another one, too.

        Its weights are there, or it never came through the training, so that nobody will ask for them.
        """
        found = self.of_genome(genome)
        there = found and (found.generation == self.number or found.id in self.kept or not self.unrivalled(found.id))
        return found if there else None

    @property
    def kept(self) -> set[str]:
        """Whose weights outlive the last generation: the survivors, the best, and those whose clones these are."""
        if not self.generations:
            return set()
        names = {*self.generations[-1].survivors, self.best}
        return names | {self.original(self.variants[name]).id for name in names}

    def original(self, variant: Variant) -> Variant:
        """Whose result counts for a variant: its own, unless it is a clone."""
        return self.variants[variant.clone_of] if variant.clone_of else variant

    def unused_name(self, genome: Genome, generation: int) -> str:
        """`r64_lr2e-5_d0.10_g3`, with -2, -3 ... where another variant has that name."""
        name = f"{genome.label}_g{generation}"
        taken = sum(other == name or other.startswith(f"{name}-") for other in self.variants)
        return f"{name}-{taken + 1}" if taken else name

    @property
    def tokens(self) -> int:
        """Tokens of training so far, clones not counted again."""
        return sum(variant.tokens for variant in self.variants.values())

    def unrivalled(self, name: str) -> bool:
        """Whether a variant went through the whole training with finite numbers."""
        variant = self.original(self.variants[name])
        return not variant.failed and variant.stopped_at is None


_BORN = ("id", "generation", "parents", "operator", "parameters", "changes", "clone_of", "heir_of")
_GENERATION = tuple(field.name for field in fields(Generation))
