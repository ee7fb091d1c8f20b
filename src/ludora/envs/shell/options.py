"""What a TASK of the shell may set, and which entry a task means.

shell                                   built-in tasks, trained templates, values for training
shell(split=eval, level=1, act=line)    one-line tasks with values that training never sees
shell(template=chmod-mode, index=3)     one fixed task
shell(path=entries.json, index=17)      the entry "17" of a file
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from ludora.envs.sandbox.build import BACKENDS
from ludora.envs.shell.actions import ACTS
from ludora.envs.shell.entries import Entry, read_entries
from ludora.envs.shell.templates.all import TEMPLATES
from ludora.envs.shell.templates.base import HELD_OUT, SKILLS, SPLITS, TRAIN, Template
from ludora.errors import InputError, nearest
from ludora.rng import generator, stream
from ludora.types import Spec, Task

ALL = "all"
EVAL_SHARE = 5  # one entry of a file in so many is for evaluation


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a TASK.

    Attributes:
        path: a task file; empty: the built-in set.
        split: built-in: `train`, `eval` (the same templates, values that training never sees) or `held_out` (templates
            that training never sees, with such values). Of a file: `all`, or `train` and `eval`, a fifth by key.
        template: names of templates, joined by +.
        skill: names of skills, joined by +; an entry must take one of them.
        level: 1, 2 or 3; 0: all.
        index: built-in: the number of an instance. Of a file: the key of an entry. Empty: drawn by the task's seed.
        act: how commands are given: `act` (as the benchmark has it), `bash` (a code block) or `line`.
        rounds: answers at most.
        output: characters of one command's output that are shown.
        seconds: that one command may take.
        correct, incorrect, unknown: rewards.
        backend: of the sandbox: `namespaces`, or an engine, `docker` or `podman`.
        image: that such an engine runs.
    """

    path: str = ""
    split: str = ""
    template: str = ""
    skill: str = ""
    level: int = 0
    index: str = ""
    act: str = "act"
    rounds: int = 5
    output: int = 800
    seconds: float = 20.0
    correct: float = 1.0
    incorrect: float = -0.5
    unknown: float = 0.0
    backend: str = "namespaces"
    image: str = ""


_DEFAULTS = {f.name: f.default for f in fields(Options)}
_RANGES = {"level": (0, 3), "rounds": (1, 100), "output": (0, 1_000_000)}
_WORDS = {"act": ACTS, "split": ("", *SPLITS, ALL), "backend": BACKENDS}


@lru_cache(maxsize=1024)
def options_of(spec: Spec) -> Options:
    """The options of a TASK.

    Raises:
        InputError: one is unknown, of the wrong type, out of range, or without effect; or nothing is left to choose.
    """
    if spec.args or spec.variant:
        raise InputError(f"{str(spec)!r}: shell takes named options only", "for example shell(level=1, act=line)")
    found: dict[str, Any] = {}
    for key, value in spec.params:
        if key not in _DEFAULTS:
            raise InputError(f"shell has no option {key!r}", nearest(key, _DEFAULTS))
        found[key] = _checked(key, value)
    options = Options(**found)
    _check_source(options)
    return options


def _checked(key: str, value: Any) -> Any:
    """A value of the type and range of its option."""
    if key in _WORDS and value not in _WORDS[key]:
        words = ", ".join(word for word in _WORDS[key] if word)
        raise InputError(f"shell: {key}={value} is unknown", f"{key} is one of {words}")
    if key in _RANGES:
        low, high = _RANGES[key]
        if type(value) is not int or not low <= value <= high:
            raise InputError(f"shell: {key} is a whole number from {low} to {high}, not {value}", f"{key}={high}")
        return value
    if isinstance(_DEFAULTS[key], float):
        if type(value) not in (int, float) or not abs(value) <= 1e6 or (key == "seconds" and value <= 0):
            raise InputError(f"shell: {key}={value!r} is out of range", f"for example {key}={_DEFAULTS[key]:g}")
        return float(value)
    return str(value)  # `index=17` is the key "17"


