"""`ludora data`: make, check and convert what imitation learns from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from ludora.cli.common import Shown, prints, progress, say, table

if TYPE_CHECKING:
    from rich.console import Console

    from ludora.data.lines import Reading

Item = TypeVar("Item")
app = typer.Typer(help="Make, check and convert what imitation learns from.", no_args_is_help=True)
File = Annotated[str, typer.Argument(metavar="FILE", help="A JSONL file of games or moves.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Go on without the lines that cannot be used.")]


@app.command("snake")
@prints
def snake(
    out: Annotated[str, typer.Argument(metavar="OUT", help="Folder for train.jsonl and eval.jsonl.")],
    games: Annotated[int, typer.Option(help="Games to play, in all.")] = 1000,
    size: Annotated[int, typer.Option(help="The board is SIZE x SIZE.")] = 10,
    expert: Annotated[str, typer.Option(help="PLAYER: bfs, bfs-safe, astar, bfs-safe(noise=0.15) ...")] = "bfs",
    text: Annotated[
        str, typer.Option(help="How states are told: features, features+trap, coordinates, board or seed.")
    ] = "features",
    max_steps: Annotated[int, typer.Option(help="Moves of one game at most.")] = 400,
    seed: Annotated[int, typer.Option(help="Seed of the deals and the split.")] = 0,
    eval_share: Annotated[float, typer.Option(help="Share of the games that goes to eval.jsonl; 0 for none.")] = 0.1,
) -> Shown:
    """Play expert games of Snake and write every decision, with its reasoning, split into train and eval by game."""
    from ludora.data.snake import generate
    from ludora.grammar import parse
    from ludora.players.snake import build
    from ludora.types import Spec

    task = Spec("snake", params=(("max_steps", max_steps), ("size", size), ("text", text)))
    player = build(parse(expert))
    with progress("games", games) as step:
        found = generate(Path(out), str(task), player, games=games, seed=seed, eval_share=eval_share, progress=step)
    facts = {part: statistics.to_json() for part, statistics in found.items()}
    rows = [(key, *(_shown(part[key]) for part in facts.values())) for key in facts["train"]]
    data = {"out": out, "task": str(task), "expert": player.name, "seed": seed, **facts}
    return Shown(data, table(f"{out}: {task}, {player.name}", ("", *found), rows))


@app.command("shell")
@prints
def shell(
    out: Annotated[str, typer.Argument(metavar="OUT", help="File to write.")],
    task: Annotated[
        str, typer.Option(help="TASK of the shell: shell(level=1), shell(path=entries.json) ...")
    ] = "shell",
    games: Annotated[int, typer.Option(help="Tasks to solve.")] = 400,
    seed: Annotated[int, typer.Option(help="Seed of the tasks that are drawn.")] = 0,
) -> Shown:
    """Carry out reference solutions of shell tasks in a sandbox, and write those judged correct as chats."""
    from dataclasses import asdict

    from ludora.data.shell import generate

    with progress("games", games) as step:
        found = asdict(generate(Path(out), task, games=games, seed=seed, progress=step))
    rows = [(key, _shown(value)) for key, value in found.items()]
    return Shown({"out": out, "task": task, "seed": seed, **found}, table(f"{out}: {task}", ("", ""), rows))


@app.command("check")
@prints
def check(file: File) -> Shown:
    """Read a file as training does: count games, moves and conversations, and name every line that cannot be read.

    Exit code 1 if there is one.
    """
    from ludora.data.examples import read_examples

    found = read_examples([file])
    turns = [turn for record in found.items for turn in record.turns]
    conversations = sum(bool(record.messages) for record in found.items)
    data = {
        "file": file,
        "lines": len(found.items),
        "games": len(found.items) - conversations,
        "conversations": conversations,
        "moves": len(turns),
        "with_reasoning": sum(bool(turn.reasoning) for turn in turns),
        "distinct_prompts": len({turn.messages[-1].content for turn in turns}),
        "bad_lines": [{"line": bad.place.number, "why": bad.why} for bad in found.bad],
    }

    def show(console: Console) -> None:
        facts = [(key.replace("_", " "), str(value)) for key, value in data.items() if key != "bad_lines"]
        table("", ("", ""), facts)(console)
        for bad in found.bad:
            console.print(f"line {bad.place.number}: {bad.why}", markup=False, highlight=False, soft_wrap=True)

    return Shown(data, show, exit_code=1 if found.bad else 0)


@app.command("table")
@prints
def table_(
    file: File,
    out: Annotated[str, typer.Argument(metavar="OUT", help="CSV file to write.")],
    skip_bad: SkipBad = False,
) -> Shown:
    """Replay recorded games of Snake and write each decision as a row of 19 columns, CSV."""
    from ludora.data.snake import snake_games, write_table

    found = snake_games(Path(file))
    games = _usable(found, skip_bad)
    rows = write_table(Path(out), games)
    bad = [line.place.number for line in found.bad]
    data = {"file": file, "out": out, "games": len(games), "rows": rows, "bad_lines": bad}
    return Shown(data, lambda console: console.print(f"{rows} rows in {out}", markup=False, highlight=False))


@app.command("messages")
@prints
def messages(
    file: File,
    out: Annotated[str, typer.Argument(metavar="OUT", help="File to write.")],
    reasoning: Annotated[bool, typer.Option("--reasoning", help="Answers are the reasoning, then the move.")] = False,
    skip_bad: SkipBad = False,
) -> Shown:
    """Turn a file of games into chats, one decision per line: {"messages": [..., the answer]}.

    Of a conversation, or of a prompt with its completion, the move of Snake that its last answer names is the decision.
    """
    from ludora.data.chats import decisions, write_chats
    from ludora.data.examples import read_examples

    found = decisions(read_examples([file]))
    chats = write_chats(Path(out), _usable(found, skip_bad), reasoning=reasoning)
    data = {"file": file, "out": out, "chats": chats, "bad_lines": [bad.place.number for bad in found.bad]}
    return Shown(data, lambda console: console.print(f"{chats} chats in {out}", markup=False, highlight=False))


def _usable(found: Reading[Item], skip_bad: bool) -> tuple[Item, ...]:
    """The good lines of a file; the bad ones end the command, or are told.

    Raises:
        InputError: there is a bad line, or with `skip_bad` nothing else.
    """
    if not (skip_bad and found.items):
        return found.all_good()
    if found.bad:
        say(found.complaint)
    return found.items


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {n}" for key, n in value.items())
    return f"{value:.2f}" if isinstance(value, float) else f"{value:,}"
