"""The rules of Snake, without a word of text: immutable positions on a square board, and ways through it.

Coordinates begin at (0, 0) in the bottom left corner; up is y + 1. A cell is one number and a set of cells one whole
number with a bit for each, so that a breadth-first search over the whole board is a few shifts per ring. Rows are one
cell wider than the board and begin at row 1: a step over any edge lands on a cell that is not on the board.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

MOVES = ("up", "down", "left", "right")
BACK = (1, 0, 3, 2)  # the opposite of each move
FREE, WALL, BODY = "free", "wall", "body"
BIT = tuple(1 << i for i in range(101 * 102 + 1))  # of every cell of the largest board
SIZES = (4, 100)  # smallest and largest board


class EndReason(StrEnum):
    """What ended a game."""

    WALL = "wall"
    SELF = "self"
    WIN = "win"  # the snake fills the board
    MAX_STEPS = "max_steps"
    REVERSALS = "reversals"  # ten moves in a row that were straight back
    FORFEIT = "forfeit"  # the answer was no move that was offered


@dataclass(frozen=True, slots=True, eq=False)
class Board:
    """The cells of a board; `around[cell]` are the cells above, below, left and right of it."""

    size: int
    width: int
    cells: int
    order: tuple[int, ...]
    around: tuple[tuple[int, int, int, int], ...]

    def cell(self, x: int, y: int) -> int:
        return (y + 1) * self.width + x + 1

    def xy(self, cell: int) -> tuple[int, int]:
        y, x = divmod(cell, self.width)
        return x - 1, y - 1


@cache
def board_of(size: int) -> Board:
    """The board of a size, made once."""
    width = size + 1
    order = tuple((y + 1) * width + x + 1 for y in range(size) for x in range(size))
    around = tuple((c + width, c - width, c - 1, c + 1) for c in range(width * (size + 1)))
    return Board(size, width, sum(BIT[c] for c in order), order, around)


@dataclass(frozen=True, slots=True)
class Position:
    """A moment of a game.

    Attributes:
        size: of the board.
        body: cells of the snake, tail first and head last.
        mask: the same cells as bits.
        heading: the number of the last move that was made, -1 before the first.
        apple: its cell, 0 when there is none.
    """

    size: int
    body: tuple[int, ...]
    mask: int
    heading: int
    apple: int

    @property
    def board(self) -> Board:
        return board_of(self.size)

    @property
    def head(self) -> int:
        return self.body[-1]

    @property
    def tail(self) -> int:
        return self.body[0]

    @property
    def apples(self) -> int:
        """How many were eaten."""
        return len(self.body) - 1

    @property
    def open(self) -> int:
        """The cells the head may go to, as bits: on the board, not in the body; the tail moves out of the way."""
        return self.board.cells & ~self.mask | (BIT[self.tail] if len(self.body) > 1 else 0)

    def is_back(self, move: int) -> bool:
        """Whether a move is straight back, which the rules refuse at any length."""
        return self.heading >= 0 and BACK[self.heading] == move

    def look(self, move: int) -> str:
        """What lies in a direction: free, wall or body. Straight back counts as body."""
        cell = self.board.around[self.head][move]
        if self.is_back(move):
            return BODY
        if BIT[cell] & self.open:
            return FREE
        return BODY if BIT[cell] & self.board.cells else WALL

    def free_moves(self) -> list[int]:
        """The moves that do not end the game and are not straight back."""
        around, free = self.board.around[self.head], self.open
        back = BACK[self.heading] if self.heading >= 0 else -1
        return [m for m in range(4) if m != back and BIT[around[m]] & free]

    def moved(self, move: int) -> Position:
        """The position after a free move; where it eats the apple, the new one has none."""
        cell = self.board.around[self.head][move]
        if cell == self.apple:
            return Position(self.size, (*self.body, cell), self.mask | BIT[cell], move, 0)
        mask = self.mask & ~BIT[self.tail] | BIT[cell]
        return Position(self.size, (*self.body[1:], cell), mask, move, self.apple)

    @property
    def legend(self) -> str:
        """What the signs of `picture` are."""
        return "Eat the apples (*). @ is your head, o your body, . your tail; do not run into it or into a wall."

    def picture(self) -> str:
        """The board for a person."""
        cells = {**dict.fromkeys(self.body, "o"), self.tail: ".", self.head: "@", self.apple: "*"}
        edge = "+" + "-" * (2 * self.size + 1) + "+"
        rows = [
            "| " + "".join(f"{cells.get(self.board.cell(x, y), ' ')} " for x in range(self.size)) + "|"
            for y in reversed(range(self.size))
        ]
        return "\n".join([edge, *rows, edge])


def start(size: int) -> Position:
    """A snake of one cell in the middle, with no heading and no apple yet."""
    cell = board_of(size).cell(size // 2, size // 2)
    return Position(size, (cell,), BIT[cell], -1, 0)


def place_apple(position: Position, draw: float) -> Position:
    """The same position with an apple on a free cell, uniformly by `draw` in [0, 1); there must be a free cell."""
    free = [cell for cell in position.board.order if not position.mask & BIT[cell]]
    return Position(position.size, position.body, position.mask, position.heading, free[int(draw * len(free))])


# ---- ways through the board ----------------------------------------------------------------------------------------


def rings(board: Board, free: int, source: int, goal: int) -> list[int]:
    """Breadth first: the cells 0, 1, 2 ... steps from `source`, up to the first ring that meets `goal`.

    All are bits; the way leads through `free` alone, to which a goal must belong. [] where no way leads to the goal.
    """
    width = board.width
    ring, found = source, [source]
    free &= ~source
    while not ring & goal:
        ring = (ring << 1 | ring >> 1 | ring << width | ring >> width) & free
        if not ring:
            return []
        free ^= ring
        found.append(ring)
    return found


def shortest_way(position: Position, free: int, first: Sequence[int], target: int) -> list[int]:
    """The moves of a shortest way from the head to the cell `target`, beginning with one of the moves `first`.

    Of ways of equal length the one whose moves come first in the order up, down, left, right. [] if there is none.
    """
    board = position.board
    around, head = board.around, position.head
    goal = 0
    for move in first:
        goal |= BIT[around[head][move]]
    found = rings(board, free, BIT[target], goal & free)  # from the target, so that the last ring holds the first step
    moves: list[int] = []
    cell = head
    for ring in reversed(found):
        for move in first if not moves else range(4):
            if BIT[around[cell][move]] & ring:
                moves.append(move)
                cell = around[cell][move]
                break
    return moves


def tail_distance(board: Board, body: Sequence[int], mask: int) -> int:
    """Steps from the head to the tail through free cells, 0 where there is no way; 1 for a snake of one or two cells.

    While there is a way to the tail, the snake can follow it: the standard test that a move is no trap.
    """
    if len(body) < 3:
        return 1
    tail = BIT[body[0]]
    return max(len(rings(board, board.cells & ~mask | tail, BIT[body[-1]], tail)) - 1, 0)


def is_trap(position: Position, move: int) -> bool:
    """Whether a free move leaves no way from the head to the tail: a lookahead of one step. Winning is no trap."""
    after = position.moved(move)
    if len(after.body) == position.size**2:
        return False
    return not tail_distance(position.board, after.body, after.mask)
