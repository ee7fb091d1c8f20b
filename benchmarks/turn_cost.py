"""What a turn of a conversation costs when its history is kept, early and late; see README.md beside this file.

Prints one line of JSON last.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import torch
from support.machine import emit, median, peak_rss_gb, rounded, say, settle
from support.plain import Plain

from ludora.config import make
from ludora.models.generate import Sampler, Talk
from ludora.players.studio import Studio
from ludora.rng import stream
from ludora.settings import PPOConfig

EARLY, LATE = 2, 64  # the turns compared; each is the median with its neighbours


@dataclass
class Clock:
    """Seconds spent inside functions, by name; nested ones count in both."""

    seconds: dict[str, float] = field(default_factory=dict)

    def watch(self, name: str, owner: Any, method: str) -> None:
        """Time every call of a method of this object from now on."""
        inner: Callable[..., Any] = getattr(owner, method)

        def timed(*args: Any, **options: Any) -> Any:
            start = time.perf_counter()
            try:
                return inner(*args, **options)
            finally:
                self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

        setattr(owner, method, timed)


class Conversations:
    """Conversations of equal length that go on turn by turn: some tokens heard, some sampled, never ended early."""

    def __init__(self, options: argparse.Namespace, facts: dict[str, Any]) -> None:
        values = {
            "model": options.model,
            "act": "say",
            "history": True,
            "layers": "all",
            "dtype": facts["dtype"],
            "threads": facts["threads"],
        }
        studio = Studio(make(PPOConfig, values), say)
        player, _ = studio.learner(make(PPOConfig, values))
        self.adapter, self.options = player.adapter, options
        self.sampler = Sampler(studio.policy, ())  # no token ends an answer: every turn has its full length
        self.draw = Random(0)
        self.vocabulary = len(studio.base.tokenizer)
        self.talks = [Talk(self._heard()) for _ in range(options.batch)]
        self.clock = Clock()
        for method in ("extend", "advance"):
            self.clock.watch("model", studio.engine, method)
        self.clock.watch("vocabulary", studio.policy, "logits")

    def _heard(self) -> tuple[int, ...]:
        return tuple(self.draw.randrange(self.vocabulary) for _ in range(self.options.heard))

    def hear(self) -> None:
        for talk in self.talks:
            talk.hear(self._heard())

    def say(self, turn: int) -> dict[str, float]:
        """Sample every conversation's answer; seconds in all and by part."""
        self.clock.seconds.clear()
        seeds = [stream("turn", turn, i) for i in range(len(self.talks))]
        start = time.perf_counter()
        moves = self.sampler.sample(self.talks, self.adapter, seeds, self.options.sampled)
        seconds = time.perf_counter() - start
        assert all(len(move.tokens) == self.options.sampled for move in moves)
        parts = {"model": 0.0, "vocabulary": 0.0, **self.clock.seconds}
        return {"all": seconds, **parts, "drawing": seconds - sum(parts.values())}


def medians(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: median([row[name] for row in rows]) for name in rows[0]}


def fresh(conversations: Conversations, turn: int) -> tuple[float, float]:
    """Seconds to encode the whole history once more and decode the turn, and to encode it alone, nothing being kept."""
    for talk in conversations.talks:
        talk.forget()
    sampled, conversations.options.sampled = conversations.options.sampled, 1
    alone = conversations.say(turn)["all"]
    conversations.options.sampled = sampled - 1
    rest = conversations.say(turn)["all"]
    conversations.options.sampled = sampled
    return alone + rest, alone


