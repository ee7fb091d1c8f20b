"""The questions of `ludora config new`: at a terminal, or from lines that are piped in."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TextIO

from ludora.cli.common import say
from ludora.cli.train import check_usable
from ludora.errors import InputError, LudoraError, nearest

# how much memory there is -> the keys that fit it
MEMORY: Mapping[str, Mapping[str, Any]] = {
    "plenty": {},
    "little": {"accumulation": 4, "gradient_checkpointing": True},
    "least": {"accumulation": 8, "gradient_checkpointing": True, "quantize": "4bit", "lora": "memory"},
}


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, what counts if nothing is answered, and the keys that an answer comes to."""

    text: str
    default: str
    keys: Callable[[str], Mapping[str, Any]]


def _several(answer: str) -> list[str] | str:
    """TASKs parted by semicolons: commas are within them."""
    parts = [part.strip() for part in answer.split(";") if part.strip()]
    return parts[0] if len(parts) == 1 else parts


def _tracking(answer: str) -> Mapping[str, Any]:
    return {} if answer == "none" else {"trackers": [name.strip() for name in answer.split(",")]}


def _number(answer: str) -> int | str:
    try:
        return int(answer)
    except ValueError:
        return answer  # refused by the config


def _memory(answer: str) -> Mapping[str, Any]:
    if answer not in MEMORY:
        raise InputError(f"memory = {answer!r} is not allowed: {', '.join(MEMORY)}", nearest(answer, MEMORY))
    return MEMORY[answer]


QUESTIONS = (
    Question("Model: smollm2-135m (built in), a hub id, or a folder", "smollm2-135m", lambda a: {"model": a}),
    Question(f"Memory: {', '.join(MEMORY)}", "plenty", _memory),
    Question("Games, parted by semicolons (ludora list games)", "leduc_poker", lambda a: {"task": _several(a)}),
    Question("Opponent: random, mcts:weak, self ... (ludora list players)", "random", lambda a: {"opponent": a}),
    Question("Steps at most", "1000", lambda a: {"updates": _number(a)}),
    Question("Tracking besides the run folder: none, tensorboard, wandb, trackio", "none", _tracking),
)


def ask(source: TextIO) -> dict[str, Any]:
    """The keys of a config, asked one after the other; an empty line, or none, is the default.

    A person is asked again until the answer can be used; piped answers must be right.

    Raises:
        LudoraError: a piped answer cannot be used.
    """
    person = source.isatty()
    values: dict[str, Any] = {}
    for question in QUESTIONS:
        for answer in _answers(question, source):
            try:
                found = values | dict(question.keys(answer or question.default))
                _check(found)
            except LudoraError as error:
                if not person:
                    raise
                say(f"{error.message}\n  {error.hint}")
            else:
                values = found
                break
    return values


def _answers(question: Question, source: TextIO) -> Iterator[str]:
    while True:
        sys.stderr.write(f"{question.text} [{question.default}]: ")
        sys.stderr.flush()
        line = source.readline()
        if not source.isatty():
            sys.stderr.write(f"{line.strip() or question.default}\n")
        yield line.strip()


def _check(values: Mapping[str, Any]) -> None:
    from ludora.config import PPOConfig, make

    check_usable(make(PPOConfig, values))


def as_toml(values: Mapping[str, Any]) -> str:
    """The keys as a config file."""
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    return "\n".join(["# Written by ludora config new", 'kind = "ppo"', *lines]) + "\n"
