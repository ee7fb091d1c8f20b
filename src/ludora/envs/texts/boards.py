"""Othello, Hex, Clobber, Go, Amazons, Dots and Boxes, Oware: boards on which pieces are put, and Oware's seeds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ludora.envs.texts.base import GameText, Params, as_named, count, field, grid, square

# --- Othello: a line "White (o) to play:", then rows such as "3 - x - - o - - - 3" ---

_OTHELLO_RULES = (
    "Othello on an 8x8 board; columns a-h, rows 1-8 from the top. x moves first. Put a disc of yours on an empty "
    "square so that one or more straight lines (across, down or diagonal) of their discs, without a gap, lie between "
    "it and another disc of yours: all discs on such lines become yours. Every move must turn at least one disc; who "
    "has no such move passes. When neither side has one the game ends: more discs win, equal numbers draw."
)


def _othello_state(text: str, seat: int, params: Params) -> str:
    rows = [line.split()[1:-1] for line in text.splitlines() if re.match(r"\d", line)]
    return f"You are {'xo'[seat]}.\n{grid([[cell.replace('-', '.') for cell in row] for row in rows])}"


def _othello_names(text: str, actions: Sequence[int], names: Sequence[str]) -> tuple[str, ...]:
    return tuple("Pass" if action == 64 else name for action, name in zip(actions, names, strict=True))


def othello(params: Params) -> GameText | None:
    """The one board there is."""
    return GameText(_OTHELLO_RULES, _othello_state, _othello_names)


# --- Hex: rows such as "  . x . o .", each a little further right than the one above ---


def _hex_state(text: str, seat: int, params: Params) -> str:
    rows = [line.split() for line in text.splitlines() if line.strip()]
    goal = "the top row with the bottom row" if seat == 0 else "the left column with the right column"
    return f"You are {'xo'[seat]} and connect {goal}.\n{grid(rows, slant=True)}"


def hex_board(params: Params) -> GameText | None:
    """Without the swap rule, in the plain drawing, as wide as letters reach."""
    rows, columns = params["num_rows"], params["num_cols"]
    if params["swap"] or params["string_rep"] != "standard" or columns > 26:
        return None
    rules = (
        f"Hex on a board of {columns} columns (a-{square(0, columns - 1)[0]}) and {rows} rows (1-{rows} from the top). "
        "x moves first; in turn each player puts one stone on any empty cell, and stones never move. x wins with an "
        "unbroken chain of x stones from the top row to the bottom row, o with one from the left column to the right "
        "column. Every row is drawn half a cell further right than the one above it, and a cell touches up to six "
        "others: b2 touches a2, c2, b1, c1, a3 and b3. There are no draws."
    )
    return GameText(rules, _hex_state, as_named)


# --- Clobber: rows such as "5oxx.x", numbered from the bottom, and a line of letters ---


def _clobber_state(text: str, seat: int, params: Params) -> str:
    rows = [line.strip().lstrip("0123456789") for line in text.splitlines() if re.match(r" *\d", line)]
    return f"You are {'ox'[seat]}.\n{grid(rows, upwards=True)}"


def clobber(params: Params) -> GameText | None:
    """Boards of any size that letters reach."""
    rows, columns = params["rows"], params["columns"]
    if columns > 26:
        return None
    rules = (
        f"Clobber on a board of {columns} columns (a-{square(0, columns - 1)[0]}) and {rows} rows (1-{rows} from the "
        "bottom), at first full of o and x in turn. o moves first. A move takes one of your pieces one square up, "
        "down, left or right, onto a square that holds a piece of theirs, which is removed: b2b3 moves the piece on b2 "
        "to b3. There are no other moves. Who cannot move on their turn loses."
    )
    return GameText(rules, _clobber_state, as_named)


# --- Go: "GoState(komi=7.5, to_play=W, history.size()=7)", rows such as " 5 O++++"; and what was played last ---


def _go_reads(state: Any, seat: int) -> str:
    history = state.history()
    last = state.action_to_string(1 - seat, history[-1]).split()[1] if history else "none"
    return f"{state.observation_string(seat)}\nlast: {last}"


def _go_state(text: str, seat: int, params: Params) -> str:
    rows = [line.split()[1].replace("+", ".") for line in text.splitlines() if re.match(r" *\d+ ", line)]
    last, played = field(text, "last"), int(re.search(r"size\(\)=(\d+)", text)[1])  # type: ignore[index]
    told = {"none": "", "PASS": " They just passed."}.get(last, f" They just played {last}.")
    limit = params["max_game_length"]
    return (
        f"You are {'XO'[seat]} ({'black' if seat == 0 else 'white'}). This is move {played + 1} of at most "
        f"{limit}.{told}\n{grid(rows, upwards=True)}"
    )


def _go_names(text: str, actions: Sequence[int], names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name.split()[1].replace("PASS", "Pass") for name in names)


def go(params: Params) -> GameText | None:
    """Boards without handicap, up to where the engine's letters leave out the i."""
    size = params["board_size"]
    if params["handicap"] or size > 8:
        return None
    rules = (
        f"Go on a {size}x{size} board; columns a-{square(0, size - 1)[0]}, rows 1-{size} from the bottom. Black (X) "
        "plays first, then White (O), in turn: put a stone on an empty point, or pass. Stones of one colour that touch "
        "along lines are a group; after a move, groups of the other colour with no empty point beside them are taken "
        "off. A move may not leave a group of your own without one, nor bring back the board as it was before their "
        "last move. A stone that brings back any other earlier position of the board ends the game as a draw. "
        f"Two passes one after the other end the game, and so does move {params['max_game_length']}. All stones on the "
        "board count as alive. Each side scores its stones and the empty areas that touch its colour alone, White "
        f"{params['komi']:g} more; the higher score wins."
    )
    return GameText(rules, _go_state, _go_names, _go_reads)


