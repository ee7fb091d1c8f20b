"""Decisions per second of PPO here, against the plain way in the same call; see README.md beside this file.

Ours and the plain way take turns, so that what else the machine does falls on both. Prints one line of JSON last.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from support import ours as our_side
from support.machine import emit, median, rounded, say, settle
from support.plain import Plain
from support.positions import turns_of
from support.worker import working

from ludora.types import Turn

OUR_SIDE = "--our-side"  # first argument of the process that runs our side


class Seconds(NamedTuple):
    """Of the plain way: per decision of the rollout, of the critic's pass and of one epoch, and per optimiser step."""

    acting: float
    critic: float
    training: float
    step: float

    def update(self, epochs: int, minibatch: int, *, critic: bool = True) -> float:
        """Seconds per decision of a whole update."""
        return self.acting + critic * self.critic + epochs * (self.training + self.step / minibatch)


def plain_seconds(plain: Plain, turns: Sequence[Turn], batches: tuple[int, int]) -> Seconds:
    """On so many batches of acting, and of each other pass."""
    acting, fewer = turns[: batches[0] * plain.batch], turns[: batches[1] * plain.batch]
    return Seconds(plain.rollout(acting), plain.features(fewer), *plain.update(fewer))


def compare(ours: Sequence[dict[str, Any]], theirs: Sequence[Seconds], epochs: int, minibatch: int) -> dict[str, Any]:
    """Decisions per second of both sides, medians over the repeats, and their ratios."""
    rollout = median([row["decisions"] / row["seconds_rollout"] for row in ours])
    update = median([row["decisions"] / row["seconds"] for row in ours])
    plain = Seconds(*(median(column) for column in zip(*theirs, strict=True)))
    return {
        "decisions_per_second": update,
        "decisions_per_second_rollout": rollout,
        "plain_decisions_per_second": 1 / plain.update(epochs, minibatch),
        "plain_decisions_per_second_rollout": 1 / plain.acting,
        "ratio": update * plain.update(epochs, minibatch),
        "ratio_plain_without_critic": update * plain.update(epochs, minibatch, critic=False),
        "ratio_rollout": rollout * plain.acting,
        "ratio_lowest": min(row["decisions"] / row["seconds"] for row in ours)
        * min(row.update(epochs, minibatch) for row in theirs),
    }


def leduc(options: argparse.Namespace, facts: dict[str, Any], batches: tuple[int, int]) -> dict[str, Any]:
    """Leduc against random, as the demo trains it: prompts come up again and again, the top layers are adapted."""
    overrides = [f"{key}={facts[key]}" for key in ("threads", "dtype")] + [f"model={options.model}"]
    if options.quick:
        overrides += ["games_per_update=32", "evaluate_every=0", "patience=0", "minibatch=32"]
    with working(sys.executable, __file__, OUR_SIDE, "leduc", "0", str(options.repeats), *overrides) as worker:
        known = worker.facts
        settings = {key: known[key] for key in ("layers", "rank", "alpha")}
        plain = Plain(options.model, facts["dtype"], batch=options.batch, **settings)
        turns = turns_of("leduc_poker", max(batches) * options.batch, distinct=False)
        say(f"leduc: {known['games_per_update']} games an update, layers {known['layers']}, rank {known['rank']}")
        first = worker.turn()
        ours, theirs = [], []
        for number in range(options.repeats):
            theirs.append(plain_seconds(plain, turns, batches))
            row = worker.turn()
            row["decisions"] = row["decisions_per_second"] * (row["seconds_rollout"] + row["seconds_update"])
            row["seconds"] = row["seconds_rollout"] + row["seconds_update"]
            ours.append(row)
            say(f"  {number + 1}/{options.repeats}: ours {row['seconds']:.1f} s for {row['decisions']:.0f} decisions")
    return {
        **compare(ours, theirs, known["epochs"], known["minibatch"]),
        "tokens_per_distinct_token": median([row["tokens_per_distinct_token"] for row in ours]),
        "tokens_per_second": median([row["tokens_per_second"] for row in ours]),
        "distinct_prompts": median([row["distinct_prompts"] for row in ours]),
        "decisions": median([row["decisions"] for row in ours]),
        "seconds_rollout": median([row["seconds_rollout"] for row in ours]),
        "seconds_update": median([row["seconds_update"] for row in ours]),
        "seconds_first_update": first["seconds_rollout"] + first["seconds_update"],
        "peak_rss_gb": max(row["peak_rss_gb"] for row in ours),
        "settings": {key: known[key] for key in known if key != "peak_rss_gb"},
    }


