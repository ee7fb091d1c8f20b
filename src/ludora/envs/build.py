"""From TASK strings to environments. One literal table; every name that is not in it is an OpenSpiel game."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from typing import cast

from ludora.envs.base import Env
from ludora.envs.catalogue import decode
from ludora.errors import InputError
from ludora.grammar import parse
from ludora.types import Spec, Task

# name -> (module, class, what it is, of what kind as in `figures.kind`, a PLAYER that can play it). Imported only when
# asked for, so that no third party is loaded for another's sake. The module also has `canonical(spec)`, which checks a
# spec's options and writes equal ones alike.
_ENVIRONMENTS: dict[str, tuple[str, str, str, str, str]] = {
    "snake": ("ludora.envs.snake", "SnakeEnv", "Snake on an n x n board", "chance, alone", "random"),
    "shell": (
        "ludora.envs.shell.env",
        "ShellEnv",
        "tasks in a real shell, in a sandbox",
        "free text, alone",
        "reference",
    ),
    "openenv": ("ludora.envs.remote", "RemoteEnv", "an OpenEnv server, by its address", "text, alone", "random"),
}
_DEFAULT = ("ludora.envs.openspiel", "OpenSpielEnv")


def make_env(task: Task) -> Env:
    """Build the single-use environment of a task.

    Raises:
        InputError: the environment or one of its parameters is unknown or refused.
    """
    module, name = _ENVIRONMENTS.get(task.env.name, _DEFAULT)[:2]
    return cast(Env, getattr(import_module(module), name)(task))


def own_games() -> dict[str, tuple[str, str, int]]:
    """The environments that are not OpenSpiel's: what each is, of what kind, and how many seats it has."""
    return {
        name: (text, kind, getattr(import_module(module), class_name).num_seats)
        for name, (module, class_name, text, kind, _) in _ENVIRONMENTS.items()
    }


def able_player(spec: Spec) -> str:
    """A PLAYER without a model that can play a game."""
    return _ENVIRONMENTS[spec.name][4] if spec.name in _ENVIRONMENTS else "random"


def task_spec(text: str) -> Spec:
    """Read and check a TASK string; equal games give equal specs.

    A bare number is a task id (see `catalogue`), plain or padded with zeros - except `2048`, which is a game;
    the id 2048 is written `000000002048`. `wrap(ID)` takes ids past the catalogue, too.

    Raises:
        InputError: not a task: bad grammar, unknown name or parameter, or an id out of range.
    """
    if text.strip().lstrip("+-").isdigit() and not text.strip().isdigit():
        raise InputError(f"task id {text.strip()} is out of range", "ids are plain digits, for example 200000000")
    spec = parse(text)
    if spec.name.isdigit() and spec.name != "2048":
        if spec != Spec(spec.name):
            raise InputError(f"a task id takes no parameters: {text!r}", f"write {spec.name} alone, or a game's name")
        spec = decode(int(spec.name.lstrip("0")[:20] or "0"))  # Python reads no numbers of thousands of digits
    elif spec.name == "wrap":
        spec = decode(_wrapped(spec), wrap=True)
    if not is_openspiel(spec):
        return cast(Spec, import_module(_ENVIRONMENTS[spec.name][0]).canonical(spec))
    from ludora.envs.openspiel_games import canonical  # loads the engine, so only here

    return canonical(spec)


def _wrapped(spec: Spec) -> int:
    """The id in `wrap(ID)`."""
    wanted = spec.args[0] if len(spec.args) == 1 and not spec.params and not spec.variant else None
    if type(wanted) is not int or wanted < 0:
        raise InputError(f"{spec} does not name one task id", "for example wrap(2200000000)")
    return wanted


def singles(spec: Spec) -> tuple[Spec, ...]:
    """The tasks that a spec stands for, where there is an end of them: a task file's; else none."""
    if is_openspiel(spec):
        return ()
    listed = getattr(import_module(_ENVIRONMENTS[spec.name][0]), "singles", None)
    return cast("tuple[Spec, ...]", listed(spec)) if listed else ()


def setting(spec: Spec) -> dict[str, str]:
    """What results on a task depend on beside the task, for their record: of a shell, what its sandboxes start from."""
    if is_openspiel(spec):
        return {}
    told = getattr(import_module(_ENVIRONMENTS[spec.name][0]), "setting", None)
    return dict(told(spec)) if told else {}


def is_openspiel(spec: Spec) -> bool:
    """Whether the spec names an OpenSpiel game, known or not."""
    return spec.name not in _ENVIRONMENTS


@lru_cache(maxsize=1024)
def num_players(spec: Spec) -> int:
    """How many seats the games of a spec have."""
    return make_env(Task(spec)).num_seats
