"""The end of evolution: finalists trained again from nothing, a winner, and the test that nobody was selected by."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from ludora.errors import TrainingFailed
from ludora.evals.quiz import Quiz
from ludora.evals.report import write_report
from ludora.evolve.fitness import FINAL, TEST, Answers
from ludora.evolve.history import BASE
from ludora.evolve.selection import finalists
from ludora.models.machine import enough_memory
from ludora.models.storage import adapter_files

if TYPE_CHECKING:
    from ludora.evolve.search import Search


def prepare(it: Search) -> bool:
    """Train the finalists with several seeds each. False: somebody asked to stop on the way."""
    history = it.history
    if not it.config.finalists:
        return True
    if not history.finals:
        for variant in finalists(it.config, history):
            for seed in range(it.config.final_seeds):
                history.record("final", id=f"{variant.id}_s{seed}", variant=variant.id, seed=seed)
        for name in history.finals:
            it.trials[name] = it.trial_of(name)
        count = len(history.finals) // it.config.final_seeds
        it.log.say(f"finals: the best {count} again from nothing, with {it.config.final_seeds} seeds each")
        it.save()
    return it.train(list(history.finals), it.steps)


def conclude(it: Search, reason: str, seconds: float) -> dict[str, Any]:
    """Choose the winner, test it, and write what is kept."""
    history = it.history
    winner, chosen = _winner(it)
    if it.config.test_size and not history.tested:
        history.record("test", **_test(it, winner, chosen))
        it.save()
    with it.cohort.seated([it.trials[chosen]]) as (adapter,):
        it.run.write_adapter(adapter_files(adapter, it.studio.base, it.fitness.seen))
    for variant in history.survivors:
        trial = it.trials[history.original(variant).id]
        with it.cohort.seated([trial]) as (adapter,):
            it.run.write_variant(variant.id, adapter_files(adapter, it.studio.base, it.fitness.seen))
    it.log.event("end", reason=reason, generation=history.number, best=winner)
    return {
        **interrupted(it),
        "ended": reason,
        "best": winner,
        "genome": history.variants[winner].genome.to_json(),
        "parameters": history.variants[winner].parameters,
        **{key: value for key, value in history.tested.items() if key not in ("event", "at")},
        "seconds": round(seconds, 1),
        "adapter": str(it.run.adapter),
        "report": str(write_report(it.run.path)),
    }


def interrupted(it: Search) -> dict[str, Any]:
    """Where a run stands."""
    return {
        "run": str(it.run.path),
        "ended": "interrupted",
        "generations": it.history.number,
        "variants": len(it.history.variants),
        "trained": sum(not variant.clone_of for variant in it.history.variants.values()),
        "train_tokens": it.history.tokens,
        "best": it.history.best,
    }


def _winner(it: Search) -> tuple[str, str]:
    """The best variant, and whose weights are its adapter.

    Of finalists: the one with the best mean over its seeds, on questions that nobody was asked before; its best seed.
    One whose training failed with a seed stands behind those that failed with fewer.
    """
    history = it.history
    if not history.finals:
        best = history.original(history.variants[history.best]).id
        return history.best, best
    sound = [name for name, final in history.finals.items() if not final["failed"]]
    if not sound:
        raise TrainingFailed("no finalist came through its training with finite numbers", "lower learning_rates")
    if any(FINAL not in history.finals[name]["scores"] for name in sound):
        it.record_scores(it.score(sound, FINAL, base=FINAL not in history.base), FINAL)
        it.save()
    worth = {name: history.finals[name]["scores"][FINAL].mean for name in sound}
    seeds: dict[str, list[str]] = {}
    for name in sound:
        seeds.setdefault(history.finals[name]["variant"], []).append(name)
    means = {variant: math.fsum(worth[n] for n in names) / len(names) for variant, names in seeds.items()}
    lost = Counter(final["variant"] for final in history.finals.values() if final["failed"])
    for variant, mean in means.items():
        behind = f"; {lost[variant]} failed, so it stands behind those with fewer failures" if lost[variant] else ""
        it.log.say(f"  {variant}: fitness {mean:+.4f} over {len(seeds[variant])} seeds{behind}")
    winner = max(means, key=lambda variant: (-lost[variant], means[variant]))
    return winner, max(seeds[winner], key=lambda name: worth[name])


def _test(it: Search, winner: str, chosen: str) -> dict[str, Any]:
    """The one test: base, the chosen adapter, and the winner's other seeds."""
    others = [n for n, final in it.history.finals.items() if final["variant"] == winner and not final["failed"]]
    names = [chosen, *(name for name in others if name != chosen)]
    with enough_memory():
        [base] = it.fitness.examine([None], TEST)
    answers: list[Answers] = []
    for name in names:
        with enough_memory(), it.cohort.seated([it.trials[name]]) as adapters:
            answers += it.fitness.examine(adapters, TEST)
    row: dict[str, Any] = {
        "id": chosen,
        "n": base.score.n,
        BASE: base.score.mean,
        "chosen": answers[0].score.mean,
        "seeds": [a.score.mean for a in answers],
        "measures": answers[0].score.measures,
        "base_measures": base.score.measures,
    }
    quiz = it.fitness.quiz({f"adapter({it.run.adapter})": answers[0], BASE: base})
    if quiz is None:
        return row
    it.run.write_json("evaluation.json", quiz.to_json())
    return row | _compared(quiz) | {"seed_accuracies": [a.score.measures["accuracy"] for a in answers]}


def _compared(quiz: Quiz) -> dict[str, Any]:
    """Accuracy of base and adapter, the difference with its interval, and McNemar's exact test."""
    best, base = quiz.rows
    pair = quiz.comparison
    assert pair is not None
    return {
        "base_accuracy": base.rate,
        "best_accuracy": best.rate,
        "best_accuracy_low": best.low,
        "best_accuracy_high": best.high,
        "gain": pair.difference,
        "gain_low": pair.difference_low,
        "gain_high": pair.difference_high,
        "improved": pair.improvements,
        "regressed": pair.regressions,
        "p_value": pair.p_value,
    }
