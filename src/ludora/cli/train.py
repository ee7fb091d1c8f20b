"""`ludora train`: start or resume a training run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast

import typer

from ludora.cli.common import DEFAULT_RUNS, Overrides, Shown, prints, say
from ludora.errors import ConfigError, InputError

if TYPE_CHECKING:
    from rich.console import Console

    from ludora.fields import Settings
    from ludora.runs.log import RunLog
    from ludora.runs.store import Run
    from ludora.settings import PPOConfig, RunSettings, SFTConfig

C = TypeVar("C", bound="RunSettings")
LATEST = "latest"
Config = Annotated[
    str | None,
    typer.Argument(
        metavar="CONFIG", help="A preset's name, a TOML, YAML or JSON file, or a folder with a config.toml."
    ),
]
Resume = Annotated[
    str | None,
    typer.Option(
        metavar="[RUN[@STEP]]",
        help="Go on with a run, by name or folder, from its last checkpoint or from STEP; "
        "without RUN: the latest one of CONFIG's name. Its own config counts, with KEY=VALUE over it.",
    ),
]
app = typer.Typer(help="Train an adapter.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Train an adapter."""


@app.command("ppo")
@prints
def ppo(config: Config = None, overrides: Overrides = None, resume: Resume = None) -> Shown:
    """Train by PPO against the opponents that CONFIG names. Ctrl-C saves and leaves; --resume goes on."""
    from ludora.config import PPOConfig

    with started(PPOConfig, config, list(overrides or ()), resume, check_usable) as found:
        return train_ppo(*found)


@app.command("sft")
@prints
def sft(config: Config = None, overrides: Overrides = None, resume: Resume = None) -> Shown:
    """Train by imitation on recorded games or conversations (data=FILE.jsonl). Ctrl-C saves; --resume goes on."""
    from ludora.config import SFTConfig

    with started(SFTConfig, config, list(overrides or ()), resume, check_usable) as found:
        return train_sft(*found)


def check_usable(settings: Settings) -> str:
    """The games of a config, in their canonical form, once all is known to be there that it names.

    Of sft, the task may be that of the data (empty) or `none`. Of evolution, it is a game or a data set.

    Raises:
        InputError: there is no such task, player, data set, file of examples, adapter, model or device, or none is
            named.
    """
    from ludora.data.lines import check_file
    from ludora.data.sources import source_spec
    from ludora.envs.build import task_spec
    from ludora.evolve.settings import EvolveConfig
    from ludora.fields import listed
    from ludora.learn.curriculum import stages
    from ludora.models.known import check_adapter, check_device, model_folder
    from ludora.players.build import check_opponents, check_player
    from ludora.settings import ModelSettings, PPOConfig, SFTConfig, TrainSettings

    if isinstance(settings, ModelSettings):
        check_device(settings.device)
        model_folder(settings.model)
    if isinstance(settings, TrainSettings):
        if settings.adapter:
            check_adapter(Path(settings.adapter))
        for player in settings.compare:
            check_player(player)
        for task in settings.evaluate_on:
            task_spec(task)
    if isinstance(settings, PPOConfig):
        for player in settings.opponents:  # also where every stage has its own
            check_player(player, training=True)
        found = stages(settings)
        check_opponents(found)
        return ", ".join(dict.fromkeys(source.game for stage in found for source in stage.games))
    if isinstance(settings, SFTConfig):
        if not settings.data or "" in listed(settings.data):
            raise ConfigError("data names no file to learn from", "data=games.jsonl, for example")
        check_player(settings.opponent)
        task = settings.task if settings.task in ("", "none") else str(task_spec(settings.task))
        for file in (*listed(settings.data), *filter(None, listed(settings.eval_data))):
            check_file(Path(file))
        return task
    if isinstance(settings, EvolveConfig):
        if not settings.game:
            return str(source_spec(settings.data))
        for player in (settings.teacher, settings.opponent):
            check_player(player)
        return str(task_spec(settings.game))
    return ""


def train_ppo(settings: PPOConfig, run: Run, step: int | None) -> Shown:
    """Train by PPO into an open run."""
    from ludora.learn.ppo import train
    from ludora.runs.log import RunLog

    with RunLog(run, settings.trackers, updates=settings.updates, minutes=settings.minutes) as log:
        return _trained("ppo", log, lambda stop: train(settings, run, log, step=step, stop=stop))


def train_sft(settings: SFTConfig, run: Run, step: int | None) -> Shown:
    """Train by imitation into an open run."""
    from ludora.learn.sft import SHOWN, train
    from ludora.runs.log import RunLog

    with RunLog(run, settings.trackers, minutes=settings.minutes, shown=SHOWN) as log:
        return _trained("sft", log, lambda stop: train(settings, run, log, step=step, stop=stop))