# --- Amazons: rows such as "O#...O"; the amazon that is moving is not on the board while it chooses where to go ---


def _amazons_reads(state: Any, seat: int) -> str:
    history, phase = state.history(), state.action_to_string(seat, state.legal_actions()[0]).split()[1].strip(":")
    return f"{state.observation_string(seat)}\nphase: {phase}\nlast: {history[-1] if history else -1}"


def _amazons_state(text: str, seat: int, params: Params) -> str:
    size = params["board_size"]
    last = square(*divmod(int(field(text, "last")), size))
    told = {
        "From": "Choose the amazon to move.",
        "To": f"You lift your amazon from {last}: choose where it goes.",
        "Shoot": f"Your amazon is on {last} now: choose where it shoots.",
    }[field(text, "phase")]
    return f"You are {'XO'[seat]}. {told}\n{grid(text.splitlines()[:size])}"


def _amazons_names(text: str, actions: Sequence[int], names: Sequence[str]) -> tuple[str, ...]:
    size = len(text.splitlines()[0])
    return tuple(square(*divmod(action, size)) for action in actions)


def amazons(params: Params) -> GameText | None:
    """Boards of any size."""
    size = params["board_size"]
    rules = (
        f"Game of the Amazons on a {size}x{size} board; columns a-{square(0, size - 1)[0]}, rows 1-{size} from the "
        "top. X moves first. A turn has three choices: which amazon of yours moves; where it goes, in a straight line "
        "across, down or diagonally, any distance over empty squares; and where it then shoots, along such a line from "
        "its new square. The square it shoots at is blocked (#) for the rest of the game. Nothing moves onto or "
        "through pieces or blocked squares; the square it left is empty. Who has no amazon that can move at the start "
        "of a turn loses."
    )
    return GameText(rules, _amazons_state, _amazons_names, _amazons_reads)


# --- Dots and Boxes: a drawing with lines of three signs and a digit in the boxes that somebody owns ---

_LINE = "\u2500\u2500\u2500"  # ───


