"""The analysis of an evolution, against a small one written by hand; its pictures and both reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import fromstring

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.evals.test_quiz import BOTH
from tests.evals.test_report import Checker

from ludora.cli.main import run as command_line
from ludora.errors import InputError
from ludora.evals.lineage import HeatMap, Lineage
from ludora.evals.pictures import Dot, family_tree, heat_map, scatter
from ludora.evals.report import write_report
from ludora.evals.stats import rank_correlation
from ludora.evolve.genome import Genome, changes
from ludora.evolve.history import History

GENOMES = {
    "a": Genome(8, 2.0, False, 1e-3, 0.0, "all-linear", "all", 0.0, 0.0),
    "b": Genome(16, 2.0, False, 1e-3, 0.0, "mlp", "all", 0.0, 0.0),
    "c": Genome(32, 2.0, False, 1e-4, 0.1, "mlp", "all", 0.0, 0.0),
    "d": Genome(8, 2.0, False, 5e-4, 0.0, "all-linear", "all", 0.0, 0.0),
    "e": Genome(16, 2.0, False, 2e-3, 0.0, "mlp", "all", 0.0, 0.0),
    "f": Genome(8, 2.0, False, 5e-4, 0.0, "all-linear", "all", 0.0, 0.0),
    "g": Genome(16, 4.0, False, 1e-3, 0.0, "all-linear", "all", 0.0, 0.0),
}
PARENTS = {"d": ["a"], "e": ["a", "b"], "f": ["a"], "g": ["b"]}


def events() -> list[dict[str, Any]]:
    """a, b, c; c is stopped. Then d (a's learning rate), e (of both), f (a clone of d), g (stopped at the rung)."""
    rows: list[dict[str, Any]] = []
    history = History(lambda kind, **values: rows.append({"event": kind, "at": 0.0, **values}))

    def born(name: str, generation: int, operator: str) -> None:
        parents = PARENTS.get(name, [])
        history.record(
            "born",
            id=name,
            generation=generation,
            parents=parents,
            operator=operator,
            genome=GENOMES[name].to_json(),
            parameters=GENOMES[name].rank * 100,
            changes={p: changes(GENOMES[p], GENOMES[name]) for p in parents},
            clone_of="d" if name == "f" else "",
            heir_of="",
        )

    def rung(generation: int, kept: list[str], stopped: list[str], values: list[float]) -> None:
        at = {n: {"value": v, "steps": 5, "tokens": 50} for n, v in zip([*kept, *stopped], values, strict=True)}
        row = {"rung": 0, "share": 0.5, "kept": kept, "stopped": stopped}
        rows.append({"event": "rung", "generation": generation, **row, "at": at})
        history._apply("rung", rows[-1])

    def scored(name: str, block: str, mean: float) -> None:
        measures = {"accuracy": mean, "perplexity": 2.0}
        history.record(
            "scored", id=name, block=block, n=10, mean=mean, variance=0.1, measures=measures, steps=10, tokens=100
        )

    def generation(number: int, population: list[str], survivors: list[str], fitness: dict[str, float]) -> None:
        best = max(fitness, key=lambda name: fitness[name])
        row = {"population": population, "survivors": survivors, "front": survivors, "best": best}
        history.record("generation", number=number, **row, best_fitness=fitness[best], fitness=fitness)

    for name in "abc":
        born(name, 0, "start")
    rung(0, ["a", "b"], ["c"], [0.4, 0.5, 0.1])
    for name, mean in (("a", 0.5), ("b", 0.6)):
        scored(name, "0", mean)
    scored("base", "0", 0.2)
    generation(0, ["a", "b", "c"], ["b", "a"], {"a": 0.5, "b": 0.6})
    for name, operator in (("d", "mutation"), ("e", "crossover+mutation"), ("f", "mutation"), ("g", "mutation")):
        born(name, 1, operator)
    rung(1, ["d", "e"], ["g"], [0.45, 0.7, 0.2])
    for name, mean in (("d", 0.4), ("e", 0.8), ("a", 0.52)):
        scored(name, "1", mean)
    generation(1, ["b", "a", "d", "e", "f", "g"], ["e", "b"], {"a": 0.51, "b": 0.6, "d": 0.4, "e": 0.8, "f": 0.4})
    history.record("final", id="e_s0", variant="e", seed=0)
    history.record("scored", id="e_s0", block="final", n=5, mean=0.75, variance=0.1, measures={}, steps=10, tokens=100)
    history.record("test", id="e_s0", base=0.2, chosen=0.7, seeds=[0.7, 0.65], seed_accuracies=[0.7, 0.65])
    return rows


LINEAGE = Lineage.read(events(), posterior=False)  # a answered both blocks: the second is easier by 0.02


def test_fates() -> None:
    assert {name: member.fate for name, member in LINEAGE.members.items()} == {
        **dict.fromkeys("abe", "survived"),
        **dict.fromkeys("df", "died"),
        **dict.fromkeys("cg", "stopped"),
    }
    assert LINEAGE.members["a"].fitness == pytest.approx(0.51)  # the mean of its blocks, whose effects add up to 0
    assert LINEAGE.members["c"].fitness is None
    assert LINEAGE.members["a"].generations == (0, 1)
    assert [m.variant.id for m in LINEAGE.finished] == ["a", "b", "d", "e"]
    best = LINEAGE.best()
    assert best is not None and best.variant.id == "e"


def test_who_is_on_the_front() -> None:
    # by size: a and d (800), b and e (1600); only a and e are beaten by nobody
    assert [m.variant.id for m in LINEAGE.front] == ["a", "e"]


def test_effects_of_operators_by_hand() -> None:
    found = {effect.name: effect for effect in LINEAGE.operators()}
    assert set(found) == {"mutation", "crossover+mutation"}
    mutated, crossed = found["mutation"], found["crossover+mutation"]
    assert (mutated.children, mutated.better, mutated.survived) == (3, 0, 0)  # d, its clone f, and g
    assert mutated.gain == pytest.approx(0.39 - 0.51)  # of d and f; g has no end
    assert (crossed.children, crossed.better, crossed.survived) == (1, 1, 1)
    assert crossed.gain == pytest.approx(0.79 - 0.61) and crossed.gain_low is None  # against the better parent


def test_effects_of_genes_by_hand() -> None:
    found = {effect.name: effect for effect in LINEAGE.mutations()}
    assert {name: e.children for name, e in found.items()} == {"learning_rate": 2, "rank": 1, "alpha": 1, "targets": 2}
    assert found["learning_rate"].gain == pytest.approx(((0.39 - 0.51) + (0.79 - 0.61)) / 2)
    assert found["alpha"].gain is None and found["alpha"].better == 0
    assert list(found) == ["rank", "alpha", "learning_rate", "targets"]  # in the order of the genes


@pytest.mark.parametrize("posterior", [True, False])
def test_generations_are_compared_on_one_scale(posterior: bool) -> None:
    """The second block costs everybody 2, the third gives 3. The child is better than its parent by 0.2 throughout, though
    what later generations wrote of either says something else.
    """
    rows: list[dict[str, Any]] = []
    history = History(lambda kind, **values: rows.append({"event": kind, **values}))
    for name, generation, parents in (("p", 0, []), ("q", 0, []), ("c", 1, ["p"]), ("d", 2, ["c"])):
        own = {"parents": parents, "changes": {p: {"rank": [8, 16]} for p in parents}, "clone_of": "", "heir_of": ""}
        row = {"operator": "mutation" if parents else "start", "genome": GENOMES["a"].to_json(), "parameters": 100}
        history.record("born", id=name, generation=generation, **row, **own)
    worth, blocks = {"p": -1.0, "q": -1.4, "c": -0.8, "d": -1.1, "base": -2.0}, {"0": 0.0, "1": -2.0, "2": 3.0}
    for number, (asked, best) in enumerate([("pq", "p"), ("pc", "c"), ("cd", "c")]):
        for name in (*asked, "base"):
            row = {"mean": worth[name] + blocks[str(number)], "variance": 1e-6, "measures": {}, "steps": 1, "tokens": 1}
            history.record("scored", id=name, block=str(number), n=100, **row)
        fitness = {name: worth[name] + 10.0 * number * (-1) ** number for name in asked}
        row = {
            "population": list(asked),
            "survivors": [best],
            "front": [best],
            "best": best,
            "best_fitness": fitness[best],
        }
        history.record("generation", number=number, fitness=fitness, **row)
    found = Lineage.read(rows, posterior)
    gains = [found._gain(found.members[name]) for name in "cd"]
    assert gains == pytest.approx([0.2, -0.3], abs=1e-4)
    [effect] = found.mutations()
    assert (effect.children, effect.better) == (2, 1) and effect.gain == pytest.approx(-0.05, abs=1e-4)
    best = [value for _, value, _ in found.generations if value is not None]
    assert best[1] - best[0] == pytest.approx(0.2, abs=1e-4) and best[2] == best[1]
    assert [m.variant.id for m in found.front] == ["c"]


def test_survival_by_hand() -> None:
    found = {(s.gene, s.value): s for s in LINEAGE.survival()}
    assert (found["rank", "8"].variants, found["rank", "8"].survived) == (3, 1)
    assert found["rank", "32"].fitness is None and found["rank", "16"].fitness == pytest.approx(0.7)
    assert "rslora" not in {gene for gene, _ in found}  # it has one value
    assert found["learning_rate", "5e-4"].variants == 2


def test_rungs_by_hand() -> None:
    [check] = LINEAGE.rungs()
    assert np.array(sorted(check.pairs)) == pytest.approx(
        np.array([(0.4, 0.51), (0.45, 0.39), (0.5, 0.61), (0.7, 0.79)])
    )
    assert check.correlation == pytest.approx(0.8)  # ranks 1 2 3 4 against 2 1 3 4


def test_heat_maps_by_hand() -> None:
    picture = LINEAGE.heat_map("learning_rate", "rank")
    assert picture.columns == ("1e-4", "5e-4", "1e-3", "2e-3") and picture.rows == ("8", "16", "32")
    assert [cell and (round(cell[0], 9), cell[1]) for cell in picture.cells[0]] == [
        None,
        (0.39, 1),  # the clone does not count twice
        (0.51, 1),
        None,
    ]
    assert picture.cells[2] == (None,) * 4
    assert [(m.x, m.y) for m in LINEAGE.heat_maps()] == [
        ("learning_rate", gene) for gene in ("rank", "alpha", "dropout", "targets")
    ]


def test_many_values_are_taken_together() -> None:
    rows = [dict(row) for row in events() if row["event"] == "born"][:1]
    many = [
        {**rows[0], "id": f"v{i}", "genome": {**rows[0]["genome"], "learning_rate": 1e-4 * (i + 1)}} for i in range(20)
    ]
    picture = Lineage.read([*many, {**rows[0], "id": "w", "genome": {**rows[0]["genome"], "rank": 4}}]).heat_maps()[0]
    assert picture.columns[0] == "1e-4\N{EN DASH}4e-4" and len(picture.columns) <= 6


def test_labels_of_a_heat_map_do_not_overlap() -> None:
    """A range of learning rates stands on two lines, and a long name makes its column wide."""
    ranges = ("1e-4\N{EN DASH}2e-4", "5.1e-4\N{EN DASH}1.2e-3")
    for columns in (ranges, ("q_proj+k_proj+v_proj", "mlp")):
        drawn = heat_map(HeatMap("x", "y", columns, ("all-linear+lm_head",), (((0.5, 1), (0.25, 2)),)))
        texts = [(float(t.get("x", "")), float(t.get("y", "")), t.text or "") for t in fromstring(drawn).iter("text")]
        ticks = [(x, y, text) for x, y, text in texts if any(text.strip("\N{EN DASH}") in c for c in columns)]
        assert len(ticks) == (4 if columns is ranges else 2)
        for x, y, text in ticks:
            others = [(ox, o) for ox, oy, o in ticks if oy == y and ox != x]
            assert all(abs(x - ox) >= 3.5 * (len(text) + len(o)) for ox, o in others)
        [row] = [x for x, _, text in texts if text.startswith("all-linear")]
        assert row >= 7 * len("all-linear+lm_head")


def test_measures_are_means_over_all_questions() -> None:
    assert LINEAGE.members["a"].variant.measures["accuracy"] == pytest.approx(0.51)
    assert "accuracy" not in LINEAGE.members["c"].variant.measures


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 40], 1.0),
        ([1, 2, 3, 4], [4, 3, 2, 1], -1.0),
        ([1, 2, 3, 4, 5], [2, 1, 4, 3, 5], 0.8),
        ([1, 1, 2], [1, 2, 3], 0.8660254),  # ties share their rank
        ([1, 2], [1, 2], None),
        ([1, 1, 1], [1, 2, 3], None),
    ],
)
def test_rank_correlation(one: list[float], other: list[float], found: float | None) -> None:
    assert rank_correlation(one, other) == (None if found is None else pytest.approx(found))


