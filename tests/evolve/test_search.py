"""Whole evolutions of the tiny model, through the command line where that is what a user does."""

from __future__ import annotations

import io
import json
import math
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load, save
from tests.learn.resuming import bf16_model

from ludora.cli.main import run as ludora
from ludora.errors import InputError, TrainingFailed
from ludora.evals.quiz import Quiz
from ludora.evals.records import Record
from ludora.evolve.fitness import DataFitness
from ludora.evolve.history import History
from ludora.evolve.search import evolve
from ludora.evolve.settings import EvolveConfig
from ludora.learn import cohort
from ludora.learn.inherit import inherited
from ludora.models.adapters import AdapterPack
from ludora.models.families import LoraSettings
from ludora.models.load import load_base
from ludora.models.storage import load_adapter
from ludora.players.studio import Studio
from ludora.runs.log import RunLog
from ludora.runs.store import Run

torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")
MODEL = ["model=tiny:qwen2", "dtype=fp32", "device=cpu", "threads=1"]
TINY: dict[str, Any] = {
    "model": "tiny:qwen2",
    "dtype": "fp32",
    "device": "cpu",
    "threads": 1,
    "answer_tokens": 3,
    "train_size": 8,
    "eval_size": 4,
    "test_size": 4,
    "rung_questions": 3,
    "population": 4,
    "generations": 2,
    "ranks": (2, 4),
    "epochs": 1,
    "batch": 4,
    "finalists": 0,
}
Evolved = Callable[..., tuple[dict[str, Any], Run, str]]


@pytest.fixture
def evolved(tmp_path: Path) -> Evolved:
    def run_it(**changes: Any) -> tuple[dict[str, Any], Run, str]:
        idle = {"rung_questions"} if changes.get("rungs") == () else set()
        idle |= (
            {"answer_tokens", "eval_size", "test_size", "rung_questions"}
            if "game" in changes.get("fitness", "")
            else set()
        )
        kept = {key: value for key, value in TINY.items() if key not in idle}
        config = EvolveConfig(**{**kept, **changes})
        said = io.StringIO()
        with Run.create(tmp_path, "tiny", config.to_json()) as run:
            with RunLog(run, console=Console(file=said)) as log:
                summary = evolve(config, run, log)
            return summary, run, said.getvalue()

    return run_it


def history_of(run: Run) -> History:
    return History.read(run.rows("events.jsonl"))


def test_pipeline_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """3 variants, 2 generations, 10 and 5 examples; the one child is a crossover, then mutated, and both are logged."""
    monkeypatch.chdir(tmp_path)
    assert ludora(["evolve", "--pipeline-test", "--json", *MODEL, "answer_tokens=4"]) == 0
    summary = json.loads(capsys.readouterr().out)
    run = Run.read(summary["run"])
    assert summary["ended"] == "generations" and summary["variants"] == 4 and summary["n"] == 5
    history = history_of(run)
    [child] = history.born_in(1)
    assert child.operator == "crossover+mutation" and len(child.parents) == 2
    assert set(child.parents) == set(history.generations[0].survivors)
    first, second = (history.variants[name].genome for name in child.parents)
    foreign = [
        g
        for g in child.changes[child.parents[0]]
        if getattr(child.genome, g) not in (getattr(first, g), getattr(second, g))
    ]
    inherited_genes = [g for g in child.changes[child.parents[0]] if getattr(child.genome, g) == getattr(second, g)]
    assert foreign or inherited_genes
    assert set(child.scores) == {"1"} and all(len(v.scores) == 2 for v in history.survivors if v.generation == 0)
    assert run.config["train_size"] == 10 and run.config["eval_size"] == 5
    assert sorted(p.name for p in run.variants.iterdir()) == sorted(history.generations[-1].survivors)
    quiz = Quiz.from_json(run.read_json("evaluation.json"))
    assert [row.player for row in quiz.rows] == [f"adapter({run.adapter})", "base"] and len(quiz.items) == 5
    assert (run.path / "report.html").is_file()
    assert ludora(["evolve", "--resume", "--json"]) == 0  # over already: the same once more, no second test
    again = json.loads(capsys.readouterr().out)
    assert {**again, "seconds": 0} == {**summary, "seconds": 0}


