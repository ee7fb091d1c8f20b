"""`lora = NAME`: the shape of an adapter by the number of the model's parameters, counted and never read off its name.

`efficient`, `balanced`, `quality` and `memory` are the house's own (`families.preset`). The `seed-` ones are the rows
of the document that Ludora's imitation grew from, which had models of 7 and 13 billion parameters and larger ones in
mind; the bounds between them are ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from ludora.models.families import preset, query_and_value
from ludora.models.known import Family
from ludora.models.load import outline
from ludora.settings import TrainSettings

C = TypeVar("C", bound=TrainSettings)
Row = dict[str, Any]

_SMALL, _MIDDLE = 10e9, 20e9  # parameters below which a model counts as one of 7, or of 13 billion
_EVERY: Row = {"layers": "all", "batch": 16}
_LEAN: Row = {**_EVERY, "rank": 8, "alpha": 16.0, "dropout": 0.1, "targets": "query and value"}
_RICH: Row = {**_EVERY, "rank": 16, "alpha": 32.0, "dropout": 0.05, "targets": "attention", "accumulation": 4}
_TIGHT: Row = {
    **_EVERY,
    "rank": 4,
    "alpha": 8.0,
    "dropout": 0.1,
    "targets": "query",
    "accumulation": 8,
    "quantize": "8bit",
    "gradient_checkpointing": True,
}
# (up to so many parameters, row)
_SEED: dict[str, tuple[tuple[float, Row], ...]] = {
    "seed-speed": (
        (_SMALL, {**_LEAN, "accumulation": 2}),
        (_MIDDLE, {**_LEAN, "accumulation": 4}),
        (float("inf"), _TIGHT),
    ),
    "seed-quality": ((_SMALL, _RICH), (_MIDDLE, {**_LEAN, "accumulation": 4}), (float("inf"), _TIGHT)),
    "seed-memory": ((float("inf"), _TIGHT),),
}


def values(name: str, parameters: int, family: Family) -> Row:
    """The config values that a recipe stands for, for a model of this size and family."""
    if name not in _SEED:
        shape = preset(name, parameters)
        return {"rank": shape.rank, "alpha": shape.alpha, "targets": shape.targets, "layers": shape.layers}
    row = dict(next(row for below, row in _SEED[name] if parameters < below))
    both = query_and_value(family)
    row["targets"] = {"query and value": both, "query": both[:1]}.get(row["targets"], row["targets"])
    return row


def resolve(settings: C, say: Callable[[str], None]) -> C:
    """The settings with what their recipe stands for written out; what they were given explicitly stays.

    Raises:
        InputError: the model cannot be found.
    """
    if settings.lora == "none":
        return settings
    parameters, family = outline(settings.model, trust_remote_code=settings.trust_remote_code, say=say)
    given = settings.model_fields_set
    row = {key: value for key, value in values(settings.lora, parameters, family).items() if key not in given}
    row = {key: value for key, value in row.items() if key in type(settings).model_fields}
    said = ", ".join(f"{key} = {value}" for key, value in row.items())
    say(f"lora {settings.lora} for {parameters:,} parameters: {said or 'nothing that is not given'}")
    return type(settings)(**{**settings.model_dump(include=given), **row})