def no_repeats(options: argparse.Namespace, facts: dict[str, Any], batches: tuple[int, int]) -> dict[str, Any]:
    """Hex positions, all different, all layers adapted, one epoch: nothing can be computed once for two."""
    overrides = [f"{key}={facts[key]}" for key in ("threads", "dtype")] + [f"model={options.model}"]
    count = max(options.batch, 16 if options.quick else 128)
    with working(
        sys.executable, __file__, OUR_SIDE, "distinct", str(count), str(options.repeats + 1), *overrides
    ) as worker:
        known = worker.facts
        settings = {key: known[key] for key in ("layers", "rank", "alpha")}
        plain = Plain(options.model, facts["dtype"], batch=options.batch, **settings)
        turns = turns_of(our_side.HEX, max(batches) * options.batch, distinct=True, seed=1)
        say(f"{our_side.HEX}: {count} different positions an update, layers all, rank {known['rank']}")
        worker.turn()  # kernels set up
        ours, theirs = [], []
        for number in range(options.repeats):
            theirs.append(plain_seconds(plain, turns, batches))
            row = worker.turn()
            row["seconds"] = row["seconds_rollout"] + row["seconds_critic"] + row["seconds_training"]
            row["rate"] = row["training_flops"] / row["seconds_training"]
            ours.append(row)
            say(f"  {number + 1}/{options.repeats}: ours {row['seconds']:.1f} s for {row['decisions']} decisions")
    rate, peak = max(row["rate"] for row in ours), max(row["matmul_flops_per_second"] for row in ours)
    return {
        **compare(ours, theirs, 1, count),
        "training_flops_per_second": rate,
        "matmul_flops_per_second": peak,
        "flops_share": rate / peak,
        "padding_share": median([row["padding_share"] for row in ours]),
        "distinct_share": median([row["distinct_prompts"] / row["decisions"] for row in ours]),
        **{
            key: median([row[key] for row in ours]) for key in ("seconds_rollout", "seconds_critic", "seconds_training")
        },
        "peak_rss_gb": max(row["peak_rss_gb"] for row in ours),
        "game": our_side.HEX,
    }


HOW = (
    "plain: PEFT unmodified, adapter in the base's dtype, left-padded batches with an attention mask, logits of the whole "
    "vocabulary at every position, nothing cached; timed on a sample and extrapolated per decision. Both sides do the same "
    "passes: acting, the base without adapter once per decision for the critic, one forward and backward pass per epoch; "
    "ratio_*_plain_without_critic leaves the plain way's second one out. flops_share: "
    "(4 P + 6 sum r (in + out)) x tokens computed / seconds of the training pass, optimiser included, over the best matmul"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m", help="base model, as in a config")
    parser.add_argument("--threads", default="auto", help="for both sides; auto leaves busy cores alone")
    parser.add_argument("--repeats", type=int, default=3, help="turns that the two sides take")
    parser.add_argument("--batch", type=int, default=32, help="decisions per padded batch of the plain way")
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, to see that it runs; the figures mean nothing"
    )
    options = parser.parse_args()
    if options.quick:
        options.repeats, options.batch = 1, 8
    began = time.perf_counter()
    facts = settle(options.threads)
    say(f"{facts['threads']} threads, {facts['dtype']}, load {facts['load_before']}")
    batches = (1, 1) if options.quick else (3, 2)  # of the plain way, per repeat: acting, training
    poker = leduc(options, facts, batches)
    hexes = no_repeats(options, facts, batches)
    shared = ("training_flops_per_second", "matmul_flops_per_second", "flops_share")
    result = {
        "benchmark": "ppo_throughput",
        **{key: poker.pop(key) for key in list(poker) if key.startswith(("ratio", "decisions_per", "plain_"))},
        "ratio_no_repeats": hexes.pop("ratio"),
        "ratio_no_repeats_plain_without_critic": hexes.pop("ratio_plain_without_critic"),
        "ratio_rollout_no_repeats": hexes.pop("ratio_rollout"),
        **{key: hexes.pop(key) for key in shared},
        "tokens_per_distinct_token": poker.pop("tokens_per_distinct_token"),
        "peak_rss_gb": poker.pop("peak_rss_gb"),
        "leduc": rounded(poker),
        "no_repeats": rounded(hexes),
        "sampled_decisions": {
            "plain_rollout": batches[0] * options.batch,
            "plain_training": batches[1] * options.batch,
        },
        "repeats": options.repeats,
        "quick": options.quick,
        **facts,
        "load_after": [round(value, 2) for value in os.getloadavg()],
        "seconds": time.perf_counter() - began,
        "how": HOW,
    }
    emit(rounded(result))


if __name__ == "__main__":
    if sys.argv[1:2] == [OUR_SIDE]:
        our_side.main(sys.argv[2:])
    else:
        main()
