"""What the pages in `docs/` repeat from the program, made from the program. `python tests/docs/make.py` writes it anew.

A page holds such a part between `<!-- made: NAME -->` and `<!-- end -->`; `test_pages.py` compares.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer

from ludora.cli.main import app
from ludora.config import CONFIGS, _allowed, presets
from ludora.data.questions import STYLES
from ludora.data.sources import SOURCES
from ludora.envs.catalogue import BLOCK, CATALOGUE, decode
from ludora.evolve.settings import EvolveConfig
from ludora.fields import shown
from ludora.players.build import PLAYERS
from ludora.settings import ModelSettings, PPOConfig, RunSettings, SFTConfig, TrainSettings

DOCS = Path(__file__).parents[2] / "docs"
PART = re.compile(r"(<!-- made: ([a-z ]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def rows(*lines: tuple[str, ...]) -> str:
    """A Markdown table; the first line is its head."""
    head, *body = ("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)
    return "\n".join([head, "|---" * len(lines[0]) + "|", *body]) + "\n"


# ---- configuration -------------------------------------------------------------------------------------------------


def keys(part: Any, less: Any = None) -> str:
    """Every key that a part of the configs declares (`less` has the same for the others): what it may be, default,
    meaning.
    """
    configs = [config for config in CONFIGS.values() if issubclass(config, part)]
    lines = []
    for key, field in part.model_fields.items():
        if less and key in less.model_fields and _says(field) == _says(less.model_fields[key]):
            continue
        default = _shown(field.default) if field.default not in ("", (), {}) else "empty"
        pattern = any(getattr(m, "pattern", None) for m in field.metadata)
        allowed = "text" if pattern else _allowed(field.annotation, field.metadata)
        meaning = re.sub(r" \((act|baseline) = \w+\)", "", field.description or "")  # said again from NEEDS
        notes = [meaning, *_needs(key, configs), "an adapter brings its own" if key in part.BROUGHT else None]
        fixing = [config.KIND for config in configs if key in config.FIXED]
        only = "" if len(fixing) == len(configs) else f" of {' and '.join(fixing)}"
        fixed = f"fixed for `--resume`{only}" if fixing else None
        lines.append((f"`{key}`", allowed, default, "; ".join(filter(None, [*notes, fixed]))))
    return rows(("key", "may be", "default", "meaning"), *lines)


def _shown(value: Any) -> str:
    return ", ".join(map(shown, value)) if isinstance(value, tuple) else shown(value)


def _says(field: Any) -> tuple[Any, ...]:
    return field.annotation, field.default, field.description


def _needs(key: str, configs: list[Any]) -> list[str]:
    """What a key only means something beside, in all of these configs."""
    return [
        f"only with {other} {'above 0' if wanted is True else '= ' + ' or '.join(wanted)}"
        for needing, other, wanted in configs[0].NEEDS
        if needing == key and all((key, other, wanted) in config.NEEDS for config in configs)
    ]


def list_presets() -> str:
    return rows(("preset", "what it is"), *((f"`{name}`", text) for name, (_, _, text) in presets().items()))


# ---- tasks and players ---------------------------------------------------------------------------------------------


def catalogue() -> str:
    """The numbered games, and how many different variants the config numbers of each give."""
    lines = []
    for index in range(len(CATALOGUE)):
        variants = list(dict.fromkeys(str(decode(index * BLOCK + config)) for config in range(100)))
        lines.append((str(index), f"`{index * BLOCK}`", f"`{variants[0]}`", str(len(variants))))
    return rows(("index", "first task id", "the game it is", "variants"), *lines)


def list_players() -> str:
    return rows(("player", "what it is"), *((f"`{name}`", text) for name, text in PLAYERS.items()))


def list_datasets() -> str:
    lines = ((f"`{name}`", text, needs or "nothing") for name, (text, needs) in SOURCES.items())
    return rows(("data set", "what it is", "needs"), *lines)


def list_styles() -> str:
    """What a model is told before the questions of each style."""
    return rows(("style", "the instruction"), *((f"`{name}`", text or "none") for name, text in STYLES.items()))


# ---- commands ------------------------------------------------------------------------------------------------------


def commands() -> Iterator[tuple[str, Any]]:
    """Every command that does something, with the words that call it."""

    def walk(words: str, command: Any) -> Iterator[tuple[str, Any]]:
        inner = getattr(command, "commands", None)
        if inner is None:
            yield words, command
        for name, child in (inner or {}).items():
            yield from walk(f"{words} {name}", child)

    yield from walk("ludora", typer.main.get_command(app))


def command_pages() -> str:
    """What `--help` says, command by command."""
    parts = []
    for words, command in commands():
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        options = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
        usage = [words, *(f"[{_name(p)}]" if not p.required else _name(p) for p in arguments)]
        usage += ["[OPTIONS]"] if options else []
        parts.append(f"## {words}\n\n```\n{' '.join(usage)}\n```\n\n{_flat(command.help)}\n")
        lines = [(f"`{_name(p)}`", "", _flat(p.help)) for p in arguments]
        lines += [(f"`{_name(p)}`", _default(p), _flat(p.help)) for p in options]
        parts.append(rows(("argument or option", "default", "meaning"), *lines) if lines else "")
    return "\n".join(filter(None, parts))


def _name(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return (parameter.metavar or parameter.name.upper()) + (" ..." if parameter.nargs == -1 else "")
    kinds = {int: "N", float: "NUMBER", str: "TEXT", list[str]: "TEXT"}
    value = parameter.metavar or ("" if parameter.is_flag else kinds[parameter.type_descriptor.annotation])
    return f"{'/'.join(parameter.opts)} {value}".strip()


def _default(parameter: Any) -> str:
    return "" if parameter.is_flag or parameter.default is None else str(parameter.default)


def _flat(text: str | None) -> str:
    return " ".join((text or "").split())


# ---- pages ---------------------------------------------------------------------------------------------------------

PARTS: dict[str, Callable[[], str]] = {
    "model keys": lambda: keys(ModelSettings),
    "run keys": lambda: keys(RunSettings, ModelSettings),
    "train keys": lambda: keys(TrainSettings, RunSettings),
    "ppo keys": lambda: keys(PPOConfig, TrainSettings),
    "sft keys": lambda: keys(SFTConfig, TrainSettings),
    "evolve keys": lambda: keys(EvolveConfig, RunSettings),
    "presets": list_presets,
    "catalogue": catalogue,
    "players": list_players,
    "datasets": list_datasets,
    "styles": list_styles,
    "commands": command_pages,
}


def made(page: str) -> str:
    """A page with all its made parts as they should be."""
    return PART.sub(lambda part: part[1] + PARTS[part[2]]() + part[4], page)


if __name__ == "__main__":
    for path in sorted(DOCS.glob("*.md")):
        path.write_text(made(path.read_text(encoding="utf-8")), encoding="utf-8")
