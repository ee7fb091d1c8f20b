"""How children come of parents: mutation and crossover, and in which order the better ones are.

All randomness is that of the generator given, which belongs to one child.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import cast

from ludora.evolve.genome import GENES, Genome, Space, Value, canonical

# The ways a gene mutates. `scale` and `jitter` leave the list of values, within the space's bounds.
MOVES = {
    "step": "to a neighbour in the list",
    "draw": "to any value of the list",
    "scale": "times 0.5, 0.8, 1.25 or 2",
    "jitter": "times a log-normal factor",
}
FACTORS = (0.5, 0.8, 1.25, 2.0)
JITTER = 0.5  # standard deviation of the factor's logarithm
TRIES = 50  # mutations tried before one is forced
FORCED = 1000  # tries to change one gene that has a second value


def mutate(parent: Genome, space: Space, rate: float, random: Random, *, null: bool = False) -> Genome:
    """Each gene mutates with probability `rate`. At least one changes, unless `null` allows that none does.

    Raises:
        ValueError: no gene can change.
    """
    for _ in range(1 if null else TRIES):
        child = parent
        for gene in GENES:
            if random.random() < rate:
                child = _moved(child, gene, space, random)
        if null or child != parent:
            return child
    for _ in range(FORCED if space.free else 0):
        if (child := _moved(parent, random.choice(space.free), space, random)) != parent:
            return child
    raise ValueError("no gene has a second value")


def _moved(genome: Genome, gene: str, space: Space, random: Random) -> Genome:
    values, now = space.values[gene], getattr(genome, gene)
    move = random.choice(space.moves[gene])
    if move == "draw":
        new = random.choice(values)
    elif move == "step":
        new = _neighbour(values, now, random)
    else:
        factor = random.choice(FACTORS) if move == "scale" else math.exp(random.gauss(0.0, JITTER))
        low, high = space.bounds
        new = min(max(now * factor, low), high)
    return space.rounded(Genome.from_json({**genome.to_json(), gene: new}))


def _neighbour(values: Sequence[Value], now: Value, random: Random) -> Value:
    """A value beside the present one; a number that left the list counts as the value nearest to it."""
    listed = [canonical(value) if isinstance(value, float) else value for value in values]  # as genomes have them
    if now in listed:
        at = listed.index(now)
    else:
        numbers = cast("Sequence[float]", values)
        at = min(range(len(values)), key=lambda i: abs(math.log(numbers[i] / cast(float, now))))
    beside = [i for i in (at - 1, at + 1) if 0 <= i < len(values)]
    return values[random.choice(beside)] if beside else now


def cross(first: Genome, second: Genome, random: Random) -> Genome:
    """Each gene of either parent, with equal chances."""
    return Genome.from_json({gene: getattr(random.choice((first, second)), gene) for gene in GENES})


# ---- which is better -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a variant: its quality (higher is better), how sure that is, and its trainable parameters."""

    name: str
    quality: float
    deviation: float
    parameters: int


def by_pareto(standings: Sequence[Standing]) -> list[list[Standing]]:
    """Fronts, the best first: nobody in a front is beaten in quality and parameters at once by one of it or below.

    Qualities count as equal within the cells of a grid half the mean deviation wide (epsilon-dominance, Laumanns et al.
    2002), so that noise beats nobody. Within a front the better come first.
    """
    deviation = math.fsum(s.deviation for s in standings) / max(1, len(standings))
    grid = {s.name: _cell(s.quality, deviation / 2) for s in standings}
    left = sorted(standings, key=lambda s: (-grid[s.name], s.parameters, -s.quality, s.name))
    fronts = []
    while left:
        front: list[Standing] = []
        smallest = math.inf
        for s in left:  # by falling quality: in front is who is smaller than all before
            if s.parameters < smallest or (front and _equal(front[-1], s, grid)):
                front.append(s)
                smallest = s.parameters
        fronts.append(front)
        left = [s for s in left if s not in front]
    return fronts


def _cell(quality: float, width: float) -> float:
    return math.floor(quality / width) if width > 0 else quality


def _equal(a: Standing, b: Standing, grid: dict[str, float]) -> bool:
    return grid[a.name] == grid[b.name] and a.parameters == b.parameters


def by_quality(standings: Sequence[Standing]) -> list[Standing]:
    """The best first; of equals the smaller, then by name."""
    return sorted(standings, key=lambda s: (-s.quality, s.parameters, s.name))


def hypervolume(standings: Sequence[Standing], worst: float, largest: int) -> float:
    """Area of (quality above `worst`) x (share by which the logarithm of the parameters is below that of `largest`)
    that is dominated. Areas of the same `worst` and `largest` can be compared: the larger one's front is further out.
    """
    points = sorted(
        ((1 - math.log(s.parameters) / math.log(largest), s.quality - worst) for s in standings), reverse=True
    )
    area = height = 0.0
    for i, (room, quality) in enumerate(points):
        height = max(height, quality)
        following = points[i + 1][0] if i + 1 < len(points) else 0.0
        area += max(0.0, height) * (room - following)
    return area


def converged(best: Sequence[float], window: int, gain: float) -> bool:
    """Whether the best fitness grew by less than the share `gain` over the last `window` generations."""
    if len(best) < window:
        return False
    first, last = best[-window], best[-1]
    return (last - first) / (abs(first) + 1e-10) < gain
