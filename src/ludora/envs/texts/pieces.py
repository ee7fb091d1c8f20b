"""Chess, checkers and Quoridor: boards on which pieces move."""

from __future__ import annotations

import re
from typing import Any

from ludora.envs.texts.base import GameText, Params, as_named, count, field, grid, square

# --- Chess: a position in FEN, and how often it has been on the board ---

_CHESS_RULES = (
    "Chess by the usual rules; White moves first. Capital letters are White's pieces, small ones Black's. Moves are in "
    "algebraic notation. It is a draw if a side to move is not in check and cannot move, if a position comes up for "
    "the third time, after 100 moves in a row (50 by each side) without a capture or a pawn move, and if neither side "
    "has enough pieces left to checkmate."
)


def _chess_reads(state: Any, seat: int) -> str:
    return f"{state.observation_string(seat)}\nseen: {state.num_repetitions(state)}"


def _chess_state(text: str, seat: int, params: Params) -> str:
    board, _, castling, passing, quiet, _ = text.splitlines()[0].split()
    rows = [re.sub(r"\d", lambda m: "." * int(m[0]), row) for row in board.split("/")]
    times = int(field(text, "seen"))
    facts = [
        f"You are {'White' if seat == 1 else 'Black'}.",
        f"Castling still possible: {castling.replace('-', 'none')}.",
        f"{count(int(quiet), 'move')} since a capture or pawn move.",
    ]
    if passing != "-":
        facts.append(f"A pawn has just passed {passing}.")
    if times > 1:
        facts.append(f"This position is on the board for the {('second', 'third')[min(times, 3) - 2]} time.")
    return f"{' '.join(facts)}\n{grid(rows, upwards=True)}"


def chess(params: Params) -> GameText | None:
    """Not Chess960, whose castling is another."""
    return None if params["chess960"] else GameText(_CHESS_RULES, _chess_state, as_named, _chess_reads)


# --- Checkers: rows such as "8.+.+.+.+", numbered from the bottom; o and its king 8, + and its king * ---

_CHECKERS_RULES = (
    "Checkers on an 8x8 board; columns a-h, rows 1-8 from the bottom. o (kings O) starts at the bottom and moves "
    "first, x (kings X) starts at the top. Men move one square diagonally forward, o upwards and x downwards, onto an "
    "empty square; kings also backward. A piece captures by jumping over a piece of theirs beside it, in a direction "
    "in which it may move, onto the empty square right behind it. If you can capture you must. After a capture, the "
    "same piece must go on if it can capture again, as your next move. A man that reaches the far row becomes a king, "
    "and its turn ends. a3b4 moves from a3 to b4. Who cannot move loses. After 40 moves in a row without a capture it "
    "is a draw."
)


def _checkers_state(text: str, seat: int, params: Params) -> str:
    rows = [line[1:] for line in text.splitlines() if re.match(r"\d", line)]  # a king of o is an 8, too
    board = [row.translate(str.maketrans("8+*", "OxX")) for row in rows]
    return f"You are {'ox'[seat]}.\n{grid(board, upwards=True)}"


def checkers(params: Params) -> GameText | None:
    """The usual board, both players looking from the same side."""
    if (params["rows"], params["columns"]) != (8, 8) or params["egocentric"]:
        return None
    return GameText(_CHECKERS_RULES, _checkers_state, as_named)


# --- Quoridor: our own words, because the engine's count of walls is not to be trusted ---


def _quoridor_reads(state: Any, seat: int) -> str:
    """`pawns: d7 d1`, then the walls of each player in the order they were built."""
    walls: tuple[list[str], list[str]] = ([], [])
    for i, action in enumerate(state.history()):
        if action % 2:  # a wall; moves of pawns are even
            walls[i % 2].append(state.action_to_string(i % 2, action))
    found = {mark: "" for mark in "0@"}
    for line in state.observation_string(seat).splitlines()[2:-1]:
        row = re.match(r" *(\d+) ", line)  # behind it come the squares, four signs for each
        for mark in found:
            if row and (place := line.find(mark, row.end() - 1)) >= 0:
                found[mark] = square(int(row[1]) - 1, (place - 3) // 4)
    built = "\n".join(f"{i}: {' '.join(mine)}" for i, mine in enumerate(walls))
    return f"pawns: {found['0']} {found['@']}\n{built}\nply: {len(state.history())}"


def _quoridor_state(text: str, seat: int, params: Params) -> str:
    pawns, size = field(text, "pawns").split(), params["board_size"]
    walls = [field(text, "0").split(), field(text, "1").split()]
    left = [_walls(params) - len(mine) for mine in walls]
    goal = (1, size)[seat]
    standing = ", ".join(sorted(walls[0] + walls[1])) or "none"
    return (
        f"Your pawn is on {pawns[seat]} and must reach row {goal}; theirs is on {pawns[1 - seat]} and must reach row "
        f"{(1, size)[1 - seat]}. You have {count(left[seat], 'wall')} left, they have {left[1 - seat]}. "
        f"Walls on the board: {standing}. This is move {int(field(text, 'ply')) + 1} of at most {4 * size * size}."
    )


def _walls(params: Params) -> int:
    size: int = params["board_size"]
    return params["wall_count"] or size * size // 8


def quoridor(params: Params) -> GameText | None:
    """For two, on boards that letters reach."""
    size = params["board_size"]
    if params["players"] != 2 or params["ansi_color_output"] or size > 26:
        return None
    middle = square(0, size // 2)[0]
    rules = (
        f"Quoridor on a {size}x{size} board; columns a-{square(0, size - 1)[0]}, rows 1-{size} from the top. Player 0 "
        f"moves first, from {middle}{size}, and wins on reaching row 1; player 1 starts on {middle}1 and wins on "
        f"reaching row {size}. On a turn, either move your pawn one square up, down, left or right (write the square, "
        f"{middle}2), or build one of your {_walls(params)} walls, which are two squares long. b3v stands on the right "
        "side of b3 and b4; b3h lies below b3 and c3. Walls stop pawns, may not cross or overlap, and must leave each "
        "player a way to their row. If their pawn stands next to yours you may jump over it to the square right behind "
        "it; if a wall or the border is there, you may go to a square beside their pawn instead. After "
        f"{4 * size * size} moves it is a draw."
    )
    return GameText(rules, _quoridor_state, as_named, _quoridor_reads)
