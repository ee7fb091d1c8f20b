"""Who lives on. Judged by what all questions that somebody answered say together, not by the luckiest measurement."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

from ludora.errors import TrainingFailed
from ludora.evolve.estimates import levels, shrunk
from ludora.evolve.history import BASE, WORST, History, Variant
from ludora.evolve.operators import Standing, by_pareto, by_quality, converged, hypervolume
from ludora.evolve.settings import EvolveConfig

WINDOW, GAIN = 5, 0.01  # convergence: generations looked at, and the relative gain that is too little


def standings(config: EvolveConfig, history: History) -> dict[str, Standing]:
    """What is known of every variant that went through the whole training, clones included."""
    names = [name for name in history.variants if history.unrivalled(name) and _scores(history, name)]
    originals = [history.original(history.variants[name]) for name in names]
    measured = {variant.id: variant.measured for variant in originals}
    if config.posterior:
        measured |= _levelled(history, _noisy(originals), config.fresh_questions)
    return {
        name: Standing(name, *measured[original.id], history.variants[name].parameters)
        for name, original in zip(names, originals, strict=True)
    }


def on_one_scale(history: History, posterior: bool) -> dict[str, float]:
    """What every variant that went through the whole training is worth, as all answers so far tell it.

    What a generation wrote down stands on the scale of the questions that were answered until then, which new ones
    shift; so two generations' figures are compared here alone, also where the run itself judged by raw means.
    """
    names = [name for name in history.variants if history.unrivalled(name) and _scores(history, name)]
    originals = {name: history.original(history.variants[name]) for name in names}
    measured = {variant.id: variant.measured for variant in originals.values()}
    fresh = len({block for variant in originals.values() for block in variant.scores}) > 1
    if posterior or fresh:
        measured |= _levelled(history, _noisy(originals.values()), fresh, draw=posterior)
    return {name: measured[variant.id][0] for name, variant in originals.items()}


def _noisy(variants: Iterable[Variant]) -> list[Variant]:
    """Those that were measured, with finite numbers."""
    return [v for v in variants if v.measured[0] > WORST / 2 and not v.is_exact]


def _levelled(
    history: History, variants: Sequence[Variant], fresh: bool, *, draw: bool = True
) -> dict[str, tuple[float, float]]:
    """Mean and deviation of each: the difficulty of `fresh` blocks taken out, then drawn towards the mean of all.

    The base, which answered every block, helps to tell the blocks apart.
    """
    scores = {variant.id: variant.scores for variant in variants}
    errors = [score.error for blocks in scores.values() for score in blocks.values() if score.error > 0]
    if not errors:
        return {}
    least = median(errors) / 2  # whose answers were all right, or all wrong, is not as sure as a variance of 0 says
    answered = [(name, block, s.mean, max(s.error, least)) for name, own in scores.items() for block, s in own.items()]
    if fresh:
        blocks = {block for _, block, *_ in answered} & history.base.keys()
        base = [(BASE, block, history.base[block]) for block in sorted(blocks)]
        known = levels(answered + [(name, block, s.mean, max(s.error, least)) for name, block, s in base])
    else:
        known = {name: (mean, error) for name, _, mean, error in answered}  # all answered the same, once
    names = list(scores)
    if not draw:
        return {name: known[name] for name in names}
    return dict(zip(names, shrunk(*zip(*(known[name] for name in names), strict=True)), strict=True))


def _scores(history: History, name: str) -> bool:
    return bool(history.original(history.variants[name]).scores)


def conclude_generation(config: EvolveConfig, history: History) -> dict[str, Any]:
    """The row of the generation that is under way: who lives on, and the best of all.

    Raises:
        TrainingFailed: nobody is left.
    """
    known = standings(config, history)
    population = [variant.id for variant in (*history.survivors, *history.born_in(history.number))]
    here = [known[name] for name in population if name in known]
    if not here:
        raise TrainingFailed(
            "no variant of this generation came through its training with finite numbers", "lower learning_rates"
        )
    fronts = by_pareto(here)
    ranked = [s for front in fronts for s in front] if config.selection == "pareto" else by_quality(here)
    survivors = (ranked if config.null_mutations else _distinct(history, ranked))[: config.survivors]
    # Not of all: new answers can put one first whose weights were given up, because it was neither best nor lived on.
    best = by_quality([*here, *(known[name] for name in (history.best,) if name in known.keys() - set(population))])[0]
    worst = min(s.quality for s in known.values())
    largest = max(variant.parameters for variant in history.variants.values())
    return {
        "number": history.number,
        "population": population,
        "survivors": [s.name for s in survivors],
        "front": [s.name for s in fronts[0]],
        "best": best.name,
        "fitness": {s.name: s.quality for s in here},
        "deviation": {s.name: s.deviation for s in here},
        "best_fitness": best.quality,
        "hypervolume": hypervolume(list(known.values()), worst, largest + 1),
    }


def _distinct(history: History, ranked: list[Standing]) -> list[Standing]:
    """Each genome once: two clones of one result teach nothing that one does not."""
    seen: dict[str, Standing] = {}
    for standing in ranked:
        variant = history.variants[standing.name]
        seen.setdefault(variant.id if variant.heir_of else variant.genome.identity, standing)
    return list(seen.values())


def is_converged(config: EvolveConfig, history: History) -> bool:
    """Whether the best of the last generation is hardly better than those before: all as they are judged now."""
    known = on_one_scale(history, config.posterior)
    return converged([known[generation.best] for generation in history.generations], WINDOW, GAIN)


def finalists(config: EvolveConfig, history: History) -> list[Variant]:
    """The best variants of all generations, each genome once."""
    ranked = _distinct(history, by_quality(list(standings(config, history).values())))
    return [history.variants[standing.name] for standing in ranked[: config.finalists]]


def keep_after_rung(values: dict[str, float], share: float) -> list[str]:
    """The names of the better ones, in the given order: `share` of them, at least one."""
    count = max(1, math.ceil(len(values) * share))
    worth = {name: value if math.isfinite(value) else -math.inf for name, value in values.items()}
    best = sorted(values, key=lambda name: (-worth[name], list(values).index(name)))[:count]
    return [name for name in values if name in best]
