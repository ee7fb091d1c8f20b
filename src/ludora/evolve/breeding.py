"""Who is born in a generation: the start, then children of the survivors. No child's draw hangs on another's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from ludora.evolve.genome import GENES, Genome, Space, changes
from ludora.evolve.history import History, Variant
from ludora.evolve.operators import cross, mutate
from ludora.evolve.settings import EvolveConfig
from ludora.rng import generator

ATTEMPTS = 100  # draws of a child until its genome is a new one
Points = Callable[[int, int], list[list[float]]]  # (number of points, dimensions) -> points in the unit cube


@dataclass(frozen=True, slots=True)
class Birth:
    """A child before it has a name."""

    genome: Genome
    operator: str
    parents: tuple[Variant, ...] = ()


def breed(config: EvolveConfig, space: Space, history: History, points: Points, size: Callable[[Genome], int]) -> None:
    """Record the births of the generation that is under way.

    Args:
        points: evenly spread points for the first generation.
        size: trainable parameters of a genome.
    """
    for birth in _births(config, space, history, points):
        known = history.to_clone(birth.genome)
        heir = birth.parents[0].id if config.inherit and birth.parents else ""
        row: dict[str, Any] = {
            "id": history.unused_name(birth.genome, history.number),
            "generation": history.number,
            "parents": [parent.id for parent in birth.parents],
            "operator": birth.operator,
            "genome": birth.genome.to_json(),
            "parameters": size(birth.genome),
            "changes": {parent.id: changes(parent.genome, birth.genome) for parent in birth.parents},
            "clone_of": known.id if known and not heir else "",
            "heir_of": heir,
        }
        history.record("born", **row)


def _births(config: EvolveConfig, space: Space, history: History, points: Points) -> Iterator[Birth]:
    if not history.number:
        yield from _start(config, space, history, points)
        return
    parents = history.survivors
    room = config.population - len(parents)
    children = room - config.immigrants
    pairs = round(children * config.crossover) if len(parents) > 1 else 0
    for number in range(room):
        kind = "crossover" if number < pairs else "mutation" if number < children else "immigrant"
        birth = _child(config, space, history, parents, (kind, number))
        if birth:
            yield birth


def _start(config: EvolveConfig, space: Space, history: History, points: Points) -> Iterator[Birth]:
    count = config.starters or config.population
    spread = points(count, len(GENES)) if config.start == "sobol" else []
    for number in range(count):
        for attempt in range(ATTEMPTS):
            random = generator("start", config.seed, number, attempt)
            genome = space.at(spread[number]) if spread and not attempt else space.draw(random)
            if config.null_mutations or not history.of_genome(genome):
                yield Birth(genome, "start")
                break


def _child(
    config: EvolveConfig, space: Space, history: History, parents: Sequence[Variant], what: tuple[str, int]
) -> Birth | None:
    """One child. Unless clones are allowed its genome is a new one; None where there seems to be none left."""
    kind, number = what
    for attempt in range(ATTEMPTS):
        random = generator("child", config.seed, history.number, number, attempt)
        birth = _draw(config, space, parents, kind if attempt < ATTEMPTS // 2 else "immigrant", random)
        if config.null_mutations or config.inherit or not history.of_genome(birth.genome):
            return birth
    return None


def _draw(config: EvolveConfig, space: Space, parents: Sequence[Variant], kind: str, random: Random) -> Birth:
    if kind == "immigrant":
        return Birth(space.draw(random), kind)
    rate, null = config.mutation_rate, config.null_mutations
    if kind == "mutation":
        parent = random.choice(parents)
        return Birth(mutate(parent.genome, space, rate, random, null=null), kind, (parent,))
    first, second = random.sample(list(parents), 2)
    crossed = cross(first.genome, second.genome, random)
    if not config.mutate_crossed:
        return Birth(crossed, kind, (first, second))
    return Birth(mutate(crossed, space, rate, random, null=null), f"{kind}+mutation", (first, second))