# ---- pictures ------------------------------------------------------------------------------------------------------


def test_the_family_tree_has_everybody_and_every_line() -> None:
    drawn = family_tree(LINEAGE)
    page = Checker(drawn)
    assert drawn.count("<circle") == 3 + 6 and drawn.count('class="lives"') == 2
    assert drawn.count('class="child"') == 1 + 2 + 1 + 1
    assert all(f'class="node {kind}"' in drawn for kind in ("best", "clone", "stopped", "died", "survived"))
    assert "r16 2e-3 0.800" in page.text and "r16 1e-3 stopped" in page.text
    assert family_tree(Lineage.read([])) == ""


def test_pictures_of_nothing_are_nothing() -> None:
    assert scatter("x", [], "size") == "" and scatter("x", [Dot(float("nan"), 1.0, "a")], "size") == ""
    only_stopped = Lineage.read([row for row in events() if row["event"] == "born"])
    assert all(heat_map(picture) == "" for picture in only_stopped.heat_maps())
    assert only_stopped.front == [] and only_stopped.rungs() == [] and only_stopped.best() is None


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.floats(1, 1e9), st.floats(-1e6, 1e6)), min_size=1, max_size=8),
    st.booleans(),
)
def test_points_lie_within_the_picture(points: list[tuple[float, float]], log_x: bool) -> None:
    drawn = scatter("points", [Dot(x, y, "<p>") for x, y in points], "size", log_x=log_x, path=points[:2])
    places = [part.split('"') for part in drawn.split("<circle")[1:]]
    assert len(places) == len(points)
    for place in places:
        assert 0 <= float(place[3]) <= 420 and 0 <= float(place[5]) <= 260
    Checker(drawn)