def test_the_best_adapter_is_one_of_peft(evolved: Evolved, tmp_path: Path) -> None:
    from peft import PeftModel

    _, run, _ = evolved(learning_rates=(1e-2,), generations=1, population=2, alphas=(4.0,))
    base = load_base("tiny:qwen2", dtype="fp32", device="cpu", say=lambda text: None)
    ids = torch.arange(40, 60)[None]
    with torch.no_grad():
        plain = base.model(input_ids=ids).logits
        theirs = PeftModel.from_pretrained(base.model, str(run.adapter))(input_ids=ids).logits
    fresh = load_base("tiny:qwen2", dtype="fp32", device="cpu", say=lambda text: None)
    pack = AdapterPack(fresh)
    ours = load_adapter(pack, run.adapter, "best")
    with torch.no_grad(), pack.rows((ours, 1)):
        mine = fresh.model(input_ids=ids).logits
    assert torch.allclose(mine, theirs, atol=1e-4) and not torch.allclose(mine, plain, atol=1e-3)


def test_an_adapter_is_not_asked_what_it_has_learnt(
    evolved: Evolved, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Evolved with one seed and evaluated with another: the test questions are the same, and none was learnt."""
    lines = [{"question": f"question {i}?", "answer": f"{i}"} for i in range(60)]
    for name in ("a", "copy"):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    _, run, _ = evolved(data=f"dataset({tmp_path / 'a.jsonl'})", seed=1, population=2, survivors=1, generations=1)
    record = json.loads((run.adapter / "ludora.json").read_text())["data"]
    assert record["seed"] == 1 and (record["train"], record["test"]) == (8, 4) and len(record["seen"]) == 8 + 3 + 4
    words = [f"adapter({run.adapter})", "--games", "12", "--answer-tokens", "2", "--json", "--model", "tiny:qwen2"]
    for name in ("a", "copy"):
        assert ludora(["evaluate", words[0], f"dataset({tmp_path / name}.jsonl)", *words[1:]]) == 0
        assert len(json.loads(capsys.readouterr().out)["items"]) == 12
    whole = f"dataset({tmp_path / 'copy'}.jsonl, search_share=0, test_share=1)"
    assert ludora(["evaluate", words[0], whole, "--games", "60", "--model", "tiny:qwen2"]) == 2
    assert "has seen 15 of these 60 test questions" in capsys.readouterr().err


def test_another_model_is_not_gone_on_with(evolved: Evolved, tmp_path: Path) -> None:
    model = bf16_model(tmp_path / "model")
    _, run, _ = evolved(model=model, population=2, survivors=1, generations=1, starters=0)
    weights = tmp_path / "model" / "model.safetensors"
    config = EvolveConfig(**{key: value for key, value in run.config.items() if key != "kind"})
    weights.write_bytes(save({key: tensor + 1 for key, tensor in load(weights.read_bytes()).items()}, {"format": "pt"}))
    refused = pytest.raises(InputError, match="is not what it was when this run began")
    with refused, Run.open(run.path) as folder, RunLog(folder, console=Console(file=io.StringIO())) as log:
        evolve(config, folder, log)


def test_the_seeds_clones_reuse_their_parents_result(evolved: Evolved) -> None:
    values = {
        "fitness": "seed", "metric": "fuzzy", "fresh_questions": False, "start": "random", "crossover": 0.2,
        "mutate_crossed": False, "null_mutations": True, "selection": "quality", "posterior": False, "rungs": (),
        "population": 6, "generations": 3,
    }  # fmt: skip
    summary, run, said = evolved(**values)
    history = history_of(run)
    clones = [v for v in history.variants.values() if v.clone_of]
    assert clones and all(not v.scores and not v.tokens for v in clones)
    scored = [row["id"] for row in run.rows("events.jsonl") if row["event"] == "scored" and row["id"] != "base"]
    assert len(scored) == len(set(scored)) == len(history.variants) - len(clones)
    for generation in history.generations:
        for name, fitness in generation.fitness.items():
            original = history.original(history.variants[name])
            score = original.scores[str(original.generation)]
            assert fitness == score.mean
            perplexity = min(score.measures["perplexity"], 1000.0)
            assert score.mean == pytest.approx(score.measures["accuracy"] - perplexity / 100, abs=3.0)
        ranked = sorted(generation.fitness.values(), reverse=True)
        assert [generation.fitness[name] for name in generation.survivors] == ranked[:2]
    assert history.generations[-1].best_fitness == max(max(g.fitness.values()) for g in history.generations)
    assert summary["base_accuracy"] == 0.0 and f"a clone of {clones[0].clone_of}" in said


def test_a_genome_whose_weights_are_gone_is_trained_again(evolved: Evolved) -> None:
    """Few genomes, other questions every time: children come up that were given up before, and live on."""
    one = {"ranks": (2,), "alphas": (1.0,), "alpha_rules": ("alpha/r",), "learning_rates": (1e-3,), "dropouts": (0.0,)}
    few = one | {"targets": ("attention",), "weight_decays": (0.0, 0.1), "warmups": (0.0, 0.5), "rungs": ()}
    few |= {"null_mutations": True, "mutations": {"learning_rate": "draw"}, "test_size": 0, "population": 6}
    _, run, _ = evolved(**few, generations=8, seed=1)
    history = history_of(run)
    twice = Counter(v.genome.digest for v in history.variants.values() if not v.clone_of)
    assert max(twice.values()) > 1 and any(v.clone_of for v in history.variants.values())
    assert (run.adapter / "adapter_model.safetensors").is_file()
    assert {p.name for p in run.variants.iterdir()} == set(history.generations[-1].survivors)


def test_targets_and_layers_that_are_the_same_on_the_model_are_one_value(evolved: Evolved) -> None:
    names = ("q_proj+v_proj", "v_proj+q_proj", "mlp", "up_proj+gate_proj+down_proj")
    ranges = ("top:2", "2-3", "all", "0-3", "top:1/2")
    _, run, _ = evolved(targets=names, layers=ranges, generations=1, test_size=0, rungs=(), starters=16, train_size=4)
    genomes = [v.genome for v in history_of(run).variants.values()]
    assert {g.targets for g in genomes} == {"q_proj+v_proj", "mlp"} and {g.layers for g in genomes} == {"top:2", "all"}


def test_halving_stops_the_worst_and_spends_less(evolved: Evolved) -> None:
    _, whole, _ = evolved(rungs=(), train_size=16)
    _, halved, _ = evolved(rungs=(0.5,), rung_keep=0.5, train_size=16)
    history = history_of(halved)
    stopped = [v for v in history.born_in(0) if v.stopped_at == 0]
    assert len(stopped) == 2 and all(v.steps == 2 and not v.scores for v in stopped)
    [row] = [r for r in halved.rows("events.jsonl") if r["event"] == "rung" and r["generation"] == 0]
    worth = {name: facts["value"] for name, facts in row["at"].items()}
    assert max(worth[name] for name in row["stopped"]) <= min(worth[name] for name in row["kept"])
    full = history_of(whole)
    first = sum(v.tokens for v in history.born_in(0)), sum(v.tokens for v in full.born_in(0))
    assert first[0] == pytest.approx(0.75 * first[1], rel=0.1)


def test_a_budget_in_tokens_and_convergence_end_it(evolved: Evolved) -> None:
    summary, _, _ = evolved(tokens=1, generations=5)
    assert summary["ended"] == "tokens" and summary["generations"] == 1
    summary, run, _ = evolved(
        stop_converged=True,
        generations=9,
        learning_rates=(1e-6,),
        mutations={"learning_rate": "draw"},
        fresh_questions=False,
    )
    assert summary["ended"] == "converged" and summary["generations"] == 5 and history_of(run).converged


def test_one_that_is_no_longer_finite_is_given_up(evolved: Evolved, monkeypatch: pytest.MonkeyPatch) -> None:
    real = cohort.maths.scheduled

    def scheduled(rate: float, *more: Any) -> float:
        return math.nan if rate == 0.005 else real(rate, *more)

    monkeypatch.setattr(cohort.maths, "scheduled", scheduled)
    _, run, said = evolved(learning_rates=(1e-3, 5e-3), generations=1, train_size=24, rungs=())
    history = history_of(run)
    failed = [v for v in history.variants.values() if v.failed]
    assert failed and all(v.genome.learning_rate == 0.005 for v in failed) and "is given up" in said
    assert not set(history.generations[0].survivors) & {v.id for v in failed}
    with pytest.raises(TrainingFailed, match="no variant"):
        evolved(learning_rates=(5e-3,), generations=1, train_size=24, rungs=())


@pytest.mark.parametrize("fresh", [True, False])
def test_accuracy_is_known_in_every_generation(evolved: Evolved, fresh: bool) -> None:
    """Selected by likelihood: the best alone writes answers, to questions that it was asked."""
    _, run, _ = evolved(generations=3, fresh_questions=fresh, answer_tokens=1)
    assert all({"best_accuracy", "best_perplexity"} <= line.keys() for line in run.rows("metrics.jsonl"))
    history = history_of(run)
    written = {v.id for v in history.variants.values() if "accuracy" in v.measures}
    assert written == {g.best for g in history.generations}
    assert "Accuracy of the best" in (run.path / "report.html").read_text()


def test_memory_that_runs_out_while_answers_are_scored(evolved: Evolved, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer answer at once; the scores are the same. With one alone it is a failure that says so."""
    _, calm, _ = evolved(generations=1)
    real, most = DataFitness.measure, 1

    def tight(self: DataFitness, adapters: Any, block: str) -> Any:
        if len(adapters) > most:
            raise torch.OutOfMemoryError("no more")
        return real(self, adapters, block)

    monkeypatch.setattr(DataFitness, "measure", tight)
    _, run, _ = evolved(generations=1)
    one, two = history_of(calm), history_of(run)
    assert one.generations == two.generations and one.variants == two.variants
    most = 0
    with pytest.raises(TrainingFailed, match="memory ran out"):
        evolved(generations=1)


def test_finals_are_other_seeds_of_the_best(evolved: Evolved) -> None:
    summary, run, _ = evolved(finalists=2, final_seeds=2, generations=1, train_size=12)
    history = history_of(run)
    assert len(history.finals) == 4 and len({final["variant"] for final in history.finals.values()}) == 2
    means: dict[str, list[float]] = {}
    for final in history.finals.values():
        means.setdefault(final["variant"], []).append(final["scores"]["final"].mean)
    assert len({value for values in means.values() for value in values}) == 4
    assert summary["best"] == max(means, key=lambda name: sum(means[name]))
    assert len(summary["seeds"]) == 2 and "final" in history.base and "test" not in history.base


def test_a_finalist_that_fails_with_a_seed_stands_behind(evolved: Evolved, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever wins when all is well does not when one of its seeds ends in numbers that are not finite."""
    common = {"finalists": 2, "final_seeds": 2, "generations": 1, "train_size": 12}
    calm, _, _ = evolved(**common)
    real = cohort.Cohort._update

    def update(self: Any, slot: Any, batch: Any) -> None:
        real(self, slot, batch)
        if slot.trial.name == f"{calm['best']}_s1":
            slot.trial.failed = "gradients were not finite"

    monkeypatch.setattr(cohort.Cohort, "_update", update)
    summary, run, said = evolved(**common)
    assert summary["best"] != calm["best"]
    assert f"{calm['best']}: fitness" in said and "over 1 seeds; 1 failed, so it stands behind" in " ".join(
        said.split()
    )
    assert sum(bool(final["failed"]) for final in history_of(run).finals.values()) == 1


def test_children_can_inherit_weights(evolved: Evolved) -> None:
    _, run, _ = evolved(inherit=True, rungs=(), generations=3)
    history = history_of(run)
    heirs = [v for v in history.variants.values() if v.heir_of]
    assert heirs and all(v.heir_of == v.parents[0] for v in heirs)


def test_a_child_of_a_clone_inherits_from_its_original(evolved: Evolved) -> None:
    """Two values of one gene: the first generation has clones, and one of them lives on."""
    one = {
        "ranks": (2, 4),
        "alphas": (1.0,),
        "alpha_rules": ("alpha/r",),
        "learning_rates": (1e-2,),
        "dropouts": (0.0,),
    }
    few = one | {"targets": ("attention",), "weight_decays": (0.0,), "warmups": (0.0,), "start": "random"}
    few |= {"null_mutations": True, "mutations": {"learning_rate": "draw"}, "survivors": 3, "immigrants": 1}
    _, run, _ = evolved(**few, inherit=True, rungs=(), generations=2, population=6, mutation_rate=0.01, crossover=0.0)
    history = history_of(run)
    heirs = [v for v in history.variants.values() if v.heir_of and history.variants[v.heir_of].clone_of]
    assert heirs, "no clone had a child"
    for heir in heirs:  # it was trained once more, from there
        assert (
            not heir.clone_of
            and heir.scores["1"].mean != history.original(history.variants[heir.heir_of]).scores["1"].mean
        )
    same = [v for v in history.born_in(1) if v.operator == "immigrant"]
    assert same and all(not history.variants[v.clone_of].heir_of for v in same if v.clone_of)


@pytest.mark.parametrize(("elder", "younger"), [(2, 6), (6, 6)])
def test_an_heir_computes_what_its_parent_did(elder: int, younger: int) -> None:
    base = load_base("tiny:qwen2", dtype="fp32", device="cpu", say=lambda text: None)
    pack = AdapterPack(base)
    parent = pack.add("parent", LoraSettings(elder, 8.0))
    draw = torch.Generator().manual_seed(0)
    parent.restore(0.1 * torch.randn(parent.flat.shape, generator=draw))
    child = pack.add("child", LoraSettings(younger, 3.0, rslora=True), 7)
    child.load_tensors(inherited(parent.tensors(), parent.scales, child))
    with torch.no_grad():
        ids = torch.arange(40, 60)[None]
        results = []
        for adapter in (parent, child):
            with pack.rows((adapter, 1)):
                results.append(base.model(input_ids=ids).logits)
    assert torch.allclose(*results, atol=1e-4)


def test_fewer_ranks_keep_the_best_part() -> None:
    """The product of the heir is the truncated singular value decomposition of the parent's."""
    base = load_base("tiny:qwen2", dtype="fp32", device="cpu", say=lambda text: None)
    pack = AdapterPack(base)
    parent = pack.add("parent", LoraSettings(8, 8.0, layers="top:1", targets="mlp"))
    draw = torch.Generator().manual_seed(0)
    parent.restore(torch.randn(parent.flat.shape, generator=draw))
    child = pack.add("child", LoraSettings(3, 3.0, layers="top:1", targets="all-linear"))
    fresh = child.tensors()
    weights = inherited(parent.tensors(), parent.scales, child)
    for module in child.shapes:
        a, b = (weights[f"base_model.model.{module}.lora_{part}.weight"] for part in "AB")
        if module not in parent.shapes:
            assert torch.equal(a, fresh[f"base_model.model.{module}.lora_A.weight"]) and not b.any()
            continue
        wide = parent.pairs[module][1].detach() @ parent.pairs[module][0].detach()
        u, s, v = torch.linalg.svd(wide, full_matrices=False)
        assert torch.allclose(b @ a, (u[:, :3] * s[:3]) @ v[:3], atol=1e-4)


def test_evolution_by_an_exact_game(evolved: Evolved) -> None:
    summary, run, _ = evolved(fitness="game:kuhn_poker", train_size=16, rungs=(), learning_rates=(5e-3,))
    history = history_of(run)
    for variant in history.variants.values():
        assert len(variant.scores) == 1  # measured once: asked again, it would say the same
        [score] = variant.scores.values()
        assert score.n == 1 and score.variance == 0 and set(score.measures) == {"expected_value", "nash_conv"}
    values = {name: history.variants[name].measured[0] for name in history.variants}
    assert history.best == max(values, key=lambda name: values[name])
    assert summary["chosen"] == values[history.best] and "base_accuracy" not in summary
    assert len({round(value, 9) for value in values.values()}) > 1


def test_evolution_by_games_that_are_played(evolved: Evolved) -> None:
    summary, run, _ = evolved(
        fitness="game:tic_tac_toe", teacher="mcts(simulations=2)", evaluate_games=6, train_size=8, rungs=(),
    )  # fmt: skip
    history = history_of(run)
    assert all(score.n == 3 for v in history.variants.values() for score in v.scores.values())
    assert set(history.survivors[0].scores) <= {"0", "1"} and summary["n"] == 3


# ---- refusals --------------------------------------------------------------------------------------------------------

REFUSED = {
    "data=gsm9k": "gsm9k",
    "fitness=game:": "game",
    "fitness=speed": "fitness = 'speed' is not known",
    "fitness=game:leduc_pokr": "leduc_pokr",
    "rungs=[0.5,0.25]": "do not rise",
    "ranks=[]": "the gene rank has no value",
    "ranks=[8,8]": "the same value twice",
    "mutations={rnak='draw'}": "no gene 'rnak'",
    "mutations={rank='jump'}": "cannot mutate by 'jump'",
    "mutations={rank='scale'}": "cannot leave its list",
    "survivors=99": "more than population",
    "survivors=8": "survivors = 8 leave no place for children in population = 8",
    "immigrants=7": "immigrants = 7 and survivors = 2 are more than population = 8",
    "ranks=[true,8]": "ranks = true is not allowed",
    "learning_rate_low=0.1": "learning_rate_low is above",
    "learning_rates=[1e-4,0.5]": "0.5 is not within learning_rate_low = 1e-06 and learning_rate_high = 0.01",
    "survivors=1 crossover=1": "crossover = 1 has no effect: survivors = 1 has nobody to be crossed with",
    "fitness=game:kuhn_poker rung_questions=5": "rung_questions = 5 has no effect: a game is played",
    "fitness=game:kuhn_poker test_size=7": "test_size = 7 has no effect: a game is played",
    "alphas=[1e308]": "alphas",
    "answer_tokens=100000": "are more than the",
    "metric=choice": "metric = choice needs options",
    "teacher=mcts": "teacher = mcts has no effect",
    "temperature=0.5": "temperature = 0.5 has no effect",
    "act=say": "act has no effect",
    "inherit=true": "rungs have no effect with inherit",
    "layers=['top:99']": "out of range",
    "targets=['q_prj']": "q_prj",
}


@pytest.mark.parametrize("override", REFUSED)
def test_what_cannot_be_is_refused_before_anything_is_written(
    override: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ludora(["evolve", "evolve", *MODEL, *override.split(" ")]) == 2
    said = capsys.readouterr().err
    assert REFUSED[override] in " ".join(said.split()) and "hint:" in said
    assert not list(tmp_path.iterdir())


ONE = [
    "ranks=[2]", "alphas=[1.0]", "alpha_rules=['alpha/r']", "learning_rates=[1e-3]", "dropouts=[0.0]",
    "targets=['mlp']", "weight_decays=[0.0]", "warmups=[0.0]",
]  # fmt: skip


@pytest.mark.parametrize(
    "more",
    [
        ["learning_rate_low=1e-3", "learning_rate_high=1e-3"],
        ["layers=['all', 'top:4']", "mutations={learning_rate='draw'}"],
    ],
)
def test_nothing_to_search_is_refused_also_where_only_the_model_shows_it(
    more: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bounds that are equal; and layers that are the same ones, since the model has four."""
    monkeypatch.chdir(tmp_path)
    assert ludora(["evolve", "evolve", *MODEL, *ONE, *more]) == 2
    assert "no gene has a second value" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_what_a_resumed_run_may_not_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    keys = [f"{key}={list(value) if isinstance(value, tuple) else value}" for key, value in TINY.items()]
    assert ludora(["evolve", "evolve", *keys]) == 0
    for change in ("population=5", "ranks=[2]", "generations=3", "data=dataset(arithmetic(level=2))"):
        assert ludora(["evolve", "--resume", "evolve", change]) == 2
        assert "cannot change on --resume" in capsys.readouterr().err
    assert ludora(["evolve", "--resume", "evolve@1"]) == 2
    assert ludora(["evolve", "--pipeline-test", "--quick-test", *MODEL]) == 2
    assert ludora(["evolve", "--resume", "evolve", "pack=1", "save_every=7"]) == 0


# ---- what answers come to ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fitness", "mean"),
    [
        ("accuracy", 2 / 3),
        ("nll", -(1.0 + 2.0 + 10.0) / 3),
        ("seed", 2 / 3 - (math.e + math.e**2 + 1000.0) / 300),  # the last one's perplexity, e^10, is held at 1000
    ],
)
def test_fitness_of_answers_by_hand(fitness: str, mean: float) -> None:
    config = EvolveConfig(**{**TINY, "fitness": fitness, "metric": "strict"})
    measured = DataFitness(config, Studio(config, lambda text: None))
    records = [
        Record("a", written=True, strict=True, parsed=True, nll=4.0, tokens=4),
        Record("b", written=True, strict=True, flexible=False, parsed=True, nll=6.0, tokens=3),
        Record("c", written=True, flexible=True, fuzzy=True, truncated=True, nll=20.0, tokens=2),
    ]
    score = measured._of_records(records)
    assert score.n == 3 and score.mean == pytest.approx(mean) and score.variance > 0
    assert score.measures == pytest.approx(
        {"perplexity": math.exp(30 / 9), "accuracy": 2 / 3, "unparsed": 1 / 3, "truncated": 1 / 3}
    )
    lost = measured._of_records([*records, Record("d", written=True, nll=math.inf, tokens=1)])
    assert (lost.mean == -1e9) is (fitness == "nll") and (fitness != "seed" or lost.mean < mean - 1)