def _trained(kind: str, log: RunLog, train: Callable[[Callable[[], bool]], dict[str, Any]]) -> Shown:
    """Train, with Ctrl-C that saves; an interrupted run has exit code 130."""
    from ludora.runs.signals import graceful

    log.say(f"run {log.run.path}")
    with graceful(log.say) as stopper:
        summary = train(lambda: stopper.stop)
    interrupted = summary.get("ended") == "interrupted"
    code = 128 + (stopper.signal or 2) if interrupted else 0
    return Shown(summary, lambda console: _show(kind, summary, console), code)


def _show(kind: str, summary: dict[str, Any], console: Console) -> None:
    from ludora.evals.record import Evaluation
    from ludora.evals.tables import show

    if summary.get("evaluation"):
        show(Evaluation.from_json(summary["evaluation"]), console)
    for key, value in summary.items():
        if key != "evaluation" and value is not None:
            console.print(f"{key}: {value}", markup=False, highlight=False, soft_wrap=True)
    if summary.get("ended") == "interrupted":
        console.print(f"go on with: ludora train {kind} --resume {summary['run']}", markup=False, soft_wrap=True)


@contextmanager
def started(
    cls: type[C],
    config: str | None,
    overrides: list[str],
    resume: str | None,
    check: Callable[[C], object],
    size: Mapping[str, Any] | None = None,
) -> Iterator[tuple[C, Run, int | None]]:
    """A new run, or the one to resume, locked; its config; and the step asked for. `size` is that of a trial run.

    `check` may refuse a config before anything is written, and before a model is loaded. A new run that fails on its
    input later, before its first update is saved, leaves no folder behind.
    """
    from ludora.config import load_config
    from ludora.runs.files import remove_folder
    from ludora.runs.store import Run

    if config and "=" in config:  # no CONFIG was given, so the first override took its place
        overrides, config = [config, *overrides], None
    if resume:
        with _resumed(cls, config, overrides, resume, check, size) as found:
            yield found
        return
    if not config:
        raise InputError("a CONFIG is missing", "ludora list presets shows what there is")
    settings = load_config(cls, config, overrides, size)
    check(settings)
    settings = _written_out(settings)
    run = Run.create(settings.runs_dir, settings.name, settings.to_json())
    with run:
        try:
            yield settings, run, None
        except InputError:
            if not any(run.steps):  # the start alone, or not even that
                remove_folder(run.path)
                with suppress(OSError):  # where this was the first of all runs
                    run.path.parent.rmdir()
            raise


def _written_out(settings: C) -> C:
    """The settings with their `lora` recipe, which hangs on the model's size, as plain values."""
    from ludora.settings import TrainSettings

    if not isinstance(settings, TrainSettings) or settings.lora == "none":
        return settings
    from ludora.models.recipes import resolve  # loads torch

    return cast(C, resolve(settings, say))


@contextmanager
def _resumed(
    cls: type[C],
    config: str | None,
    overrides: list[str],
    resume: str,
    check: Callable[[C], object],
    size: Mapping[str, Any] | None,
) -> Iterator[tuple[C, Run, int | None]]:
    from ludora.config import load_config, parse_overrides
    from ludora.runs.listing import find_run, latest_run
    from ludora.runs.store import Run

    typed = parse_overrides(cls, overrides)
    named = load_config(cls, config, overrides, size) if config else None
    runs_dir = str(typed.get("runs_dir", named.runs_dir if named else DEFAULT_RUNS))
    if resume != LATEST:
        path, step = find_run(runs_dir, resume)
    elif named is not None:
        path, step = latest_run(runs_dir, named.name), None
    else:
        raise InputError("--resume needs a RUN or a CONFIG", "ludora runs list shows the runs there are")
    with Run.open(path) as run:
        saved = load_config(cls, str(path / "config.json"))
        fixed = {key: value for key, value in as_started(run, saved).items() if key not in typed}
        settings = load_config(cls, str(path / "config.json"), overrides, size)
        settings = settings.model_copy(update={**fixed, "runs_dir": saved.runs_dir})
        _refuse_changes(saved, settings)
        check(settings)
        if settings != saved:
            run.write_json("config.json", settings.to_json())
        try:
            yield settings, run, step
        except InputError:  # what could not be used must not stay behind
            run.write_json("config.json", saved.to_json())
            raise


def as_started(run: Run, saved: RunSettings) -> dict[str, Any]:
    """What `auto` came to when the run was started: chosen again, it could differ, and so would every later bit."""
    from ludora.fields import DTYPE_NAMES

    start = next((row for row in run.rows("events.jsonl") if row.get("event") == "start"), {})
    chosen = {**start, "dtype": DTYPE_NAMES.get(str(start.get("dtype")))}
    return {
        key: chosen[key]
        for key in ("dtype", "device", "threads")
        if getattr(saved, key, "") == "auto" and chosen.get(key)
    }


def _refuse_changes(saved: RunSettings, settings: RunSettings) -> None:
    """A checkpoint fits the model and adapter it was made with; what else is fixed, `FIXED` of the config says."""
    for key in sorted(settings.FIXED):
        before, now = getattr(saved, key), getattr(settings, key)
        if before != now:
            raise ConfigError(f"{key} = {now} cannot change on --resume: it was {before}", "start a new run for that")
