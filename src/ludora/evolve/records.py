"""What an evolution leaves behind for its readers: one `Variant` per adapter that was tried, and what a run came to.

The run writes them as events (`events.jsonl`); the report reads them back. Nothing here needs torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ludora.errors import InputError

EVENT = "variant"  # the name of the event that holds one; a later one of the same id and generation replaces it


@dataclass(frozen=True, slots=True)
class Rung:
    """A variant's score (higher is better) when it had learnt from so many tokens."""

    tokens: int
    score: float


@dataclass(frozen=True, slots=True)
class Variant:
    """One adapter in one generation.

    An elite that is carried on has an entry in every generation that it lives in, with the same id. `operators` are the
    ones that made it, in order (`random`, `sobol`, `mutation`, `crossover`, `elite`, `immigrant` ...); `changes` maps
    each gene that differs from the first parent's to (before, after). `genome` maps genes to plain values. `fitness`
    is what selection went by, None for a variant that was stopped early or died. `clone` names the earlier variant with
    an equal genome whose result was taken over.
    """

    id: str
    generation: int
    parents: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    genome: Mapping[str, Any] = field(default_factory=dict)
    changes: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    rungs: tuple[Rung, ...] = ()
    fitness: float | None = None
    accuracy: float | None = None
    perplexity: float | None = None
    parameters: int = 0
    tokens: int = 0
    seconds: float = 0.0
    survived: bool = False
    clone: str = ""

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary, for `log.event(EVENT, **...)`; what is not finite becomes null."""
        return dict(_finite(asdict(self)))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Variant:
        """The inverse of `to_json`.

        Raises:
            InputError: it is no variant.
        """
        try:
            known = {k: v for k, v in data.items() if k in cls.__dataclass_fields__}
            known["parents"], known["operators"] = (tuple(map(str, data[k])) for k in ("parents", "operators"))
            known["genome"] = dict(data["genome"])
            known["changes"] = {gene: (pair[0], pair[1]) for gene, pair in dict(data["changes"]).items()}
            scores = ((int(r["tokens"]), r["score"]) for r in data["rungs"])
            known["rungs"] = tuple(Rung(tokens, -math.inf if score is None else score) for tokens, score in scores)
            return cls(**known)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise InputError(f"this is no variant: {error!r}", "is the run's events.jsonl whole?") from None


def variants(events: Iterable[Mapping[str, Any]]) -> list[Variant]:
    """All variants among a run's events, by generation and in the order of their first event; the last of each counts.

    Raises:
        InputError: one cannot be read.
    """
    found: dict[tuple[int, str], Variant] = {}
    for event in events:
        if event.get("event") == EVENT:
            variant = Variant.from_json(event)
            found[variant.generation, variant.id] = variant
    return sorted(found.values(), key=lambda v: v.generation)


def _finite(value: Any) -> Any:
    """A value with every number that JSON does not have as None."""
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