# ---- reports -------------------------------------------------------------------------------------------------------


def run_folder(folder: Path, rows: list[dict[str, Any]], **more: Any) -> Path:
    folder.mkdir()
    metrics = [
        {"step": s, "best_fitness": 0.6 + 0.1 * s, "mean_fitness": 0.5, "best_accuracy": 0.5, "odd": 1} for s in (1, 2)
    ]
    config = {"kind": "evolve", "model": "tiny", "data": "arithmetic", "fitness": "nll", "seed": 4, "test_size": 20}
    files = {
        "config.json": json.dumps(config),
        "events.jsonl": "".join(json.dumps(row) + "\n" for row in rows),
        "metrics.jsonl": "".join(json.dumps(row) + "\n" for row in metrics),
        **{name.replace("_", "."): json.dumps(value) for name, value in more.items()},
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def test_both_reports_tell_it_all(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "one", events(), evaluation_json=BOTH.to_json())
    html = write_report(folder).read_text(encoding="utf-8")
    text = (folder / "report.md").read_text(encoding="utf-8")
    page = Checker(html)
    for words in (
        "tiny evolves on arithmetic",
        "2 generations, 7 variants, 1 of them clones",
        "Successive halving stopped 2 of them",
        "The best is e",
        "The winner trained with 2 seeds reaches 0.700, 0.650",
        "Did the rungs judge well?",
        "+0.80",
        "How children were made",
        "Which changes helped",
        "What survived",
        "Pareto front",
        "Finals",
        "clone of d",
        "Improvements: 10",
        "Both wrong: 4",
        "No reliable difference between adapter(x) and base",
    ):
        assert words in page.text, words
        assert words in text.replace("\\_", "_"), words
    assert "Family tree" in page.text and html.count("<svg") >= 2 + 1 + 2 + 4
    assert "nan" not in html.split("<body>")[1].lower().replace("nance", "")
    assert "missing" not in html.split("<body>")[1]


def test_an_evolution_that_has_just_begun(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "one", [row for row in events() if row["event"] == "born"][:3])
    (folder / "metrics.jsonl").unlink()
    html = write_report(folder).read_text(encoding="utf-8")
    assert "No generation has come to its end." in Checker(html).text
    assert "metrics.jsonl" in (folder / "report.md").read_text()


def test_a_game_has_no_questions(tmp_path: Path) -> None:
    rows = [dict(row) for row in events()]
    del rows[-1]["seed_accuracies"]
    folder = run_folder(tmp_path / "one", rows)
    config = json.loads((folder / "config.json").read_text()) | {"fitness": "game:leduc_poker"}
    (folder / "config.json").write_text(json.dumps(config))
    text = Checker(write_report(folder).read_text(encoding="utf-8")).text
    assert "tiny evolves on leduc_poker" in text
    assert "the base has fitness +0.20, the best adapter +0.70" in text


@pytest.mark.parametrize("damage", ["not json", '{"kind": "questions", "version": 1}', "[]"])
def test_a_damaged_comparison_is_a_problem_and_no_crash(tmp_path: Path, damage: str) -> None:
    folder = run_folder(tmp_path / "one", events())
    (folder / "evaluation.json").write_text(damage)
    write_report(folder)
    assert ("evaluation.json" in (folder / "report.md").read_text()) == (damage != "[]")


@pytest.mark.parametrize("damage", [{"event": "born", "id": "x"}, {"event": "scored", "id": "nobody", "block": "0"}])
def test_damaged_events_are_an_error_that_names_the_file(
    tmp_path: Path, damage: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(tmp_path / "one", [*events(), damage])
    with pytest.raises(InputError, match=r"events\.jsonl is damaged"):
        write_report(folder)
    assert command_line(["report", str(folder)]) == 2
    assert "events.jsonl" in capsys.readouterr().err


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 40))
def test_a_history_cut_anywhere_can_be_told(tmp_path: Path, end: int) -> None:
    """A run may be killed after any line."""
    folder = tmp_path / str(end)
    if not folder.exists():
        write_report(run_folder(folder, events()[:end]))
    Checker((folder / "report.html").read_text(encoding="utf-8"))


def test_names_are_text_and_not_markup(tmp_path: Path) -> None:
    text = json.dumps(events()).replace('"e"', '"<b>e</b>"')
    html = write_report(run_folder(tmp_path / "one", json.loads(text))).read_text(encoding="utf-8")
    assert "<b>" not in html and "<b>e</b>" in Checker(html).text
