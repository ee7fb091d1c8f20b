"""What is evolved: the settings of one LoRA adapter and of its training, as a row of genes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from random import Random
from typing import Any

Value = int | float | str | bool
DIGITS = 6  # significant ones of a float gene: what differs by less is the same genome


@dataclass(frozen=True, slots=True)
class Genome:
    """One variant's settings; the fields are its genes.

    `alpha` is a multiple of the rank: LoRA alpha = rank x alpha, divided by the rank, or by its square root with
    `rslora`. `targets` is what `LoraSettings.targets` is, names joined by `+`. `warmup` is a share of the steps.
    """

    rank: int
    alpha: float
    rslora: bool
    learning_rate: float
    dropout: float
    targets: str
    layers: str
    weight_decay: float
    warmup: float

    def to_json(self) -> dict[str, Value]:
        """The genes by name."""
        return asdict(self)

    @classmethod
    def from_json(cls, genes: Mapping[str, Any]) -> Genome:
        """The inverse of `to_json`."""
        return cls(**{field.name: genes[field.name] for field in fields(cls)})

    @property
    def digest(self) -> str:
        """A hash of all genes: equal for equal genomes only, whatever their floats were computed by."""
        return sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:16]

    @property
    def identity(self) -> str:
        """A hash of what the genes come to: equal for those that make the same adapter, trained in the same way.

        What alpha is and what it is divided by matter by their quotient alone.
        """
        scale = canonical(self.alpha * self.rank**0.5 if self.rslora else self.alpha)
        rest = {gene: value for gene, value in self.to_json().items() if gene not in ("alpha", "rslora")}
        return sha256(json.dumps({**rest, "scale": scale}, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def label(self) -> str:
        """A readable name, not unique: `r64_lr2e-5_d0.10`."""
        mantissa, _, exponent = f"{self.learning_rate:.2e}".partition("e")
        rate = f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
        return f"r{self.rank}_lr{rate}_d{self.dropout:.2f}"


GENES = tuple(field.name for field in fields(Genome))


def changes(before: Genome, after: Genome) -> dict[str, list[Value]]:
    """The genes in which two genomes differ: gene -> [before, after]."""
    return {
        gene: [getattr(before, gene), getattr(after, gene)]
        for gene in GENES
        if getattr(before, gene) != getattr(after, gene)
    }


@dataclass(frozen=True, slots=True)
class Space:
    """Which genomes there may be: the values of each gene, and how it mutates.

    Args:
        values: gene -> its values, in order.
        moves: gene -> the ways it mutates, one of them drawn each time (see `operators.MOVES`).
        bounds: of the learning rate, which may leave its list.
    """

    values: Mapping[str, tuple[Value, ...]]
    moves: Mapping[str, tuple[str, ...]]
    bounds: tuple[float, float]

    def draw(self, random: Random) -> Genome:
        """A genome of the lists, each gene uniformly."""
        return self.at([random.random() for _ in GENES])

    def at(self, point: Sequence[float]) -> Genome:
        """The genome at a point of the unit cube, one coordinate in [0, 1) per gene."""
        chosen = {gene: pick(self.values[gene], u) for gene, u in zip(GENES, point, strict=True)}
        return self.rounded(Genome.from_json(chosen))

    def rounded(self, genome: Genome) -> Genome:
        """The genome with its floats in canonical form."""
        genes = genome.to_json()
        kinds = {field.name: str(field.type) for field in fields(Genome)}
        floats = {gene: canonical(float(genes[gene])) for gene, kind in kinds.items() if kind == "float"}
        return Genome.from_json({**genes, **floats})

    @property
    def free(self) -> tuple[str, ...]:
        """The genes that can differ at all."""
        low, high = map(canonical, self.bounds)
        leaves = {"scale", "jitter"} if low < high else set()  # ways out of the list, where there is a way
        return tuple(g for g in GENES if len(self.values[g]) > 1 or leaves & set(self.moves[g]))


def canonical(value: float) -> float:
    """A float gene, rounded so that what is nearly the same is the same."""
    return float(f"{value:.{DIGITS}g}")


def pick(values: Sequence[Value], u: float) -> Value:
    """The value at quantile u of a list."""
    return values[min(len(values) - 1, int(u * len(values)))]