def _check_source(options: Options) -> None:
    if bool(options.image) != (options.backend != "namespaces"):
        missing = f"backend={options.backend} needs an image" if not options.image else "image has no effect alone"
        raise InputError(f"shell: {missing}", "for example backend=docker, image=debian:stable-slim")
    if options.path:
        if options.template or options.level:
            key = "template" if options.template else "level"
            raise InputError(f"shell: the entries of a file have no {key}", f"leave {key} out, or leave path out")
        if options.split == HELD_OUT:
            raise InputError("shell: a file has no held_out entries", "split is all, train or eval")
    elif options.split == ALL:
        raise InputError("shell: split=all is for files", f"split is one of {', '.join(SPLITS)}")
    elif options.index and not _is_number(options.index):
        raise InputError(f"shell: index={options.index} is no number of an instance", "index=0 is the first")
    _known(options.template, TEMPLATES, "template")
    _known(options.skill, () if options.path else SKILLS, "skill")
    if not (entries_of(options) if options.path else templates_of(options)):
        raise InputError("shell: no task has all of these options", "leave skill, level, template or split out")


def _is_number(index: str) -> bool:
    """Whether it is one that can be counted to."""
    return index.isascii() and index.isdecimal() and len(index) <= 18


def _known(words: str, known: Any, what: str) -> None:
    for word in filter(None, words.split("+")):
        if known and word not in known:
            raise InputError(f"shell: there is no {what} {word!r}", nearest(word, known))


def templates_of(options: Options) -> tuple[Template, ...]:
    """The built-in templates to choose from. Naming one that is held out takes it in, except for training."""
    split = options.split or TRAIN
    names, skills = set(filter(None, options.template.split("+"))), set(filter(None, options.skill.split("+")))
    return tuple(
        template
        for template in TEMPLATES.values()
        if template.held_out == (split == HELD_OUT)
        and (not names or template.name in names)
        and (not skills or skills & set(template.skills.split()))
        and options.level in (0, template.level)
    )


def entries_of(options: Options) -> tuple[Entry, ...]:
    """The entries of the file to choose from."""
    skills = set(filter(None, options.skill.split("+")))
    entries = read_entries(Path(options.path))
    if options.index and options.index not in entries:
        raise InputError(f"{options.path} has no entry {options.index!r}", nearest(options.index, entries))
    return tuple(
        entry
        for key, entry in entries.items()
        if (not options.index or key == options.index)
        and (not skills or skills & set(entry.skills))
        and (options.split in ("", ALL) or (options.split == TRAIN) == bool(stream("shell file", key) % EVAL_SHARE))
    )


def entry_of(task: Task) -> Entry:
    """The entry that a task means: a function of the task alone.

    Raises:
        InputError: see `options_of`.
    """
    options = options_of(task.env)
    if options.path:
        entries = entries_of(options)
        return entries[stream("shell entry", task.seed) % len(entries)]
    templates = templates_of(options)
    if options.index:
        number = int(options.index)
        return instance(templates[number % len(templates)], options.split or TRAIN, number // len(templates))
    drawn = templates[stream("shell template", task.seed) % len(templates)]
    return instance(drawn, options.split or TRAIN, task.seed)


def instance(template: Template, split: str, number: int) -> Entry:
    """Instance `number` of a template in a split."""
    return template.instance(generator("shell", template.name, split, number), evaluation=split != TRAIN)


def singles(spec: Spec) -> tuple[Spec, ...]:
    """A spec for each entry of a task file, in its order; of built-in tasks there is no end: none.

    Raises:
        InputError: see `options_of`.
    """
    options = options_of(spec)
    if not options.path or options.index:
        return ()
    return tuple(canonical(Spec("shell", params=(*spec.params, ("index", entry.key)))) for entry in entries_of(options))


def canonical(spec: Spec) -> Spec:
    """The one spec of equal tasks: what is the default is left out.

    Raises:
        InputError: see `options_of`.
    """
    options = options_of(spec)
    default = ALL if options.path else TRAIN
    values = {key: getattr(options, key) for key in _DEFAULTS}
    if values["split"] == default:
        values["split"] = ""
    kept = {key: value for key, value in values.items() if value != _DEFAULTS[key]}
    if _is_number(options.index) and (not options.path or str(int(options.index)) == options.index):
        kept["index"] = int(options.index)  # as it is read: a number; the key 007 of a file is none
    return Spec("shell", params=tuple(sorted(kept.items())))
