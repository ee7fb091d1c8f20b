"""Data sets by name: `dataset(gsm8k)`, `dataset(arithmetic(level=2))`, `dataset(my.jsonl)`; three disjoint splits each.

A named or generated one may also be called by its name alone, `gsm8k`. What cannot be loaded is an error that says what
to do; nothing stands in for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from ludora.data.questions import STYLES, Question, Sizes, Splits, key_of
from ludora.errors import InputError, nearest
from ludora.grammar import parse
from ludora.players import bots
from ludora.rng import stream
from ludora.types import Spec

if TYPE_CHECKING:
    from ludora.data.generated import Made
    from ludora.data.hub import Pool

# name -> (what it is, what it needs)
_HUB = "pip install 'ludora[datasets]'; path=FOLDER takes a copy"
SOURCES: Mapping[str, tuple[str, str]] = {
    "arithmetic": ("sums with worked answers; (operations=add+sub+mul+div, level=1 to 5)", ""),
    "snake-moves": ("positions of Snake, an expert's move; options of snake, and expert=", ""),
    "positions": ("positions of a game, an expert's move: positions(leduc_poker, expert=nash)", ""),
    "reasoning-gym": (
        "a task of reasoning-gym: reasoning-gym(chain_sum, max_terms=3)",
        "pip install 'ludora[reasoning-gym]'",
    ),
    "gsm8k": ("grade-school mathematics, worked answers", _HUB),
    "mmlu-pro": ("multiple choice, up to 10 options, 14 subjects", _HUB),
    "squad": ("questions about paragraphs, answered in their words", _HUB),
    "alpaca": ("instructions with answers, written by a model", _HUB),
    "dolly": ("instructions with answers, written by people", _HUB),
}
FILES = "questions of a JSON or JSONL file: dataset(FILE.jsonl, style=final, search_share=0.2, test_share=0.2)"
_MADE = ("arithmetic", "snake-moves", "positions", "reasoning-gym")  # by functions of these names in `generated`
_PATIENCE = 2000  # candidates in a row that bring nothing new: then there is nothing more
_SHARES = {"search_share": float, "test_share": float}
_SHARE = 0.2  # of the questions of a pool, to select by; and as many for the test where it has no test split


def is_dataset(text: str) -> bool:
    """Whether a TASK string names a data set, known or not."""
    try:
        name = parse(text).name
    except InputError:
        return False  # what it is instead, whoever reads games will say
    return name == "dataset" or name in SOURCES


def source_spec(text: str) -> Spec:
    """The checked spec of a data set, `dataset(...)`. Nothing is loaded.

    Raises:
        InputError: bad grammar, or there is no such data set.
    """
    spec = parse(text)
    if spec.name in SOURCES:
        spec = Spec("dataset", "", (_plain(spec),))
    if spec.name != "dataset" or len(spec.args) != 1 or spec.variant:
        raise InputError(f"{text!r} names no data set", "for example dataset(gsm8k); see: ludora list datasets")
    inner = spec.args[0]
    name = inner.name if isinstance(inner, Spec) else str(inner)
    if name in SOURCES:
        if spec.params:
            raise InputError(f"{text!r}: options belong to {name}", f"write dataset({name}(key=value))")
    elif isinstance(inner, Spec) or not _is_file(name):
        raise InputError(f"there is no data set {name!r}", nearest(name, SOURCES))
    return spec


def _plain(spec: Spec) -> Spec | str:
    """As the grammar reads it within another spec."""
    return spec if spec.args or spec.params or spec.variant else spec.name


def _is_file(name: str) -> bool:
    return name.endswith((".json", ".jsonl")) or "/" in name


def load(source: str, sizes: Sizes, seed: int = 0) -> Splits:
    """A data set, as many questions of each split as are wanted.

    The same seed gives the same splits whatever the sizes: a question of one never stands in another. A question that
    comes up twice is left out, and so is a row of a named data set whose question or answer is empty.

    Raises:
        InputError: there is no such data set, it cannot be loaded, or it has too few questions.
        MissingExtra: a package is needed.
    """
    spec = source_spec(source)
    if min(sizes) < 0 or not any(sizes):
        raise InputError(f"sizes of {', '.join(map(str, sizes))} make no data set", "at least one must be above 0")
    from ludora.data import generated, hub  # games' engines and the hub's client, for those who load

    inner = spec.args[0] if isinstance(spec.args[0], Spec) else Spec(str(spec.args[0]))
    if inner.name in _MADE:
        make: Callable[[Spec, int], generated.Made] = getattr(generated, inner.name.replace("-", "_"))
        return _from_made(spec, make(inner, seed), sizes)
    if inner.name in hub.NAMED:
        options = bots.read_options(inner, {"path": str, **_SHARES}, "data set")
        pool = hub.named(inner.name, options.get("path", ""))
        if pool.test and "test_share" in options:
            raise InputError(f"{inner.name} has a test split of its own: test_share has no effect", "leave it out")
    else:
        options = bots.read_options(Spec(inner.name, "", (), spec.params), {"style": str, **_SHARES}, "data set")
        pool = hub.local(inner.name, options.get("style", ""))
    shares = options.get("search_share", _SHARE), options.get("test_share", _SHARE)
    if min(shares) < 0 or sum(shares) > 1:
        raise InputError(f"{source}: the shares must be at least 0 and at most 1 together", "for example 0.2")
    return _from_pool(spec, pool, sizes, seed, shares)


@dataclass(slots=True)
class _Sieve:
    """Lets every question through once."""

    known: set[str] = field(default_factory=set)
    duplicates: int = 0

    def __call__(self, questions: Iterable[Question], patience: float = float("inf")) -> Iterator[Question]:
        repeated = 0
        for question in questions:
            if (key := key_of(question)) in self.known:
                self.duplicates += 1
                repeated += 1
                if repeated >= patience:
                    return
                continue
            repeated = 0
            self.known.add(key)
            yield question


def _from_made(spec: Spec, made: Made, sizes: Sizes) -> Splits:
    """Question by question until there are enough, or nothing new comes."""
    sieve = _Sieve()
    parts = {
        split: tuple(islice(sieve(made.candidates(split), _PATIENCE), size)) if size else ()
        for split, size in sizes._asdict().items()
    }
    for split, size in sizes._asdict().items():
        _check_enough(spec, split, size, len(parts[split]))
    found = (parts["train"], parts["search"], parts["test"])
    return Splits(str(spec), made.style, made.instruction, *found, sieve.duplicates, made.judge)


def _from_pool(spec: Spec, pool: Pool, sizes: Sizes, seed: int, shares: tuple[float, float]) -> Splits:
    """The pool in a random order of its own, cut into blocks whose size hangs on the pool alone.

    Which questions the test block holds hangs on no seed: what one seed learns, no other seed asks.
    """
    sieve = _Sieve()
    own_test = _shuffled(sieve(pool.test), seed)  # first: what stands in it is learnt by nobody
    there = sorted(sieve(pool.rest), key=lambda q: (stream("test", key_of(q)), q.id))
    search_count = round(len(there) * shares[0])
    test_count = 0 if pool.test else round(len(there) * shares[1])
    rest = _shuffled(there[test_count:], seed)
    blocks = {
        "train": rest[search_count:],
        "search": rest[:search_count],
        "test": own_test or _shuffled(there[:test_count], seed),
    }
    for split, size in sizes._asdict().items():
        _check_enough(spec, split, size, len(blocks[split]))
    train, search, test = (tuple(blocks[split][:size]) for split, size in sizes._asdict().items())
    return Splits(str(spec), pool.style, STYLES[pool.style], train, search, test, sieve.duplicates, empty=pool.empty)


def _shuffled(questions: Iterable[Question], seed: int) -> list[Question]:
    """In an order that hangs on the questions and the seed, not on how a file is sorted."""
    return sorted(questions, key=lambda q: (stream("split", seed, key_of(q)), q.id))


def _check_enough(spec: Spec, split: str, wanted: int, there: int) -> None:
    if there < wanted:
        raise InputError(
            f"{spec} has {there} different questions for {split}, {wanted} are wanted",
            f"ask for {there} at most, or see the options of this data set" if there else "choose other options of it",
        )
