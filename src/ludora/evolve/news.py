"""What an evolution tells those who wait: who is born, and how a generation ended."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ludora.evolve.history import History, Variant
from ludora.runs.log import RunLog


def log_birth(log: RunLog, variant: Variant) -> None:
    """A line about a new variant: how it came about, and in what it differs from its first parent."""
    whence = f" of {' and '.join(variant.parents)}" if variant.parents else ""
    differs = next(iter(variant.changes.values()), {})
    words = ", ".join(f"{gene} {before} -> {after}" for gene, (before, after) in differs.items())
    same = f"; a clone of {variant.clone_of}, whose result it has" if variant.clone_of else ""
    log.say(f"  {variant.id}: {variant.operator}{whence}{f' ({words})' if words else ''}{same}")


def log_generation(log: RunLog, history: History, row: Mapping[str, Any], seconds: Mapping[str, float]) -> None:
    """Metrics of a generation that is over, and a line about each survivor."""
    fitness, survivors = row["fitness"], row["survivors"]
    best = history.original(history.variants[row["best"]])
    new = history.born_in(row["number"])
    log.metrics(
        row["number"] + 1,
        {
            "best_fitness": row["best_fitness"],
            "mean_fitness": math.fsum(fitness.values()) / len(fitness),
            "survivors_fitness": math.fsum(fitness[name] for name in survivors) / len(survivors),
            **{f"best_{key}": value for key, value in best.measures.items()},
            "best_parameters": float(best.parameters),
            "hypervolume": row["hypervolume"],
            "new_variants": float(len(new)),
            "clones": float(sum(bool(variant.clone_of) for variant in new)),
            "failed_variants": float(sum(bool(variant.failed) for variant in new)),
            "stopped_variants": float(sum(variant.stopped_at is not None for variant in new)),
            "train_tokens": float(history.tokens),
            "seconds_train": seconds.get("train", 0.0),
            "seconds_score": seconds.get("score", 0.0),
        },
    )
    for name in survivors:
        log.say(f"  lives on: {name}, fitness {fitness[name]:+.4f} +- {row['deviation'][name]:.4f}")