def run(options: argparse.Namespace, facts: dict[str, Any]) -> dict[str, Any]:
    """All turns in order, then the last one again without its history."""
    conversations = Conversations(options, facts)
    turns: dict[int, dict[str, float]] = {}
    for turn in range(1, options.turns + 2):
        if turn > 1:
            conversations.hear()
        turns[turn] = conversations.say(turn)
        if turn in (EARLY, 16, 32, options.turns):
            say(f"turn {turn}: {turns[turn]['all']:.2f} s, {len(conversations.talks[0].tokens)} tokens")
    early = medians([turns[turn] for turn in range(EARLY, EARLY + 3)])
    late = medians([turns[turn] for turn in range(options.turns - 1, options.turns + 2)])
    tokens = len(conversations.talks[0].tokens)
    cache = conversations.talks[0].history.bytes / 2**20
    again, alone = zip(*(_again(conversations, turn) for turn in range(options.repeats)), strict=True)
    generate = generated(options, facts, [talk.tokens[: tokens - options.sampled] for talk in conversations.talks])
    say(f"transformers' generate: {generate:.2f} s")
    return {
        "turn_ratio": late["all"] / early["all"],
        "ratio": min(again) / late["all"],
        "ratio_generate": generate / late["all"],
        "ratio_per_token": options.sampled * min(alone) / late["all"],
        f"seconds_turn_{EARLY}": early["all"],
        f"seconds_turn_{options.turns}": late["all"],
        "seconds_reencoding": min(again),
        "seconds_history_alone": min(alone),
        "seconds_generate": generate,
        "parts_early": rounded(early),
        "parts_late": rounded(late),
        "tokens_late": tokens,
        "tokens_per_second": options.batch * options.sampled / late["all"],
        "cache_mb_per_conversation": cache,
    }


def generated(options: argparse.Namespace, facts: dict[str, Any], prompts: list[tuple[int, ...]]) -> float:
    """Seconds that PEFT and transformers' own `generate` take for the same turn, the history in the prompt."""
    plain = Plain(options.model, facts["dtype"], layers="all", rank=8, alpha=16.0, batch=options.batch)
    ids = torch.tensor(prompts)
    start = time.perf_counter()
    out = plain.model.eval().generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        do_sample=True,
        top_k=0,
        min_new_tokens=options.sampled,
        max_new_tokens=options.sampled,
        pad_token_id=plain.tokenizer.pad_token_id,
    )
    assert out.shape[1] == ids.shape[1] + options.sampled
    return time.perf_counter() - start


def _again(conversations: Conversations, turn: int) -> tuple[float, float]:
    conversations.hear()
    figures = fresh(conversations, turn)
    say(f"without the history: {figures[0]:.2f} s, of which {figures[1]:.2f} s to encode it")
    return figures


HOW = (
    "turn_ratio: a late turn over an early one, keys and values of the whole conversation kept; ratio: the same late turn "
    "when its whole history is encoded again once and then decoded with a cache, over the kept one; ratio_per_token: "
    "when it is encoded again for every sampled token (extrapolated from one), as without any cache; ratio_generate: when "
    "PEFT and transformers' generate are given the history as a prompt, equal lengths, no padding. A turn hears and samples "
    "so many tokens in each conversation of the batch; lengths are forced"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m", help="base model, as in a config")
    parser.add_argument("--threads", default="auto", help="auto leaves busy cores alone")
    parser.add_argument("--batch", type=int, default=8, help="conversations")
    parser.add_argument("--heard", type=int, default=16, help="tokens heard each turn")
    parser.add_argument("--sampled", type=int, default=16, help="tokens sampled each turn")
    parser.add_argument("--turns", type=int, default=LATE, help="the late turn")
    parser.add_argument("--repeats", type=int, default=3, help="times the history is encoded again")
    parser.add_argument("--quick", action="store_true", help="few turns, to see that it runs; the figures mean nothing")
    options = parser.parse_args()
    if options.quick:
        options.turns, options.repeats, options.sampled = 8, 1, 4
    began = time.perf_counter()
    facts = settle(options.threads)
    say(f"{facts['threads']} threads, {facts['dtype']}, load {facts['load_before']}")
    torch.set_num_threads(facts["threads"])
    result = {
        "benchmark": "turn_cost",
        **run(options, facts),
        **{key: getattr(options, key) for key in ("batch", "heard", "sampled", "turns", "quick")},
        **facts,
        "peak_rss_gb": peak_rss_gb(),
        "load_after": [round(value, 2) for value in os.getloadavg()],
        "seconds": time.perf_counter() - began,
        "how": HOW,
    }
    emit(rounded(result))


if __name__ == "__main__":
    main()
