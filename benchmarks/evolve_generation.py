"""One generation of six variants, trained and measured: packed here, against one after another with PEFT.

All sides get the same model, adapted modules, rows of tokens, questions, batch and threads, and take turns within the
call; see README.md beside this file. Prints one line of JSON last.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from support.machine import emit, median, peak_rss_gb, rounded, say, settle
from support.worker import working

from ludora.config import load_config
from ludora.data.batches import Item
from ludora.evals.answers import final_answer
from ludora.evolve.breeding import breed
from ludora.evolve.fitness import DataFitness
from ludora.evolve.history import History
from ludora.evolve.settings import EvolveConfig
from ludora.learn.cohort import Cohort, Plan, Recipe, Trial
from ludora.models import greedy
from ludora.models.families import LoraSettings, resolve_targets
from ludora.models.policy import Text
from ludora.players.studio import Studio
from ludora.rng import generator

RANKS = (8, 8, 16, 16, 32, 32)
RATES = (2e-4, 5e-4) * 3
SEED_WAYS = ("seed", "trimmed")  # of the document's program: as it is, and without its padding
OUR_SIDE = "--our-side"
BLOCK = "0"


class Ours:
    """Our side: a cohort of six, and its measurement."""

    def __init__(self, wanted: dict[str, Any]) -> None:
        self.wanted = wanted
        config = EvolveConfig(
            model=wanted["model"],
            dtype=wanted["dtype"],
            device="cpu",
            threads=wanted["threads"],
            fitness="accuracy",
            train_size=wanted["examples"],
            eval_size=wanted["questions"],
            answer_tokens=wanted["answer_tokens"],
            test_size=0,
            generations=1,
            finalists=0,
            rungs=(),
        )
        self.studio = Studio(config, say)
        self.fitness = DataFitness(config, self.studio)

    def generation(
        self,
        *,
        packed: bool = True,
        answers_only: bool = True,
        batched: bool = True,
        epochs: int = 1,
        ranks: tuple[int, ...] = RANKS,
        share: float = 1.0,
    ) -> dict[str, float]:
        """Seconds of training and of measuring all variants; the trunk cache is empty at the beginning."""
        self.studio.policy.forget()
        items: list[Item] = list(self.fitness.items)
        if not answers_only:
            items = [_all_logits(item) for item in items if isinstance(item, Text)]
        steps = max(1, round(epochs * Cohort.epoch_steps(len(items), self.wanted["batch"]) * share))
        plan = Plan(steps, self.wanted["batch"], 8192, 1, "constant", (0.9, 0.999), 1.0)
        cohort = Cohort(self.studio.policy, items, plan, capacity=len(ranks) if packed else 1)
        trials = [self._trial(i, rank) for i, rank in enumerate(ranks)]
        began = time.perf_counter()
        assert cohort.train(trials, steps)
        trained = time.perf_counter()
        right = 0.0
        groups = [trials] if packed else [[trial] for trial in trials]
        for group in groups:
            with cohort.seated(group) as adapters, patch_rows(0 if batched else 1):
                scores = self.fitness.measure(adapters, BLOCK)
            right += sum(score.mean * score.n for score in scores)
        return {"train": trained - began, "evaluate": time.perf_counter() - trained, "right": right}

    def _trial(self, number: int, rank: int) -> Trial:
        lora = LoraSettings(rank, 2.0 * rank, targets=self.wanted["targets"], layers=self.wanted["layers"])
        return Trial(f"variant-{number}", Recipe(lora, RATES[number % len(RATES)]), seed=number)


@contextmanager
def patch_rows(rows: int) -> Iterator[None]:
    """Within the block, answers are written so many at a time; 0: as always."""
    if not rows:
        yield
        return
    with patch.object(greedy, "waves", lambda policy, lengths, *rest: iter([[i] for i in range(len(lengths))])):
        yield


def _all_logits(text: Text) -> Text:
    """The same row with a loss at every position, as when labels are on the whole text."""
    tokens = (*text.row.tokens, text.targets[-1])
    return Text(text.row, tuple(range(len(tokens) - 1)), tokens[1:])


def our_side(wanted: dict[str, Any]) -> None:
    """Reads one JSON object per turn from stdin: the options of `generation`; `{}` is the real thing."""
    ours = Ours(wanted)
    ours.generation(ranks=RANKS[:1], share=0.01)  # kernels set up
    out: dict[str, Any] = {"ready": True}
    turns = iter(wanted["turns"])
    while True:
        sys.stdout.write(json.dumps({**out, "peak_rss_gb": peak_rss_gb()}) + "\n")
        sys.stdout.flush()
        if not sys.stdin.readline().strip():
            return
        options = dict(next(turns))
        limit = ours.studio.engine.trunk.limit
        if options.pop("no_cache", False):
            ours.studio.engine.trunk.limit = 0
        out = ours.generation(**options)
        ours.studio.engine.trunk.limit = limit


def prepare(options: argparse.Namespace, facts: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Write the model, the rows that are learnt and the questions that are asked, as tokens, for the peers."""
    wanted = {
        "model": options.model,
        "dtype": facts["dtype"],
        "threads": facts["threads"],
        "examples": options.examples,
        "questions": options.questions,
        "answer_tokens": options.answer_tokens,
        "batch": options.batch,
        "targets": options.targets,
        "layers": "all",
    }
    ours = Ours(wanted)
    chat, fitness = ours.studio.chat, ours.fitness
    with open(folder / "rows.jsonl", "w", encoding="utf-8") as file:
        for item in fitness.items:
            file.write(json.dumps(_row(item)) + "\n")
    asked = []
    for question in fitness.splits.search:
        text = fitness._text(question)
        row = _row(text)
        asked.append(
            {
                "prompt": list(text.row.tokens[: text.reads[0] + 1]),
                "row": row["input_ids"],
                "labels": row["labels"],
                "final": final_answer(fitness.splits.style, question),
            }
        )
    modules = {
        layers: list(resolve_targets(ours.studio.base.model, LoraSettings(targets=options.targets, layers=layers)))
        for layers in options.layers
    }
    ours.studio.pack.close()
    ours.studio.base.model.set_attn_implementation("sdpa")
    ours.studio.base.model.save_pretrained(folder / "model")
    ours.studio.base.tokenizer.save_pretrained(folder / "model")
    peer = {**wanted, "folder": str(folder / "model"), "rows": str(folder / "rows.jsonl"), "questions": asked}
    peer |= {"eval_batch": options.questions, "epochs": 1, "end": list(chat.stop_ids)}
    return {"ours": wanted, "peer": peer, "modules": modules}


