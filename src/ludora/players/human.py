"""A person at the terminal, as a player like any other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ludora.errors import LudoraError
from ludora.players.bots import no_options
from ludora.types import Move, Spec, Stop, Turn

if TYPE_CHECKING:
    from rich.console import Console

QUIT = ("quit", "exit")


def build(spec: Spec) -> HumanPlayer:
    """`human` from its PLAYER string.

    Raises:
        InputError: it has no options.
    """
    no_options(spec)
    return HumanPlayer()


class PlayerQuit(LudoraError):
    """The person left the game; nothing went wrong."""

    exit_code = 130


class HumanPlayer:
    """Shows the rules once per game and the state at every turn, and asks until the answer is a legal action.

    An answer is the action's number, its text, or the beginning of its text if only one action begins so; case
    does not matter. Where any text is allowed, the line is the answer. `quit`, `exit` or Ctrl-D leave the game.

    Args:
        console: where to write; a rich console on stdout by default.
        ask: reads one line after showing the prompt; the console's own input by default. It raises EOFError at the end.
    """

    name = "human"

    def __init__(self, console: Console | None = None, ask: Callable[[str], str] | None = None) -> None:
        if console is None:
            from rich.console import Console  # only when a person plays: rich takes time to load

            console = Console()
        self._console = console
        self._ask = ask or console.input

    def act(self, turns: Sequence[Turn]) -> list[Move]:
        """One move per turn, asked for in order.

        Raises:
            PlayerQuit: the person left.
        """
        return [self._move(turn) for turn in turns]

    def _move(self, turn: Turn) -> Move:
        self._show(turn)
        if turn.legal is None:
            return Move(self._line("Your answer: "), stop=Stop.END)
        while True:
            answer = self._line("Your move: ")
            index = read_choice(answer, turn.legal)
            if index is not None:
                return Move(turn.legal[index], index=index)
            self._say(f"{answer!r} is not one of the moves. Type a number from 1 to {len(turn.legal)}, or quit.")

    def _show(self, turn: Turn) -> None:
        for message in turn.messages if turn.number == 0 else turn.messages[-1:]:
            self._say(message.content)
            self._say("")
        # A few long names fill a terminal quickly, so they share lines.
        options = [f"{i}. {text}" for i, text in enumerate(turn.legal or (), start=1)]
        if options:
            self._say("   ".join(options))

    def _say(self, text: str) -> None:
        # Boards contain [ ] and digits, which rich would take for markup and colour.
        self._console.print(text, markup=False, highlight=False)

    def _line(self, prompt: str) -> str:
        try:
            line = self._ask(prompt).strip()
        except EOFError:
            raise PlayerQuit("the game was left") from None
        if line.lower() in QUIT:
            raise PlayerQuit("the game was left")
        return line


def read_choice(answer: str, legal: Sequence[str]) -> int | None:
    """The index of the action a person means, None if that is not clear.

    The exact text comes before the number, because some games' actions are numbers.
    """
    wanted = answer.strip().casefold()
    texts = [text.casefold() for text in legal]
    if not wanted:
        return None
    if answer.strip() in legal:  # before case is ignored: b4 and B4 may be two moves
        return list(legal).index(answer.strip())
    if texts.count(wanted) == 1:
        return texts.index(wanted)
    if wanted.isdecimal():
        return int(wanted) - 1 if 1 <= int(wanted) <= len(legal) else None
    begins = [i for i, text in enumerate(texts) if text.startswith(wanted)]
    return begins[0] if len(begins) == 1 else None
