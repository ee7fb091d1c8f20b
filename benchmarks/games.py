"""How long the numbered games are, what their prompts cost, and who can search them; see README.md beside this file.

Prints one line of JSON last. With --write it renews `docs/games.md` and the figures that `ludora list games` shows.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from support.machine import emit, median, say
from transformers import AutoTokenizer

from ludora.envs.build import make_env, task_spec
from ludora.envs.catalogue import BLOCK, CATALOGUE
from ludora.envs.check import check_env
from ludora.envs.figures import CONFIGS, FILE, Figures, further, page, search_players
from ludora.envs.openspiel_tree import why_not_exact
from ludora.models.builtin import builtin_folder
from ludora.models.chat import ChatFormat
from ludora.players.bots import RandomPlayer
from ludora.players.model import STEM, ask
from ludora.rng import stream
from ludora.types import Spec, Task

ROOT = Path(__file__).resolve().parent.parent


def game(spec: Spec, seed: int, chat: ChatFormat) -> tuple[int, list[int], int]:
    """Turns of all seats, prompt tokens of each, and the largest legal set of one game between uniform players."""
    env, tokens, legal, player = make_env(Task(spec, seed)), [], 0, RandomPlayer()
    while turns := env.turns():
        moves = {}
        for turn in turns:
            assert turn.legal
            tokens.append(len(chat.opening(ask(turn.messages, turn.legal, "letters"), STEM)))
            legal = max(legal, len(turn.legal))
            seeded = replace(turn, seed=stream("games", seed, len(tokens)))
            moves[turn.seat] = player.act([seeded])[0]
        env.apply(moves)
    return len(tokens), tokens, legal


def measure(index: int, games: int, chat: ChatFormat) -> Figures:
    """The figures of one numbered game: length and median prompt of config 0, the largest of all its variants."""
    lengths: list[int] = []
    tokens: list[int] = []
    most_tokens = most_legal = longest = 0
    specs = list(dict.fromkeys(task_spec(str(index * BLOCK + config).zfill(12)) for config in CONFIGS))
    for variant, spec in enumerate(specs):
        for seed in range(games if variant == 0 else max(1, games // 4)):
            length, read, legal = game(spec, seed, chat)
            if variant == 0:
                lengths.append(length)
                tokens += read
            longest = max(longest, length)
            most_tokens, most_legal = max(most_tokens, *read), max(most_legal, legal)
    return Figures(
        turns=round(median(lengths)),
        turns_max=longest,
        tokens=round(median(tokens)),
        tokens_max=most_tokens,
        legal_max=most_legal,
        exact=why_not_exact(specs[0]) is None,
        search=search_players(specs[0]),
        variants=len(specs),
    )


def checked(spec: Spec, games: int) -> str:
    """`ok`, or which promises are broken."""
    broken = [finding.name for finding in check_env(spec, games=games) if not finding.passed]
    return "ok" if not broken else "broken: " + ", ".join(broken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--games", type=int, default=20, help="games of config 0; a quarter of it for each other variant"
    )
    parser.add_argument("--check", type=int, default=2, help="games of the conformance check per variant; 0: no check")
    parser.add_argument("--quick", action="store_true", help="one game each, to see that it runs")
    parser.add_argument("--write", action="store_true", help="renew docs/games.md and the figures in the package")
    options = parser.parse_args()
    if options.quick:
        options.games, options.check = 1, min(options.check, 1)
    if options.quick and options.write:
        parser.error("figures of one game are not worth writing")
    began = time.perf_counter()
    tokenizer: Any = AutoTokenizer.from_pretrained(builtin_folder(say)[0])
    chat = ChatFormat(tokenizer)
    figures, checks = {}, {}
    for index, entry in enumerate(CATALOGUE):
        figures[entry.name] = measure(index, options.games, chat)
        specs = dict.fromkeys(task_spec(str(index * BLOCK + config).zfill(12)) for config in CONFIGS)
        checks |= {str(spec): checked(spec, options.check) for spec in specs if options.check}
        say(f"{entry.name}: {figures[entry.name]}")
    checks |= {text: checked(task_spec(text), options.check) for text in further() if options.check}
    say("; ".join(f"{text} {what}" for text, what in checks.items() if what != "ok") or "all checks passed")
    if options.write:
        rows = {name: asdict(f) for name, f in figures.items()}
        FILE.write_text(json.dumps({"figures": rows, "checked": checks}, indent=1) + "\n", encoding="utf-8")
        (ROOT / "docs" / "games.md").write_text(page(), encoding="utf-8")
    emit(
        {
            "benchmark": "games",
            "games": options.games,
            "checked": len(checks),
            "broken": sum(what != "ok" for what in checks.values()),
            "tokens_max": max(f.tokens_max for f in figures.values()),
            "legal_max": max(f.legal_max for f in figures.values()),
            "seconds": round(time.perf_counter() - began, 1),
            "quick": options.quick,
        }
    )


if __name__ == "__main__":
    main()