def _row(item: Any) -> dict[str, list[int]]:
    """A text as `input_ids` and `labels`."""
    ids = [*item.row.tokens, item.targets[-1]]
    labels = [-100] * len(ids)
    for at, target in zip(item.reads, item.targets, strict=True):
        labels[at + 1] = target
    return {"input_ids": ids, "labels": labels}


def total(figures: dict[str, Any]) -> float:
    return float(figures["train"] + figures["evaluate"] + figures.get("load", 0.0))


def compare(options: argparse.Namespace, made: dict[str, Any], layers: str) -> dict[str, Any]:
    """Our side and the peers on one choice of layers, in turns; then our side with one thing left out at a time."""
    several = {"epochs": 2}
    left_out: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # factor -> (without it, with it)
        "packing": ({"packed": False}, {}),
        "answer_only_logits": ({"answers_only": False}, {}),
        "batched_evaluation": ({"batched": False}, {}),
    }
    if layers != "all":
        left_out["trunk_cache"] = ({**several, "no_cache": True}, several)
    turns: list[dict[str, Any]] = [{} for _ in range(options.repeats)]
    turns += [dict(side) for pair in left_out.values() for side in pair if side]
    variants = [{"rank": rank, "learning_rate": rate} for rank, rate in zip(RANKS, RATES, strict=True)]
    peer_script = str(Path(__file__).parent / "support" / "evolve_peer.py")
    order = {**made["peer"], "layers": layers, "modules": made["modules"][layers]}
    with ExitStack() as stack:
        ours = stack.enter_context(
            working(sys.executable, __file__, OUR_SIDE, json.dumps({**made["ours"], "layers": layers, "turns": turns}))
        )
        few = variants[: options.seed_variants]
        peers = {
            kind: stack.enter_context(
                working(sys.executable, peer_script, json.dumps({**order, "kind": kind, "variants": chosen}))
            )
            for kind, chosen in (("batched", variants), *((way, few) for way in SEED_WAYS if few))
        }
        rows: dict[str, list[dict[str, Any]]] = {"ours": [], **{kind: [] for kind in peers}}
        for number in range(options.repeats):
            for name, worker in {**peers, "ours": ours}.items():
                if name in SEED_WAYS and number:
                    continue  # hours, otherwise
                rows[name].append(worker.turn())
                say(f"  layers {layers}, turn {number + 1}/{options.repeats}: {name} {total(rows[name][-1]):.1f} s")
        whole = median([total(row) for row in rows["ours"]])
        factors: dict[str, Any] = {}
        for name, (without, having) in left_out.items():
            slow, fast = total(ours.turn()), total(ours.turn()) if having else whole
            factors[name] = {"without_seconds": slow, "with_seconds": fast, "factor": slow / fast}
            say(f"  layers {layers}: {name} {slow / fast:.2f}x ({without} against {having or 'all'})")
    found = {
        "ratio": median([total(row) for row in rows["batched"]]) / whole,
        "ratio_train": median([row["train"] for row in rows["batched"]]) / median([r["train"] for r in rows["ours"]]),
        "ratio_evaluate": median([row["evaluate"] for row in rows["batched"]])
        / median([r["evaluate"] for r in rows["ours"]]),
        "seconds": {name: [rounded(row) for row in part] for name, part in rows.items()},
        "ablation": factors,
        "right": {name: part[-1]["right"] for name, part in rows.items()},
    }
    for way in SEED_WAYS if few else ():
        one = total(rows[way][0]) / len(few)
        found |= {f"ratio_{way}": one * len(RANKS) / whole, f"{way}_seconds_per_variant": one}
    return found


