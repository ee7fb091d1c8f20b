"""`ludora evolve`: start or resume an evolution of adapters."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ludora.cli.common import Overrides, Shown, prints, with_parameters
from ludora.cli.train import LATEST, Config, Resume, check_usable, started
from ludora.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from ludora.evolve.settings import EvolveConfig
    from ludora.runs.store import Run

PRESET = "evolve"
SIZES = ("generations", "population", "train_size", "eval_size")


def sized(command: Callable[..., Shown]) -> Callable[..., Shown]:
    """Give a command the options `--generations` ..., which are short for KEY=VALUE."""
    option = Annotated[int | None, typer.Option(help="Short for KEY=VALUE of that name.")]

    @functools.wraps(command)
    def run(**given: Any) -> Shown:
        sizes = [f"{key}={value}" for key in SIZES if (value := given.pop(key)) is not None]
        config, texts = given.pop("config"), list(given.pop("overrides") or ())
        if config and "=" in config:  # no CONFIG was given, so the first override took its place
            texts, config = [config, *texts], None
        return command(**given, config=config, overrides=texts + sizes)

    return with_parameters(run, command, dict.fromkeys(SIZES, (option, None)))


@prints
@sized
def evolve(
    config: Config = None,
    overrides: Overrides = None,
    resume: Resume = None,
    test: Annotated[
        bool, typer.Option("--pipeline-test", help="Everything once, on next to nothing: 3 variants, 2 generations.")
    ] = False,
    quick: Annotated[bool, typer.Option("--quick-test", help="Small but real: minutes instead of hours.")] = False,
    sequential: Annotated[bool, typer.Option("--sequential", help="One variant after another: pack=1.")] = False,
) -> Shown:
    """Evolve LoRA adapters and their settings (without CONFIG: the preset `evolve`). Ctrl-C saves; --resume goes on."""
    from ludora.evolve.settings import PIPELINE_TEST, QUICK_TEST, EvolveConfig

    if test and quick:
        raise InputError("--pipeline-test and --quick-test are two sizes of one thing", "give one of them")
    texts = [*(overrides or ()), *(["pack=1"] if sequential else [])]
    size = PIPELINE_TEST if test else QUICK_TEST if quick else None
    if not config and resume in (None, LATEST):
        config = PRESET
    with started(EvolveConfig, config, texts, resume, check_usable, size) as (settings, run, step):
        if step is not None:
            raise InputError(f"an evolution goes on from its last checkpoint, not from step {step}", "leave @STEP out")
        return _evolved(settings, run)


def _evolved(settings: EvolveConfig, run: Run) -> Shown:
    from ludora.evolve.search import SHOWN
    from ludora.evolve.search import evolve as search
    from ludora.runs.log import RunLog
    from ludora.runs.signals import graceful

    with RunLog(run, settings.trackers, updates=settings.generations, shown=SHOWN, unit="Generation") as log:
        log.say(f"run {run.path}")
        with graceful(log.say) as stopper:
            summary = search(settings, run, log, stop=lambda: stopper.stop)
    interrupted = summary["ended"] == "interrupted"
    return Shown(summary, lambda console: _show(summary, console), 128 + (stopper.signal or 2) if interrupted else 0)


def _show(summary: dict[str, Any], console: Console) -> None:
    for key, value in summary.items():
        if value not in (None, {}, []):
            console.print(f"{key}: {value}", markup=False, highlight=False, soft_wrap=True)
    if summary["ended"] == "interrupted":
        console.print(f"go on with: ludora evolve --resume {summary['run']}", markup=False, soft_wrap=True)
