"""What an evolution's events say beyond its winner: who came of whom, what survived, and which changes helped.

Everything is computed from `evolve.history` and the events themselves; nothing is trained or asked again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ludora.evals.stats import mean_interval, rank_correlation
from ludora.evolve.genome import GENES, Value
from ludora.evolve.history import History, Variant
from ludora.evolve.selection import on_one_scale

BINS = 6  # columns or rows of a heat map for a gene with many values


@dataclass(frozen=True, slots=True)
class Member:
    """One variant as the analysis sees it.

    `fitness` is what all answers of the run together say, so that those of different generations can be compared: None
    where it was stopped at a rung or failed. `generations` are those that it lived in, `survived` says whether one of
    them kept it.
    """

    variant: Variant
    fitness: float | None
    generations: tuple[int, ...]
    survived: bool

    @property
    def fate(self) -> str:
        """What became of it, in a word."""
        if self.variant.failed:
            return "failed"
        if self.variant.stopped_at is not None:
            return "stopped"
        return "survived" if self.survived else "died"


@dataclass(frozen=True, slots=True)
class Effect:
    """What came of one way of making children, or of changing one gene.

    `better` children have a higher fitness than their best parent; those that were stopped early are not better.
    `gain` is the mean difference to the best parent, of the children that have a fitness, with its interval.
    """

    name: str
    children: int
    better: int
    survived: int
    gain: float | None
    gain_low: float | None
    gain_high: float | None


@dataclass(frozen=True, slots=True)
class Survival:
    """How variants with one value of a gene fared; `fitness` is the mean of those that have one."""

    gene: str
    value: str
    variants: int
    survived: int
    fitness: float | None


@dataclass(frozen=True, slots=True)
class RungCheck:
    """Whether a rung's values said who would be best at the end: rank correlation over the variants that went on, over
    all generations. Those that it stopped have no end to compare with.
    """

    rung: int
    pairs: tuple[tuple[float, float], ...]  # (value at the rung, fitness at the end)
    correlation: float | None


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Mean fitness by two genes; `cells[y][x]` is (mean, variants), or None where there is nobody with a fitness."""

    x: str
    y: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    cells: tuple[tuple[tuple[float, int] | None, ...], ...]