def halving(options: argparse.Namespace, made: dict[str, Any]) -> dict[str, Any]:
    """Twelve starters through the rungs of the default preset, and without rungs; measured by time."""
    config = load_config(EvolveConfig, "evolve")
    ours = Ours({**made["ours"], "layers": options.layers[-1]})
    ranks = (RANKS * 2)[: options.starters]
    whole = ours.generation(ranks=ranks)["train"]
    halved, left, done = 0.0, ranks, 0.0
    for share in (*config.rungs, 1.0):
        halved += ours.generation(ranks=left, share=share - done)["train"]
        left, done = left[: max(1, math.ceil(len(left) * config.rung_keep))], share
    return {"without_seconds": whole, "with_seconds": halved, "factor": whole / halved, "rungs": list(config.rungs)}


def dedupe(lineages: int = 200) -> dict[str, Any]:
    """Trainings of the document's algorithm with and without its clones, over lineages whose survivors are drawn."""
    config = load_config(EvolveConfig, "evolve-seed")
    trained = born = 0
    for number in range(lineages):
        seeded = config.model_copy(update={"seed": number})
        history = History(lambda kind, **row: None)
        for generation in range(config.generations):
            breed(seeded, config.space, history, lambda n, d: [], lambda genome: genome.rank)
            names = [v.id for v in (*history.survivors, *history.born_in(generation))]
            lucky = generator("survivors", number, generation).sample(names, config.survivors)
            row = {"number": generation, "population": names, "survivors": lucky, "front": [], "best": lucky[0]}
            history.record("generation", **row, best_fitness=0.0, fitness={})
        born += len(history.variants)
        trained += sum(not v.clone_of for v in history.variants.values())
    return {"without_trainings": born, "with_trainings": trained, "factor": born / trained, "lineages": lineages}


HOW = (
    "ours: six variants in one pack, trunk cache empty at the beginning; batched: PEFT and Trainer one after another on a base "
    "that stays loaded, answers in one generate; seed: base loaded for each, rows padded to 512 tokens, loss on all of them, "
    "one question at a time, measured on seed_variants of the six and scaled; trimmed: the same without that padding; "
    "ratio: seconds of training and measuring all six, theirs over ours, medians of turns; "
    "ablation: seconds with that one thing left out over seconds with all"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m", help="base model, as in a config")
    parser.add_argument("--threads", default="auto", help="for all sides; auto leaves busy cores alone")
    parser.add_argument("--targets", default="attention", help="adapted modules")
    parser.add_argument("--layers", nargs="+", default=["all", "top:10"], help="choices of layers; first is `ratio`")
    parser.add_argument("--examples", type=int, default=96, help="examples learnt, once")
    parser.add_argument("--questions", type=int, default=48, help="questions asked of every variant")
    parser.add_argument("--answer-tokens", type=int, default=40, help="tokens of an answer at most")
    parser.add_argument("--batch", type=int, default=8, help="examples of one optimiser step")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each side")
    parser.add_argument("--starters", type=int, default=12, help="variants of the halving row")
    parser.add_argument("--seed-variants", type=int, default=1, help="variants trained in the document's way; 0: none")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs; figures mean nothing")
    options = parser.parse_args()
    if options.quick:
        options.examples, options.questions, options.batch, options.repeats = 16, 4, 8, 1
        options.answer_tokens, options.starters = 6, 4
    began = time.perf_counter()
    facts = settle(options.threads)
    say(f"{facts['threads']} threads, {facts['dtype']}, load {facts['load_before']}")
    with tempfile.TemporaryDirectory(prefix="evolve-generation-") as name:
        made = prepare(options, facts, Path(name))
        found = {layers: compare(options, made, layers) for layers in options.layers}
        rows = {"halving": halving(options, made), "dedupe": dedupe()}
    result = {
        "benchmark": "evolve_generation",
        "ratio": found[options.layers[0]]["ratio"],
        **{f"ratio_{layers.replace(':', '')}": row["ratio"] for layers, row in found.items()},
        **{key: found[options.layers[0]].get(key) for key in ("ratio_seed", "ratio_trimmed")},
        **{layers: rounded(row) for layers, row in found.items()},
        **{name: rounded(row) for name, row in rows.items()},
        **{key: getattr(options, key) for key in ("model", "targets", "examples", "questions", "batch", "quick")},
        **facts,
        "load_after": [round(value, 2) for value in os.getloadavg()],
        "seconds": time.perf_counter() - began,
        "how": HOW,
    }
    emit(rounded(result))


if __name__ == "__main__":
    if sys.argv[1:2] == [OUR_SIDE]:
        our_side(json.loads(sys.argv[2]))
    else:
        main()
