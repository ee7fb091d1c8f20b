"""The `ludora` command. Commands import what they need when they run, so that `--help` loads no torch."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from ludora import __version__
from ludora.cli import (
    check_env,
    config,
    data,
    demo,
    doctor,
    evaluate,
    evolve,
    merge,
    play,
    push,
    report,
    runs,
    serve,
    shell,
    train,
)
from ludora.cli import list as list_
from ludora.errors import BadLines, LudoraError

LONGEST = 600  # characters of a complaint
SMALLER = {  # what helps where memory runs out, by command
    "train ppo": "go on with --resume RUN and accumulation=8, a smaller minibatch or gradient_checkpointing=true",
    "train sft": "go on with --resume RUN and accumulation=8, smaller part_tokens or gradient_checkpointing=true",
    "evolve": "go on with --resume RUN and a smaller pack or gradient_checkpointing=true",
    "evaluate": "--quantize 4bit takes less; --device cpu may have more",
    "merge": "--dtype bf16 takes less; --device cpu may have more",
}
# typer exports only this child of the class that all its complaints about a command line share.
_UsageError: Any = typer.BadParameter.__mro__[1]

app = typer.Typer(
    help="Teach language models to act, in games and in a shell, by training LoRA adapters.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command("demo")(demo.demo)
app.add_typer(train.app, name="train")
app.command("evolve")(evolve.evolve)
app.command("evaluate")(evaluate.evaluate)
app.command("play")(play.play)
app.command("report")(report.report)
app.add_typer(runs.app, name="runs")
app.add_typer(list_.app, name="list")
app.add_typer(config.app, name="config")
app.add_typer(data.app, name="data")
app.add_typer(shell.app, name="shell")
app.command("merge")(merge.merge)
app.command("push")(push.push)
app.command("serve")(serve.serve)
app.command("check-env")(check_env.check)
app.command("doctor")(doctor.doctor)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False) -> None:
    if version:
        sys.stdout.write(f"ludora {__version__}\n")
        raise typer.Exit


def main() -> None:
    """Run the command line and leave with its exit code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run a command line. 0 done, 1 it failed (memory ran out, too), 2 the input was wrong, 130 interrupted.

    What the user can mend is two lines on stderr; a traceback is shown for a bug of ours, or with LUDORA_DEBUG=1.
    """
    debug = os.environ.get("LUDORA_DEBUG", "") not in ("", "0")
    try:
        code = app(args=_resume_alone(arguments), prog_name="ludora", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except LudoraError as error:
        if debug:
            raise
        return _complain(error.message, error.hint, error.exit_code, whole=isinstance(error, BadLines))
    except _UsageError as error:
        where = error.ctx.command_path if error.ctx else "ludora"
        return _complain(error.format_message(), f"see {where} --help", 2)
    except OSError as error:
        if debug:
            raise
        if error.errno == errno.ENAMETOOLONG:  # wherever a name is first looked for
            return _complain(f"the name is too long for a file: {error.filename}", "give a shorter one", 2)
        what = f"{error.filename}: " if error.filename else ""
        return _complain(f"{what}{error.strerror or error}", "LUDORA_DEBUG=1 shows where it happened", 1)
    except (KeyboardInterrupt, typer.Abort):
        return _complain("interrupted", "", 130)
    except (RuntimeError, MemoryError) as error:
        if debug or not _out_of_memory(error):
            raise
        hints = [hint for words, hint in SMALLER.items() if words.split() == list(arguments[: len(words.split())])]
        return _complain("memory ran out", next(iter(hints), "a smaller model, or quantize=4bit, takes less"), 1)


def _out_of_memory(error: BaseException) -> bool:
    if "torch" not in sys.modules:  # nothing that ran has loaded it, so neither need we
        return isinstance(error, MemoryError)
    from ludora.models.machine import out_of_memory

    return out_of_memory(error)


def _complain(message: str, hint: str, code: int, *, whole: bool = False) -> int:
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    for label, style, text in (("error: ", "bold red", message), ("hint: ", "bold", hint)):
        if text:
            line = " ".join(text.split())
            long = len(line) > LONGEST and not whole  # a name may be as long as one likes
            cut = f"{line[:LONGEST]} ..." if long else line
            console.print(Text.assemble((label, style), cut))
    return code


def _resume_alone(arguments: Sequence[str]) -> list[str]:
    """`--resume` may stand alone; typer wants a value after every option, so it gets the word for the latest run."""
    words = list(arguments)
    for i, word in enumerate(words):
        following = words[i + 1] if i + 1 < len(words) else ""
        if word == "--resume" and (not following or following.startswith("-") or "=" in following):
            words[i] = f"--resume={train.LATEST}"
    return words
