"""Genes, mutation, crossover, names, and which of several is better: hand-made cases and properties."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ludora.evolve.breeding import breed
from ludora.evolve.genome import GENES, Genome, Space, changes
from ludora.evolve.history import History
from ludora.evolve.operators import (
    Standing,
    by_pareto,
    by_quality,
    converged,
    cross,
    hypervolume,
    mutate,
)
from ludora.evolve.selection import keep_after_rung
from ludora.evolve.settings import EvolveConfig

SPACE = EvolveConfig().space
SEED = EvolveConfig(
    ranks=(16, 32, 64, 128, 256),
    alphas=(1.0, 2.0, 4.0),
    alpha_rules=("alpha/r",),
    learning_rates=(1e-5, 2e-5, 5e-5, 1e-4, 2e-4),
    dropouts=(0.05, 0.1, 0.15),
    targets=("attention",),
    layers=("all",),
    weight_decays=(0.01,),
    warmups=(0.1,),
    mutations={"learning_rate": "scale/draw"},
    crossover=0.2,
    mutate_crossed=False,
    null_mutations=True,
    selection="quality",
    posterior=False,
    rungs=(),
    population=6,
    start="random",
)
GENOME = SPACE.at([0.5] * len(GENES))
seeds = st.integers(0, 2**32)


@given(seeds, seeds)
def test_a_mutation_changes_something_and_stays_in_the_space(start: int, seed: int) -> None:
    parent = SPACE.draw(Random(start))
    child = mutate(parent, SPACE, 0.3, Random(seed))
    assert child != parent and child.digest != parent.digest and changes(parent, child)
    for gene in GENES:
        assert gene == "learning_rate" or getattr(child, gene) in SPACE.values[gene]
    assert 1e-6 <= child.learning_rate <= 1e-2
    assert Genome.from_json(child.to_json()) == child


@given(seeds)
def test_a_mutation_is_forced_where_one_gene_is_free(seed: int) -> None:
    narrow = EvolveConfig(
        ranks=(8, 16),
        **{f: (getattr(EvolveConfig(), f)[0],) for f in ("alphas", "alpha_rules", "dropouts", "targets", "layers")},
        learning_rates=(1e-3,),
        weight_decays=(0.0,),
        warmups=(0.0,),
        mutations={"learning_rate": "draw"},
    ).space
    parent = narrow.draw(Random(seed))
    assert mutate(parent, narrow, 1e-9, Random(seed)) == replace(parent, rank=24 - parent.rank)


@pytest.mark.parametrize("low", [1e-3, 0.9999999e-3])
def test_a_learning_rate_between_equal_bounds_is_not_free(low: float) -> None:
    """It jitters, and goes nowhere; a mutation that waited for it would wait for ever."""
    values = {gene: values[:1] for gene, values in SPACE.values.items()}
    stuck = Space(values | {"learning_rate": (1e-3,)}, SPACE.moves, (low, 1e-3))
    assert stuck.free == () and replace(stuck, bounds=(1e-4, 1e-3)).free == ("learning_rate",)
    with pytest.raises(ValueError, match="no gene has a second value"):
        mutate(stuck.draw(Random(0)), stuck, 0.3, Random(1))


def test_settings_that_come_to_the_same_are_the_same() -> None:
    """Rank 4, alpha 4 / sqrt(4) = 2 = alpha 8 / 4; at rank 8 the root is another number."""
    first = replace(GENOME, rank=4, alpha=1.0, rslora=True)
    assert first.identity == replace(first, alpha=2.0, rslora=False).identity != replace(first, alpha=2.0).identity
    assert first.identity != replace(first, rank=8).identity != replace(first, rank=8, alpha=2.0, rslora=False).identity
    history = History(lambda kind, **row: None)
    history.record("born", **born("a", first, 0))
    assert history.to_clone(replace(first, alpha=2.0, rslora=False)) is history.variants["a"]


def test_the_seed_keeps_null_mutations() -> None:
    """Its operators leave about a third of the mutants as their parent was."""
    space = SEED.space
    same = sum(
        mutate(parent, space, 0.3, Random(i), null=True) == parent
        for i in range(3000)
        for parent in [space.draw(Random(f"{i}"))]
    )
    assert 0.31 < same / 3000 < 0.38


def test_every_gene_is_inherited_from_either_parent() -> None:
    """Two parents that differ in all nine genes: children take each of both about equally often."""
    first = Genome(4, 1.0, False, 1e-4, 0.0, "all-linear", "all", 0.0, 0.0)
    second = Genome(8, 2.0, True, 1e-3, 0.1, "mlp", "top:2", 0.1, 0.1)
    children = [cross(first, second, Random(i)) for i in range(400)]
    for gene in GENES:
        count = Counter(getattr(child, gene) for child in children)
        assert set(count) == {getattr(first, gene), getattr(second, gene)} and min(count.values()) > 150
    assert len({child.digest for child in children}) > 100


def test_names_are_readable_and_unique() -> None:
    history = History(lambda kind, **row: None)
    genome = replace(GENOME, rank=64, learning_rate=2e-5, dropout=0.1)
    names = []
    for other in (genome, replace(genome, alpha=4.0), replace(genome, learning_rate=2.3e-5), genome):
        name = history.unused_name(other, 3)
        names.append(name)
        history.record("born", **born(name, other, 3))
    assert names == ["r64_lr2e-5_d0.10_g3", "r64_lr2e-5_d0.10_g3-2", "r64_lr2.3e-5_d0.10_g3", "r64_lr2e-5_d0.10_g3-3"]


def born(name: str, genome: Genome, generation: int, clone_of: str = "") -> dict[str, object]:
    return {
        "id": name,
        "generation": generation,
        "parents": [],
        "operator": "start",
        "genome": genome.to_json(),
        "parameters": genome.rank,
        "changes": {},
        "clone_of": clone_of,
        "heir_of": "",
    }


# ---- who is better -------------------------------------------------------------------------------------------------


def test_fronts() -> None:
    a, b, c, d, e = (
        Standing("a", 0.99, 0.1, 100),
        Standing("b", 0.97, 0.1, 10),  # as good as a, within noise, and smaller: a is beaten
        Standing("c", 0.50, 0.1, 5),
        Standing("d", 0.40, 0.1, 50),
        Standing("e", 0.96, 0.1, 10),
    )
    fronts = by_pareto([d, c, b, a, e])
    assert [[s.name for s in front] for front in fronts] == [["b", "e", "c"], ["a", "d"]]
    assert [s.name for s in by_quality([d, c, b, a])] == ["a", "b", "c", "d"]
    exact = by_pareto([replace(s, deviation=0.0) for s in (a, b, c, d)])
    assert [[s.name for s in front] for front in exact] == [["a", "b", "c"], ["d"]]


def test_hypervolume_by_hand() -> None:
    """Parameters 10 of at most 100 leave half of the logarithm free; quality 3 above the worst."""
    one = [Standing("a", 3.0, 0.0, 10)]
    assert hypervolume(one, 0.0, 100) == pytest.approx(0.5 * 3)
    assert hypervolume([*one, Standing("b", 4.0, 0.0, 100)], 0.0, 100) == pytest.approx(0.5 * 3)
    assert hypervolume([*one, Standing("b", 4.0, 0.0, 32)], 0.0, 100) == pytest.approx(
        0.5 * 3 + (4 - 3) * (1 - math.log(32) / math.log(100))
    )


def test_convergence_is_the_documents() -> None:
    assert not converged([0.5] * 4, 5, 0.01)
    assert converged([0.5] * 5, 5, 0.01)
    assert not converged([0.500, 0.5, 0.5, 0.5, 0.506], 5, 0.01)
    assert converged([0.1, 0.500, 0.5, 0.5, 0.5, 0.504], 5, 0.01)
    assert not converged([-0.5, -0.5, -0.5, -0.5, -0.4], 5, 0.01)


def test_rungs_keep_the_better_share() -> None:
    assert keep_after_rung({"a": 0.1, "b": 0.9, "c": 0.5}, 0.5) == ["b", "c"]
    assert keep_after_rung({"a": float("nan"), "b": -9.0}, 0.1) == ["b"]


# ---- who is born ---------------------------------------------------------------------------------------------------


def lineage(config: EvolveConfig, generations: int = 3) -> History:
    """Births only; the survivors are the first two of each generation."""
    history = History(lambda kind, **row: None)

    def spread(count: int, dimensions: int) -> list[list[float]]:
        return [[(i + 0.5) / count] * dimensions for i in range(count)]

    for number in range(generations):
        breed(config, config.space, history, spread, lambda genome: genome.rank)
        names = [v.id for v in (*history.survivors, *history.born_in(number))]
        row = {"number": number, "population": names, "survivors": names[:2], "front": [], "best": names[0]}
        history.record("generation", **row, best_fitness=0.0, fitness={})
    return history


def test_the_seeds_offspring_are_one_crossover_and_three_mutations() -> None:
    history = lineage(SEED)
    assert [v.operator for v in history.born_in(0)] == ["start"] * 6
    for number in (1, 2):
        assert [v.operator for v in history.born_in(number)] == ["crossover", "mutation", "mutation", "mutation"]
        assert all(
            parent in history.generations[number - 1].survivors for v in history.born_in(number) for parent in v.parents
        )
    lives: set[str] = set()
    for number, generation in enumerate(history.generations):
        for place, variant in enumerate(history.born_in(number)):
            there = [history.variants[name] for name in lives] + history.born_in(number)[:place]
            same = {v.id for v in there if v.genome.identity == variant.genome.identity and not v.clone_of}
            assert {variant.clone_of} == (same or {""})
        lives = {history.original(history.variants[name]).id for name in (*generation.survivors, generation.best)}
    assert any(v.clone_of for v in history.variants.values())


def test_only_whose_weights_are_there_is_cloned() -> None:
    """Two survive, two are given up, one did not come through; then all four genomes come up again."""
    history = History(lambda kind, **row: None)
    genomes = {name: replace(GENOME, rank=2**i) for i, name in enumerate(("a", "b", "dead", "failed"))}
    for name, genome in genomes.items():
        history.record("born", **born(name, genome, 0))
        assert history.to_clone(genome) is history.variants[name]
    history.record("failed", id="failed", steps=1, tokens=1, reason="not finite")
    history.record("generation", number=0, population=list(genomes), survivors=["a", "b"], front=[], best="a",
                   best_fitness=0.0, fitness={})  # fmt: skip
    found = {name: history.to_clone(genome) for name, genome in genomes.items()}
    assert {name: v and v.id for name, v in found.items()} == {"a": "a", "b": "b", "dead": None, "failed": "failed"}
    history.record("born", **born("again", genomes["dead"], 1))
    assert history.to_clone(genomes["dead"]) is history.variants["again"]


def test_a_step_from_a_value_of_many_digits_beside_nought() -> None:
    """A genome has six digits of it, the list has all."""
    config = EvolveConfig(weight_decays=(0.0, 0.12345678, 0.5), mutations={"weight_decay": "step"})
    genome = config.space.rounded(replace(GENOME, weight_decay=0.12345678))
    children = {mutate(genome, config.space, 1.0, Random(i)).weight_decay for i in range(40)}
    assert genome.weight_decay == 0.123457 and children == {0.0, 0.5}


def test_nobody_is_a_clone_of_an_heir() -> None:
    """Who begins from nothing does not come to what a variant with inherited weights does."""
    history = History(lambda kind, **row: None)
    history.record("born", **born("start", GENOME, 0))
    history.record("born", **born("heir", GENOME, 0))
    history.variants["heir"].heir_of = "start"
    clone = history.to_clone(GENOME)
    assert clone is history.variants["start"]
    del history.variants["start"]
    assert history.to_clone(GENOME) is None


def test_nobody_is_born_twice_by_default() -> None:
    history = lineage(EvolveConfig(population=6, immigrants=1, crossover=0.5, ranks=(4, 8)), 6)
    assert len({v.genome.identity for v in history.variants.values()}) == len(history.variants) == 6 + 5 * 4
    assert {v.operator for v in history.born_in(1)} == {"crossover+mutation", "mutation", "immigrant"}
    child = next(v for v in history.born_in(1) if v.operator == "mutation")
    parent = history.variants[child.parents[0]]
    assert child.changes == {parent.id: changes(parent.genome, child.genome)} and child.changes[parent.id]
    assert lineage(EvolveConfig(seed=1)).variants.keys() != lineage(EvolveConfig()).variants.keys()
    assert lineage(EvolveConfig()).variants == lineage(EvolveConfig()).variants


def test_a_space_that_is_used_up_ends_the_births() -> None:
    config = EvolveConfig(
        ranks=(4, 8), alphas=(2.0,), alpha_rules=("alpha/r",), learning_rates=(1e-3,), dropouts=(0.0,),
        targets=("mlp",), weight_decays=(0.0,), warmups=(0.0,), mutations={"learning_rate": "draw"}, population=4,
    )  # fmt: skip
    assert len(lineage(config).variants) == 2


def test_the_log_is_the_state() -> None:
    rows: list[dict[str, object]] = []
    history = History(lambda kind, **row: rows.append({"event": kind, **row}))
    history.record("born", **born("a", GENOME, 0))
    history.record("pack", capacity=3, pass_tokens=512, reason="")
    history.record("scored", id="base", block="0", n=4, mean=0.5, variance=0.1, measures={}, steps=0, tokens=0)
    history.record("scored", id="a", block="0", n=4, mean=0.5, variance=0.25, measures={}, steps=7, tokens=90)
    history.record(
        "scored", id="a", block="1", n=4, mean=1.0, variance=0.0, measures={"accuracy": 1.0}, steps=7, tokens=90
    )
    history.record("generation", number=0, population=["a"], survivors=["a"], front=["a"], best="a", best_fitness=0.75,
                   fitness={"a": 0.75})  # fmt: skip
    again = History.read(rows)
    for name in (
        "variants",
        "generations",
        "rungs",
        "base",
        "finals",
        "capacity",
        "pass_tokens",
        "tested",
        "converged",
    ):
        assert getattr(again, name) == getattr(history, name)
    mean, error = again.variants["a"].measured
    assert mean == 0.75 and error == pytest.approx(math.sqrt(4 * (0.25 + 0.0625) + 4 * 0.0625) / 8)
    history.record("written", id="a", block="0", measures={"accuracy": 0.5, "perplexity": 2.0})
    assert history.variants["a"].measures == {"accuracy": 0.75, "perplexity": 2.0}
    assert again.tokens == 90 and again.number == 1 and again.best == "a"


def test_space_is_checked() -> None:
    assert isinstance(SPACE, Space) and SPACE.at([0.0] * 9).rank == 4 and SPACE.at([0.999] * 9).rank == 32
