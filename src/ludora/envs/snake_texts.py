"""Snake in words: the rules and the state of a position, in one of five texts.

| text            | what is told                                                              |
|-----------------|---------------------------------------------------------------------------|
| `features`      | where the apple is, what is next to the head, the heading; the default    |
| `features+trap` | the same with a lookahead of one step: `trap` where the tail is cut off   |
| `coordinates`   | head, apple, heading and body as pairs of numbers                         |
| `board`         | the board as a drawing                                                    |
| `seed`          | coordinates, the moves before, and four points to think about             |

The first two leave out the size of the board and the length of the snake, so a text learnt on one board is met again
on another, and few prompts are distinct.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache

from ludora.envs.snake_game import FREE, MOVES, Position, is_trap
from ludora.types import Message

TRAP = "trap"
_GOAL = "You play Snake. Eat apples; you grow by one with each. Running into a wall or into your body ends the game."
_FEATURES = (
    " You are told where the apple is, what is next to your head, and where you are going. You cannot turn straight "
    "back; that side counts as body."
)
_TRAP = f" {TRAP.capitalize()}: free, but from there your tail cannot be reached (looked up one step ahead)."
_GRID = " Cells are (x, y), (0, 0) is at the bottom left, up is y + 1. You cannot turn straight back."
_DRAWN = " H is your head, o your body, t your tail, A the apple. You cannot turn straight back."
_SAFE = " Only moves that do not end the game at once are offered."
_RULES = {
    "features": _GOAL + _FEATURES,
    "features+trap": _GOAL + _FEATURES + _TRAP,
    "coordinates": _GOAL + _GRID,
    "board": _GOAL + _DRAWN,
    "seed": _GOAL + _GRID,
}
TEXTS = tuple(_RULES)
_POINTS = (
    "where the snake is and where it is going",
    "where the apple is and a way to it",
    "what the snake could run into",
    "what is best over the next moves",
)


@cache
def rules(text: str, only_safe: bool) -> Message:
    """The system message of a kind of text."""
    return Message("system", _RULES[text] + (_SAFE if only_safe else ""))


def state(position: Position, text: str, moves: Sequence[str], history: int) -> Message:
    """What the player reads at a turn; `moves` are those made so far, of which `seed` shows the last `history`."""
    if text == "board":
        return Message("user", _drawing(position))
    if text == "coordinates":
        return Message("user", _coordinates(position))
    if text == "seed":
        return Message("user", thinking_prompt(_coordinates(position), moves, history))
    sides = [position.look(move) for move in range(4)]
    if text == "features+trap":
        sides = [TRAP if side == FREE and is_trap(position, m) else side for m, side in enumerate(sides)]
    (x, y), (apple_x, apple_y) = position.board.xy(position.head), position.board.xy(position.apple)
    return _features(apple_x - x, apple_y - y, tuple(sides), position.heading)


@lru_cache(maxsize=1 << 16)
def _features(right: int, up: int, sides: tuple[str, ...], heading: int) -> Message:
    """Equal texts are the very same message."""
    around = ", ".join(f"{move} {side}" for move, side in zip(MOVES, sides, strict=True))
    return Message("user", f"Apple: {offset(right, up)}. {around}, going {going(heading)}.")


def offset(right: int, up: int) -> str:
    """`7 up, 1 right`: how far away a cell is."""
    parts = [f"{abs(up)} {'up' if up > 0 else 'down'}"] if up else []
    parts += [f"{abs(right)} {'right' if right > 0 else 'left'}"] if right else []
    return ", ".join(parts)


def going(heading: int) -> str:
    """The heading as a word, `none` before the first move."""
    return MOVES[heading] if heading >= 0 else "none"


def _coordinates(position: Position) -> str:
    def pairs(cells: Sequence[int]) -> str:
        return " ".join("({}, {})".format(*position.board.xy(cell)) for cell in cells) or "none"

    return (
        f"Board {position.size}x{position.size}. Head {pairs([position.head])}. Apple {pairs([position.apple])}. "
        f"Going {going(position.heading)}. Body from head to tail: {pairs(position.body[-2::-1])}."
    )


def _drawing(position: Position) -> str:
    board = position.board
    signs = {**dict.fromkeys(position.body, "o"), position.tail: "t", position.head: "H", position.apple: "A"}
    rows = [
        " ".join(signs.get(board.cell(x, y), ".") for x in range(position.size)) for y in reversed(range(position.size))
    ]
    return "\n".join([*rows, f"Going {going(position.heading)}."])


def thinking_prompt(state: str, moves: Sequence[str], history: int) -> str:
    """A state, the last `history` moves before it, and the four points to think about before answering."""
    shown = list(moves[-history:]) if history else []
    left_out = len(moves) - len(shown)
    before = ", ".join(([f"({left_out} earlier)"] if left_out else []) + shown) or "none"
    points = "\n".join(f"{i}. {point}" for i, point in enumerate(_POINTS, start=1))
    return f"State:\n{state}\n\nMoves so far: {before}\n\nThink about\n{points}\nthen choose a move."
