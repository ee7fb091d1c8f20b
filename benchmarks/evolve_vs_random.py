"""Is it evolution? The default preset against random search, the document's algorithm and one adapter, at equal tokens.

Every method spends about the tokens of training that the default preset spends, its finals included, and answers the same
untouched test, per seed. See README.md beside this file. Prints one line of JSON last.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from support.machine import emit, rounded, say, settle

from ludora.config import load_config
from ludora.evals.quiz import Quiz, is_right
from ludora.evals.stats import mean_interval
from ludora.evolve.history import History
from ludora.evolve.search import evolve
from ludora.evolve.settings import EvolveConfig
from ludora.runs.log import RunLog
from ludora.runs.store import Run

METHODS = ("default", "random", "seed", "one")
# What the adapter that is trained on all tokens is: the house's usual settings for the built-in model.
ONE = {
    "ranks": [16],
    "alphas": [2.0],
    "alpha_rules": ["alpha/r"],
    "learning_rates": [5e-4],
    "dropouts": [0.0],
    "targets": ["all-linear"],
    "weight_decays": [0.0],
    "warmups": [0.03],
}


def overrides(values: dict[str, Any]) -> list[str]:
    """Config values as `key=value` texts."""
    return [f"{key}={json.dumps(value) if not isinstance(value, str) else value}" for key, value in values.items()]


def configs(options: argparse.Namespace, seed: int, spent: dict[str, int], method: str) -> EvolveConfig:
    """The run of one method; those after the default one spend what it spent.

    `spent`: tokens of the default run (`all`), of its finals (`finals`), and of one whole training (`one`).
    """
    shared = {"seed": seed, "name": f"{method}-{seed}", "threads": options.threads, "model": options.model}
    shared |= {"data": options.data, "train_size": options.train_size, "test_size": options.test_size}
    shared |= {"eval_size": options.eval_size, "answer_tokens": options.answer_tokens, "metric": "flexible"}
    if method == "default":
        return load_config(EvolveConfig, "evolve", [*overrides(shared), *options.override])
    if method == "random":
        count = max(2, round((spent["all"] - spent["finals"]) / spent["one"]))
        plain = {"generations": 1, "population": count, "start": "random", "rungs": [], "selection": "quality"}
        mine = [text for text in options.override if text.partition("=")[0] not in (*plain, "starters", "rung_keep")]
        return load_config(EvolveConfig, "evolve", [*overrides(shared | plain), *mine])
    recipe = {text.partition("=")[0]: text for text in options.override}
    kept = [recipe[key] for key in ("batch",) if key in recipe]
    if method == "seed":
        epochs = {"epochs": options.epochs, "tokens": spent["all"], "generations": 100}
        return load_config(EvolveConfig, "evolve-seed", [*overrides(shared | epochs), *kept])
    epochs = {"epochs": max(1, round(spent["all"] / spent["one"] * options.epochs)), "generations": 1, "population": 1}
    alone = {"survivors": 1, "finalists": 0, "rungs": [], "null_mutations": True, **ONE}
    return load_config(EvolveConfig, "evolve", [*overrides(shared | epochs | alone), *kept])


def result_of(config: EvolveConfig, folder: Path) -> tuple[Run, History]:
    """A finished run, made now unless it is there from an earlier call."""
    path = folder / str(config.name)
    run = Run.open(path) if path.exists() else Run.create(folder, str(config.name), config.to_json())
    with run:
        if not run.evaluation.is_file():
            with RunLog(run) as log:
                evolve(config, run, log)
        return run, History.read(run.rows("events.jsonl"))


def whole_training(history: History) -> int:
    """Tokens of one training that went to its end."""
    return max(variant.tokens for variant in history.variants.values())


def one_seed(options: argparse.Namespace, seed: int, folder: Path) -> dict[str, Any]:
    """All methods on one seed: tokens spent, accuracy on the test, and which questions were right."""
    found: dict[str, Any] = {}
    spent: dict[str, int] = {}
    for method in METHODS:
        began = time.perf_counter()
        run, history = result_of(configs(options, seed, spent, method), folder)
        finals = sum(final["tokens"] for final in history.finals.values())
        if method == "default":
            spent = {"all": history.tokens + finals, "finals": finals, "one": whole_training(history)}
        quiz = Quiz.from_json(run.read_json("evaluation.json"))
        right = [is_right(item.answers[0], quiz.metric) for item in quiz.items]
        if method == "default":
            asked = [item.id for item in quiz.items]
        assert asked == [item.id for item in quiz.items], "the methods must answer the same test"
        found[method] = {
            "accuracy": sum(right) / len(right),
            "base_accuracy": quiz.rows[1].rate,
            "tokens": history.tokens + finals,
            "variants": len(history.variants),
            "seconds": time.perf_counter() - began,
            "best": history.tested["id"],
        }
        say(f"  seed {seed}: {method} {found[method]['accuracy']:.3f} with {found[method]['tokens']:,} tokens")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m", help="base model, as in a config")
    parser.add_argument("--threads", default="auto", help="for all methods; auto leaves busy cores alone")
    parser.add_argument("--data", default="arithmetic", help="data set")
    parser.add_argument("--train-size", type=int, default=300)
    parser.add_argument("--eval-size", type=int, default=60)
    parser.add_argument("--test-size", type=int, default=300)
    parser.add_argument("--answer-tokens", type=int, default=40)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--folder", default="", help="where runs are kept; what is finished there is not done again")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs; figures mean nothing")
    parser.add_argument("override", nargs="*", metavar="KEY=VALUE", help="over the default preset")
    options = parser.parse_args()
    if options.quick:
        options.train_size, options.eval_size, options.test_size, options.answer_tokens = 12, 4, 6, 3
        options.seeds = options.seeds[:2]
        options.override += ["population=3", "generations=2", "ranks=[2,4]", "finalists=1", "final_seeds=1", "batch=4"]
    began = time.perf_counter()
    facts = settle(options.threads)
    options.threads = facts["threads"]
    options.epochs = load_config(EvolveConfig, "evolve", options.override).epochs
    with tempfile.TemporaryDirectory(prefix="evolve-vs-random-") as name:
        folder = Path(options.folder or name)
        rows = {seed: one_seed(options, seed, folder) for seed in options.seeds}
    gains = {}
    for other in METHODS[1:]:
        differences = [row["default"]["accuracy"] - row[other]["accuracy"] for row in rows.values()]
        interval = mean_interval(differences)
        gains[other] = {"mean": interval.mean, "low": interval.low, "high": interval.high, "by_seed": differences}
    accuracy = {m: sum(row[m]["accuracy"] for row in rows.values()) / len(rows) for m in METHODS}
    result = {
        "benchmark": "evolve_vs_random",
        "ratio": accuracy["default"] / accuracy["random"] if accuracy["random"] else None,
        "accuracy": rounded(accuracy),
        "base_accuracy": sum(row["default"]["base_accuracy"] for row in rows.values()) / len(rows),
        "default_minus": gains,
        "seeds": {str(seed): {m: rounded(row) for m, row in found.items()} for seed, found in rows.items()},
        "quick": options.quick,
        **{key: getattr(options, key) for key in ("model", "data", "train_size", "eval_size", "test_size", "override")},
        **facts,
        "load_after": [round(value, 2) for value in os.getloadavg()],
        "seconds": time.perf_counter() - began,
        "how": "per seed all methods learn from the same examples and answer the same test; tokens of training are those of "
        "the default preset, finals included; default_minus: accuracy, mean over seeds with Student's 95 % interval",
    }
    emit(rounded(result))


if __name__ == "__main__":
    sys.exit(main())
