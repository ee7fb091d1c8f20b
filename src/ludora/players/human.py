"""A person at the terminal, as a player like any other."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ludora.envs.base import Pictured
from ludora.errors import LudoraError
from ludora.players.base import Player
from ludora.players.bots import no_options
from ludora.types import Move, Spec, Stop, Turn

if TYPE_CHECKING:
    from rich.console import Console

QUIT = ("quit", "exit")
# What a key means where the moves are directions: arrows, and the letters of games.
KEYS = {
    **{"\x1b[A": "up", "\x1b[B": "down", "\x1b[D": "left", "\x1b[C": "right"},
    **{"w": "up", "s": "down", "a": "left", "d": "right"},
    **{"k": "up", "j": "down", "h": "left", "l": "right"},
}


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

    A state with a picture is shown as that. With a `key` to read, it is drawn over the one before, and where the moves
    are directions one key is a move: an arrow, w a s d or h j k l; q leaves.

    Args:
        console: where to write; a rich console on stdout by default.
        ask: reads one line after showing the prompt; the console's own input by default. It raises EOFError at the end.
        key: waits for one key, see `read_key`; None where there is no keyboard to read keys from.
    """

    name = "human"

    def __init__(
        self,
        console: Console | None = None,
        ask: Callable[[str], str] | None = None,
        key: Callable[[], str] | None = None,
    ) -> None:
        if console is None:
            from rich.console import Console  # only when a person plays: rich takes time to load

            console = Console()
        self._console = console
        self._ask = ask or console.input
        self._key = key

    def act(self, turns: Sequence[Turn]) -> list[Move]:
        """One move per turn, asked for in order.

        Raises:
            PlayerQuit: the person left.
        """
        return [self._move(turn) for turn in turns]

    def _move(self, turn: Turn) -> Move:
        if self._key and isinstance(turn.state, Pictured) and turn.legal and set(turn.legal) <= set(KEYS.values()):
            return self._steer(turn, turn.state, turn.legal, self._key)
        self._show(turn)
        if turn.legal is None:
            return Move(self._line("Your answer: "), stop=Stop.END)
        while True:
            answer = self._line("Your move: ")
            index = read_choice(answer, turn.legal)
            if index is not None:
                return Move(turn.legal[index], index=index)
            self._say(f"{answer!r} is not one of the moves. Type a number from 1 to {len(turn.legal)}, or quit.")

    def _steer(self, turn: Turn, state: Pictured, legal: Sequence[str], read: Callable[[], str]) -> Move:
        """One key, one move."""
        self._console.clear()
        self._say(f"{state.picture()}\n{state.legend}\nMove {turn.number + 1}. Arrow keys or w a s d; q leaves.")
        while (word := KEYS.get(key := read().replace("\x1bO", "\x1b["), "")) not in legal:
            if key in ("q", "Q", "", "\x04"):
                raise PlayerQuit("the game was left")
            self._say(f"No such move. Possible: {', '.join(legal)}.")
        return Move(word, index=legal.index(word))

    def _show(self, turn: Turn) -> None:
        told = [message.content for message in turn.messages]
        if isinstance(turn.state, Pictured):
            told = [turn.state.legend, turn.state.picture()]
        for text in told if turn.number == 0 else told[-1:]:
            self._say(text)
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


class Watched:
    """Any player, with every turn and answer shown: drawn over one another on a terminal, below one another elsewhere.

    Args:
        player: who plays.
        console: where to show it.
        delay: seconds that each frame stays.
    """

    def __init__(self, player: Player, console: Console, delay: float) -> None:
        self.name = player.name
        self._player, self._console, self._delay = player, console, delay

    def act(self, turns: Sequence[Turn]) -> list[Move]:
        moves = self._player.act(turns)
        for turn, move in zip(turns, moves, strict=True):
            self._frame(turn, move)
        return moves

    def _frame(self, turn: Turn, move: Move) -> None:
        picture = turn.state.picture() if isinstance(turn.state, Pictured) else ""
        over = bool(picture) and self._console.is_terminal
        if over:
            self._console.clear()
        why = f"  ({move.reasoning})" if move.reasoning else ""
        said = f"{turn.number + 1}. seat {turn.seat}, {self.name}: {move.text}{why}"
        for text in (picture or turn.messages[-1].content, said, *([] if over else [""])):
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)
        time.sleep(self._delay)


def keyboard() -> Callable[[], str] | None:
    """How to read single keys, None where stdin is no terminal or the system has no such thing."""
    try:
        import termios  # noqa: F401  (not on every system)
    except ImportError:
        return None
    return read_key if sys.stdin.isatty() else None


def read_key() -> str:
    """Wait for one key: its character, or the escape sequence of an arrow; "" at the end of the input."""
    import select
    import termios
    import tty

    keys = sys.stdin.fileno()
    before = termios.tcgetattr(keys)
    try:
        tty.setcbreak(keys, termios.TCSADRAIN)  # the default would throw away what was typed since the last key
        data = os.read(keys, 1)
        # What follows an escape at once belongs to the same key.
        while data[:1] == b"\x1b" and len(data) < 3 and select.select([keys], [], [], 0.05)[0]:
            data += os.read(keys, 1)
    finally:
        termios.tcsetattr(keys, termios.TCSADRAIN, before)
    return data.decode("utf-8", "ignore")


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