@dataclass(frozen=True, slots=True)
class Lineage:
    """An evolution, read from its events."""

    history: History
    members: Mapping[str, Member]
    rung_values: Mapping[tuple[int, int], Mapping[str, float]] = field(default_factory=dict)

    @classmethod
    def read(cls, events: Sequence[Mapping[str, Any]], posterior: bool = True) -> Lineage:
        """The lineage that a run's events tell, judged by posterior means unless the run was not.

        Raises:
            KeyError, TypeError, ValueError: an event is not what an evolution writes.
        """
        history = History.read(events)
        rungs = {
            (int(e["generation"]), int(e["rung"])): {str(name): float(at["value"]) for name, at in e["at"].items()}
            for e in events
            if e.get("event") == "rung"
        }
        fitness = on_one_scale(history, posterior)
        judged: set[str] = set()
        lived: dict[str, list[int]] = {}
        survived: set[str] = set()
        for generation in history.generations:
            judged |= set(generation.fitness)
            survived |= set(generation.survivors)
            for name in generation.population:
                lived.setdefault(name, []).append(generation.number)
        known = {name: value for name, value in fitness.items() if name in judged}
        members = {
            name: Member(v, known.get(name), tuple(lived.get(name, [v.generation])), name in survived)
            for name, v in history.variants.items()
        }
        return cls(history, members, rungs)

    # ---- single figures --------------------------------------------------------------------------------------------

    @property
    def finished(self) -> list[Member]:
        """Those that have a fitness of their own; a clone has its original's."""
        return [m for m in self.members.values() if m.fitness is not None and not m.variant.clone_of]

    def best(self) -> Member | None:
        """The best of all generations."""
        return self.members.get(self.history.best)

    @property
    def front(self) -> list[Member]:
        """The Pareto front of fitness and trainable parameters: whom nobody beats in both; the smallest first."""
        front: list[Member] = []
        ranked = sorted(self.finished, key=lambda m: (m.variant.parameters, -(m.fitness or 0.0)))
        for member in ranked:
            if not front or (member.fitness or 0.0) > (front[-1].fitness or 0.0):
                front.append(member)
        return front

    @property
    def generations(self) -> list[tuple[int, float | None, float | None]]:
        """Of each generation that is over: how many these are, the fitness of the best of all so far, and the mean."""
        found = []
        for generation in self.history.generations:
            known = [f for name in generation.fitness if (f := self.members[name].fitness) is not None]
            mean = math.fsum(known) / len(known) if known else None
            found.append((generation.number + 1, self.members[generation.best].fitness, mean))
        return found

    # ---- what helped -----------------------------------------------------------------------------------------------

    def operators(self) -> list[Effect]:
        """The effect of every way in which children were made."""
        children = [m for m in self.members.values() if m.variant.parents]
        return self._effects(children, lambda m: [m.variant.operator])

    def mutations(self) -> list[Effect]:
        """The effect of changes, gene by gene: of all children that differ from their first parent there."""
        children = [m for m in self.members.values() if m.variant.parents and not m.variant.clone_of]

        def changed(member: Member) -> list[str]:
            return list(member.variant.changes.get(member.variant.parents[0], {}))

        found = {effect.name: effect for effect in self._effects(children, changed)}
        return [found[gene] for gene in GENES if gene in found]

    def _effects(self, children: Iterable[Member], kinds: Callable[[Member], list[str]]) -> list[Effect]:
        groups: dict[str, list[Member]] = {}
        for member in children:
            for kind in kinds(member):
                groups.setdefault(kind, []).append(member)
        effects = []
        for kind, group in sorted(groups.items()):
            gains = [gain for member in group if (gain := self._gain(member)) is not None]
            mean = mean_interval(gains) if gains else None
            better = sum(gain > 0 for gain in gains)
            ends = (mean.mean, mean.low, mean.high) if mean else (None, None, None)
            effects.append(Effect(kind, len(group), better, sum(m.survived for m in group), *ends))
        return effects

    def _gain(self, member: Member) -> float | None:
        """By how much a child is better than its best parent."""
        parents = [self.members[p].fitness for p in member.variant.parents if p in self.members]
        known = [fitness for fitness in parents if fitness is not None]
        return None if member.fitness is None or not known else member.fitness - max(known)

    def survival(self) -> list[Survival]:
        """Every value of every gene that has several: how many had it, and how many of them lived on."""
        found = []
        for gene in self.varied:
            for value in self._values(gene):
                group = [m for m in self.members.values() if getattr(m.variant.genome, gene) in value.of]
                known = [m.fitness for m in group if m.fitness is not None]
                mean = math.fsum(known) / len(known) if known else None
                found.append(Survival(gene, value.label, len(group), sum(m.survived for m in group), mean))
        return found

    @property
    def varied(self) -> list[str]:
        """The genes that have more than one value among all variants."""
        return [g for g in GENES if len({getattr(m.variant.genome, g) for m in self.members.values()}) > 1]

    # ---- heat maps -------------------------------------------------------------------------------------------------

    def heat_map(self, x: str, y: str) -> HeatMap:
        """Mean fitness of the variants by their values of two genes."""
        columns, rows = self._values(x), self._values(y)
        cells = []
        for row in rows:
            line: list[tuple[float, int] | None] = []
            for column in columns:
                genomes = [(m, m.variant.genome) for m in self.finished]
                known = [m.fitness or 0.0 for m, g in genomes if getattr(g, x) in column.of and getattr(g, y) in row.of]
                line.append((math.fsum(known) / len(known), len(known)) if known else None)
            cells.append(tuple(line))
        return HeatMap(x, y, tuple(c.label for c in columns), tuple(r.label for r in rows), tuple(cells))

    def heat_maps(self) -> list[HeatMap]:
        """The learning rate against every other gene that varies; else the first gene against the others."""
        varied = self.varied
        against = "learning_rate" if "learning_rate" in varied else next(iter(varied), "")
        return [self.heat_map(against, gene) for gene in varied if gene != against]

    def _values(self, gene: str) -> list[_Bin]:
        """The values of a gene in order, neighbours taken together where there are many."""
        values = {getattr(m.variant.genome, gene) for m in self.members.values()}
        if all(isinstance(v, bool | str) for v in values):
            return [_Bin(_label(v), frozenset([v])) for v in sorted(values, key=str)]
        ordered = sorted(values)
        size = -(-len(ordered) // BINS)
        groups = [ordered[i : i + size] for i in range(0, len(ordered), size)]
        return [
            _Bin(_label(g[0]) if len(g) == 1 else f"{_label(g[0])}\N{EN DASH}{_label(g[-1])}", frozenset(g))
            for g in groups
        ]

    # ---- rungs -----------------------------------------------------------------------------------------------------

    def rungs(self) -> list[RungCheck]:
        """Rung by rung, whether it judged well."""
        pairs: dict[int, list[tuple[float, float]]] = {}
        for (_, rung), values in self.rung_values.items():
            found = pairs.setdefault(rung, [])
            ends = ((value, self.members[name].fitness) for name, value in values.items() if name in self.members)
            found += [(value, end) for value, end in ends if end is not None and math.isfinite(value)]
        return [
            RungCheck(rung, tuple(found), rank_correlation([a for a, _ in found], [b for _, b in found]))
            for rung, found in sorted(pairs.items())
        ]


@dataclass(frozen=True, slots=True)
class _Bin:
    """Values of a gene that are shown as one."""

    label: str
    of: frozenset[Value]


def _label(value: Value) -> str:
    """A value as short as it can be told."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and 0 < abs(value) < 0.01:
        mantissa, _, exponent = f"{value:.1e}".partition("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    return f"{value:.2g}" if isinstance(value, float) else str(value)
