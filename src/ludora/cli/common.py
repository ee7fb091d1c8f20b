"""What all commands share: results on stdout, talk on stderr, `--json`, and the options that describe a model."""

from __future__ import annotations

import functools
import inspect
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

DEFAULT_RUNS = "runs"
RunsDir = Annotated[str, typer.Option(help="Folder that holds the run folders.")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Values over those of CONFIG.")]


@dataclass(frozen=True)
class Shown:
    """What a command found: an object for `--json`, how to print it for people, and what is done once it is printed."""

    data: Mapping[str, Any]
    show: Callable[[Console], None]
    exit_code: int = 0
    then: Callable[[], None] = lambda: None


def say(text: str) -> None:
    """One line of talk, on stderr."""
    sys.stderr.write(f"{text}\n")


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """What to call after each of `total` games, tasks ...; on a terminal it moves a bar with the time left."""
    if not (total and sys.stderr.isatty()):
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

    columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


def prints(command: Callable[..., Shown]) -> Callable[..., None]:
    """Make a command of a function that returns what to print; adds `--json`."""
    option = Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else, on stdout.")]

    @functools.wraps(command)
    def run(**options: Any) -> None:
        as_json = options.pop("as_json")
        with redirect_stdout(sys.stderr):  # whatever a library prints is talk
            found = command(**options)
        if as_json:
            sys.stdout.write(json.dumps(found.data, allow_nan=False) + "\n")
        else:
            from rich.console import Console

            found.show(Console())
        found.then()
        if found.exit_code:
            raise typer.Exit(found.exit_code)

    return with_parameters(run, command, {"as_json": (option, False)})


# The fields of ModelSettings that concern a model that plays, and what `--help` says about them. Kept here so that
# `ludora --help` reads no config code; a test compares the two.
_TEXT = {
    "model": "smollm2-135m (built in), a hub id, or a local folder.",
    "dtype": "auto, bf16, fp32 or fp16.",
    "device": "auto, cpu, cuda or cuda:N.",
    "threads": "auto, or a number of CPU threads.",
    "quantize": "none, 8bit or 4bit.",
    "act": "choose among the legal actions, or say one in free text.",
    "labels": "Legal actions as letters, names or ids.",
    "temperature": "Sampling temperature.",
    "top_p": "Nucleus sampling, with --act say.",
    "max_new_tokens": "Tokens of one answer at most, with --act say.",
    "retries": "Further answers asked for when none could be read, with --act say.",
}
_FLAGS = {
    "history": "Keep the whole conversation of a game, with --act say.",
    "reasoning": "Ask for reasoning before the move, with --act say.",
    "trust_remote_code": "Run Python code that comes with the model.",
}
MODEL_OPTIONS = {**_TEXT, **_FLAGS}


def model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command with a `settings` parameter the options `--model`, `--dtype` ... in its place."""
    panel = "The language model"
    options: dict[str, tuple[Any, Any]] = {
        name: (Annotated[str | None, typer.Option(help=text, rich_help_panel=panel)], None)
        for name, text in _TEXT.items()
    }
    for name, text in _FLAGS.items():
        flag = f"--{name.replace('_', '-')}"
        options[name] = (Annotated[bool, typer.Option(flag, help=text, rich_help_panel=panel)], False)

    @functools.wraps(command)
    def run(**given: Any) -> Any:
        from ludora.config import ModelSettings, make, parse_overrides

        chosen = {name: given.pop(name) for name in options}
        texts = [f"{name}={value}" for name, value in chosen.items() if value not in (None, False)]
        return command(**given, settings=make(ModelSettings, parse_overrides(ModelSettings, texts), typed=chosen))

    return with_parameters(run, command, options)


def with_parameters(
    run: Callable[..., Any], command: Callable[..., Any], added: Mapping[str, tuple[Any, Any]]
) -> Callable[..., Any]:
    """Tell typer, which reads signatures, that `run` takes what `command` takes, and `added`.

    A parameter of `command` annotated `Any` is made by what wraps it, so it is no option.
    """
    signature = inspect.signature(command, eval_str=True)
    kept = [p.replace(kind=p.KEYWORD_ONLY) for p in signature.parameters.values() if p.annotation is not Any]
    kept += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in added.items()
    ]
    run.__signature__ = signature.replace(parameters=kept, return_annotation=None)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in kept}
    del run.__wrapped__  # type: ignore[attr-defined]
    return run


def table(title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Callable[[Console], None]:
    """How to print a plain table; cells are text, never markup."""

    def show(console: Console) -> None:
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        made = Table(title=title or None, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
        for i, column in enumerate(columns):
            made.add_column(column, overflow="fold", no_wrap=i == 0)
        for row in rows:
            made.add_row(*(Text(cell) for cell in row))
        console.print(made)

    return show