def _dots_state(text: str, seat: int, params: Params) -> str:
    lines = [line for line in text.splitlines() if line.strip() or line]
    drawn = []
    for i in range(2 * params["num_rows"] + 1):
        line = lines[i].ljust(4 * params["num_cols"] + 1)
        if i % 2 == 0:
            sides = ["---" if line[4 * j + 1 : 4 * j + 4] == _LINE else "   " for j in range(params["num_cols"])]
            drawn.append("+" + "+".join(sides) + "+")
        else:
            cells = [("|" if line[4 * j] != " " else " ") + line[4 * j + 1 : 4 * j + 4] for j in range(len(line) // 4)]
            drawn.append(_owners("".join(cells), seat) + ("|" if line[-1] != " " else " "))
    boxes = ["".join(drawn).count(mark) for mark in "YT"]
    picture = "\n".join(line.rstrip() for line in drawn)
    return f"You have {count(boxes[0], 'box|boxes')}, they have {boxes[1]}.\n{picture}"


def _owners(line: str, seat: int) -> str:
    """Y for a box of yours, T for one of theirs."""
    return line.replace("12"[seat], "Y").replace("12"[1 - seat], "T")


def _dots_names(text: str, actions: Sequence[int], names: Sequence[str]) -> tuple[str, ...]:
    """`P1(h,2,0)` is h20."""
    return tuple("".join(name[3:-1].split(",")) for name in names)


def dots_and_boxes(params: Params) -> GameText | None:
    """Where only who wins counts, on boards whose lines are told by single digits."""
    rows, columns = params["num_rows"], params["num_cols"]
    if params["utility_margin"] or max(rows, columns) > 9:
        return None
    rules = (
        f"Dots and Boxes: {rows} rows of {columns} boxes. Player 0 begins. A move draws one line that is not drawn "
        "yet. hRC is a horizontal one: R counts from 0, the top border, downwards, C is the column of boxes from 0 on "
        "the left. vRC is a vertical one: R is the row of boxes from 0 at the top, C counts from 0, the left border, "
        "to the right. Who draws the fourth side of a box owns it (Y yours, T theirs) and moves again; otherwise it is "
        "the other's turn. When all lines are drawn, more boxes win, equal numbers draw."
    )
    return GameText(rules, _dots_state, _dots_names)


# --- Oware: "1 | 0 0 | 0 3 7 6 ...": who moves, what each has captured, the seeds of A-F and a-f ---


def _oware_state(text: str, seat: int, params: Params) -> str:
    scores, seeds = (part.split() for part in text.split("|")[1:])
    houses = params["num_houses_per_player"]
    rows = [_houses(seeds[:houses], "A"), _houses(seeds[houses:], "a")]
    return (
        f"Your houses: {rows[seat]}. Their houses: {rows[1 - seat]}. "
        f"You have captured {scores[seat]}, they have captured {scores[1 - seat]}."
    )


def _houses(seeds: Sequence[str], first: str) -> str:
    return ", ".join(f"{chr(ord(first) + i)} {n}" for i, n in enumerate(seeds))


def oware(params: Params) -> GameText | None:
    """Any number of seeds, up to 26 houses."""
    houses, seeds = params["num_houses_per_player"], params["num_seeds_per_house"]
    if houses > 26:
        return None
    upper, lower = f"A-{chr(64 + houses)}", f"a-{chr(96 + houses)}"
    rules = (
        f"Oware with {houses} houses a side, {seeds} seeds in each at first. The player of {upper} moves first, the "
        f"other has {lower}; all houses form a ring in the order {upper}, {lower}. Choose a house of yours: its seeds "
        "are sown one by one into the next houses of the ring, never into the house they came from. If the last seed "
        "makes 2 or 3 in a house of theirs you capture that house, and so on backwards for houses of theirs with 2 or "
        "3 seeds without a gap; but a move that would capture all their seeds captures nothing. If they have no seeds "
        "you must give them some if you can; if you cannot, the game ends and you take the rest. More than "
        f"{houses * seeds} captured wins at once, {houses * seeds} each is a draw. If a position comes back, the game "
        "ends and each side takes the seeds in its own houses."
    )
    return GameText(rules, _oware_state, as_named)
