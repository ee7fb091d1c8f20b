"""The space of genomes on a model: which of its modules and layers they name."""

from __future__ import annotations

from itertools import product

from ludora.evolve.genome import Space
from ludora.evolve.settings import EvolveConfig
from ludora.models.families import LoraSettings
from ludora.players.studio import Studio


def space_on(config: EvolveConfig, studio: Studio) -> Space:
    """The space of genomes on this model: every target and layer range is one it has, and stands there once.

    Raises:
        InputError: a target or a layer range is not one it has, or two ranges were all there was to search and are one.
    """
    space, count = config.space, studio.base.layers
    layers: dict[frozenset[str], str] = {}  # by the modules that they come to
    targets: dict[frozenset[str], str] = {}
    for target in map(str, space.values["targets"]):
        targets.setdefault(frozenset(studio.pack.targets(LoraSettings(targets=targets_of(target)))), target)
    for value in map(str, space.values["layers"]):
        if value.startswith("top:1/"):
            value = f"top:{max(1, round(count / int(value.removeprefix('top:1/'))))}"
        for target in targets.values():
            studio.pack.targets(LoraSettings(targets=targets_of(target), layers=value))
        value = "all" if value in (f"top:{count}", f"0-{count - 1}") else value
        layers.setdefault(frozenset(studio.pack.targets(LoraSettings(layers=value))), value)
    merged = {"targets": tuple(targets.values()), "layers": tuple(layers.values())}
    space = Space({**space.values, **merged}, space.moves, space.bounds)
    config.check_searchable(space)
    return space


def largest(space: Space, studio: Studio) -> int:
    """Parameters of the largest adapter in the space."""
    rank = max(int(value) for value in space.values["rank"])
    pairs = product(map(str, space.values["targets"]), map(str, space.values["layers"]))
    return max(studio.pack.size(LoraSettings(rank, targets=targets_of(t), layers=where))[0] for t, where in pairs)


def targets_of(text: str) -> str | tuple[str, ...]:
    """The gene `q_proj+v_proj` as `LoraSettings` takes it."""
    names = text.split("+")
    return names[0] if len(names) == 1 else tuple(names)
