"""`ludora evaluate`: any player against any player, or on a data set."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ludora.cli.common import Shown, model_options, prints, progress, say, with_parameters
from ludora.errors import InputError

if TYPE_CHECKING:
    from ludora.settings import ModelSettings

Player = Annotated[
    str, typer.Argument(metavar="PLAYER", help="PLAYER to measure: random, mcts, nash, base, adapter(FOLDER) ...")
]
Tasks = Annotated[
    list[str],
    typer.Argument(
        metavar="TASK", help="One or more: leduc_poker, hex(board_size=5), 200000042 ...; or dataset(gsm8k) alone."
    ),
]
_PANEL = "Data sets"
_METRIC = "What counts as right on a data set: flexible, strict, choice (the likeliest option) or fuzzy (legacy)."
_OUT = "Folder for evaluation.json, report.md and report.html of a data set."
# option -> (its declaration, its default): those that only concern data sets
_ASKING: dict[str, tuple[Any, Any]] = {
    "metric": (Annotated[str, typer.Option(help=_METRIC, rich_help_panel=_PANEL)], ""),
    "answer_tokens": (Annotated[int, typer.Option(help="Tokens of one answer at most.", rich_help_panel=_PANEL)], 256),
    "out": (Annotated[str, typer.Option(help=_OUT, rich_help_panel=_PANEL)], ""),
}


def _data_set_options(command: Callable[..., Shown]) -> Callable[..., Shown]:
    """Give a command these options; its `how` is the settings of the model, and the options by name."""

    @wraps(command)
    def run(**given: Any) -> Shown:
        asking = {name: given.pop(name) for name in _ASKING}
        return command(how=(given.pop("settings"), asking), **given)

    return with_parameters(run, command, _ASKING)


@prints
@model_options
@_data_set_options
def evaluate(
    player: Player,
    tasks: Tasks,
    against: Annotated[str | None, typer.Option(help="PLAYER of the other seats; else random.")] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PLAYER", help="Compare with it on the same deals, by a paired test; as often as you like."
        ),
    ] = None,
    games: Annotated[
        int, typer.Option(help="Games per player, all seats equally often (0 only with --exact), or questions.")
    ] = 200,
    seed: Annotated[int, typer.Option(help="Seed of the deals, or of a data set's splits.")] = 0,
    exact: Annotated[bool, typer.Option("--exact", help="Add exact values where the game is small enough.")] = False,
    how: Any = None,
) -> Shown:
    """Measure a player: games won and mean return with intervals, exact where the game is small; or its answers to a
    data set, with a paired test against another.
    """
    from ludora.data.sources import is_dataset
    from ludora.envs.build import task_spec
    from ludora.players.build import build_player, check_models, check_player, innermost

    settings, asking = how
    if data := [task for task in tasks if is_dataset(task)]:
        for name, given in (("against", against is not None), ("exact", exact)):
            if given:
                raise InputError(f"{data[0]} is a data set: --{name} has no effect", f"leave out --{name}")
        if len(tasks) > 1 or len(compare or ()) > 1:
            raise InputError(f"{data[0]} is a data set: one at a time, and one --compare", "evaluate several times")
        return _answers([player, *(compare or ())], data[0], settings, {"questions": games, "seed": seed, **asking})
    for name, value in asking.items():
        if value != _ASKING[name][1]:
            option = name.replace("_", "-")
            raise InputError(f"{tasks[0]} is no data set: --{option} has no effect", f"leave out --{option}")
    from ludora.evals.evaluate import evaluate as measure
    from ludora.evals.evaluate import unseen
    from ludora.evals.tables import show

    contenders = [player, *(compare or ())]
    # all of them, before a model is loaded for one
    specs = [check_player(text) for text in (*contenders, *([] if against is None else [against]))]
    check_models(specs, [task_spec(task) for task in tasks], settings)
    person = any(innermost(spec).name == "human" for spec in specs)  # a bar would be drawn over what is asked and typed
    found = measure(
        contenders,
        tasks,
        build=lambda text: build_player(text, settings, say),
        against=against,
        games=games,
        seed=seed,
        exact=exact,
        progress=unseen if person else partial(progress, "games"),
    )
    return Shown(found.to_json(), lambda console: show(found, console))


def _answers(names: list[str], task: str, settings: ModelSettings, options: dict[str, Any]) -> Shown:
    """What players answer to a data set, and how the first compares with the second."""
    from ludora.evals.quiz import Asking, check_asking, check_unseen, questions, quiz
    from ludora.evals.quiz_report import check_place, show, write
    from ludora.players.build import check_player

    players = [check_player(text) for text in names]
    out = options.pop("out")
    folder = Path(out) if out else None
    asking = Asking(**options)
    check_asking(players, task, settings, asking)
    if folder is not None:
        check_place(folder)
    data = questions(task, asking)  # before the model: it may be refused
    check_unseen(players, data)
    if data.gaps:
        say(f"{data.source}: {data.gaps}")
    from ludora.players.studio import studio  # torch and transformers: seconds

    opened = studio(settings, say)
    with progress("answers", len(players) * len(data.test)) as step:
        found = quiz(players, data, opened, asking, step)

    def write_it() -> None:
        if folder is not None:
            say(f"written: {write(folder, found)}")

    return Shown(found.to_json(), lambda console: show(found, console), then=write_it)
