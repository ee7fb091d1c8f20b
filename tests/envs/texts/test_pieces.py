"""Checkers and Quoridor, refereed from their rules texts; chess against known counts and whole games."""

from __future__ import annotations

import re
from typing import Any

import pyspiel
import pytest
from tests.envs.texts.rig import Board, board, name, pairs, place, play
from tests.envs.texts.test_boards import claims, inside, squares, won

from ludora.envs.openspiel import state_turn
from ludora.envs.openspiel_games import load
from ludora.grammar import parse

# ---- Checkers --------------------------------------------------------------------------------------------------------


def steps(piece: str) -> list[tuple[int, int]]:
    """Directions in which a piece may move; row 1 is the first of a board, so o goes to higher rows."""
    rows = {"o": [1], "x": [-1]}.get(piece, [1, -1])
    return [(dr, dc) for dr in rows for dc in (-1, 1)]


def jumps(cells: Board, r: int, c: int) -> set[str]:
    piece, found = cells[r][c], set()
    for dr, dc in steps(piece):
        y, x = r + 2 * dr, c + 2 * dc
        if inside(cells, y, x) and cells[y][x] == ".":
            over = cells[r + dr][c + dc]
            if over != "." and over.lower() != piece.lower():
                found.add(name(r, c) + name(y, x))
    return found


def checkers_moves(cells: Board, mark: str) -> tuple[set[str], bool]:
    """Legal moves, and whether they capture."""
    mine = [*squares(cells, mark), *squares(cells, mark.upper())]
    captures = set().union(*(jumps(cells, r, c) for r, c in mine)) if mine else set()
    if captures:
        return captures, True
    return {
        name(r, c) + name(r + dr, c + dc)
        for r, c in mine
        for dr, dc in steps(cells[r][c])
        if inside(cells, r + dr, c + dc) and cells[r + dr][c + dc] == "."
    }, False


@pytest.mark.parametrize("seed", range(6))
def test_checkers(seed: int) -> None:
    played = play("checkers", seed)
    claims(played.rules, "o (kings O) starts at the bottom and moves first", "you must", "40 moves in a row")
    quiet, going = 0, None
    assert played.seen[0].seat == 0
    for seen, after in pairs(played):
        cells, mark = board(seen.told), "ox"[seen.seat]
        assert f"You are {mark}." in seen.told
        legal, captures = (jumps(cells, *going), True) if going else checkers_moves(cells, mark)
        assert set(seen.legal) == legal
        (r, c), (y, x) = place(seen.move[:2]), place(seen.move[2:])
        piece, cells[r][c] = cells[r][c], "."
        crowned = piece.islower() and y == (7 if mark == "o" else 0)
        cells[y][x] = piece.upper() if crowned else piece
        quiet = 0 if captures else quiet + 1
        if captures:
            cells[(r + y) // 2][(c + x) // 2] = "."
        going = (y, x) if captures and not crowned and jumps(cells, y, x) else None
        if after:
            assert board(after.told) == cells and after.seat == (seen.seat if going else 1 - seen.seat)
    stuck = not checkers_moves(cells, "ox"[1 - seen.seat])[0]
    assert stuck or quiet == 40
    won(played, seen.seat if stuck else None)


# ---- Quoridor --------------------------------------------------------------------------------------------------------


def reach(walls: set[str], at: tuple[int, int], to: tuple[int, int]) -> bool:
    """Whether nothing stands between two squares side by side: b3v is right of b3 and b4, b3h below b3 and c3."""
    (r, c), (below, _) = sorted([at, to])
    if r == below:
        return not {name(r, c) + "v", name(r - 1, c) + "v"} & walls
    return not {name(r, c) + "h", f"{name(r, c - 1)}h" if c else ""} & walls


def around(walls: set[str], at: tuple[int, int], size: int) -> list[tuple[int, int]]:
    near = [(at[0] + dr, at[1] + dc) for dr, dc in ((0, 1), (1, 0), (0, -1), (-1, 0))]
    return [p for p in near if 0 <= p[0] < size and 0 <= p[1] < size and reach(walls, at, p)]


def arrives(walls: set[str], at: tuple[int, int], row: int, size: int) -> bool:
    todo, seen = [at], {at}
    while todo:
        here = todo.pop()
        if here[0] == row:
            return True
        new = [p for p in around(walls, here, size) if p not in seen]
        seen |= set(new)
        todo += new
    return False


def pawn_moves(walls: set[str], mine: tuple[int, int], theirs: tuple[int, int], size: int) -> set[str]:
    found = set()
    for to in around(walls, mine, size):
        if to != theirs:
            found.add(name(*to))
            continue
        behind = (2 * theirs[0] - mine[0], 2 * theirs[1] - mine[1])
        free = [p for p in around(walls, theirs, size) if p != mine]
        found |= {name(*behind)} if behind in free else {name(*p) for p in free}
    return found


def wall_moves(walls: set[str], pawns: list[tuple[int, int]], size: int) -> set[str]:
    found = set()
    for r in range(size - 1):
        for c in range(size - 1):
            here = name(r, c)
            beside = {"v": [name(r - 1, c), name(r + 1, c)], "h": [name(r, c + 1), name(r, c - 1) if c else ""]}
            for kind in "vh":
                if {here + "v", here + "h"} & walls or {b + kind for b in beside[kind]} & walls:
                    continue
                if all(arrives(walls | {here + kind}, pawns[i], (0, size - 1)[i], size) for i in (0, 1)):
                    found.add(here + kind)
    return found


def pawns_first(told: str, legal: tuple[str, ...]) -> str | None:
    """Mostly moves of pawns, so that they meet."""
    if len(told) % 3 == 0:
        return None
    return min(legal, key=lambda move: (len(move), (len(told) * 31 + ord(move[0]) * 7 + ord(move[1])) % 13))


@pytest.mark.parametrize(("size", "walls_each"), [(7, 8), (9, 9)])
def test_quoridor(size: int, walls_each: int) -> None:
    for seed in range(3):
        prefer = None if seed == 2 else pawns_first
        played = play(f"quoridor(board_size={size},wall_count={walls_each})", seed, prefer)
        claims(
            played.rules,
            f"Player 0 moves first, from {'abcdefghi'[size // 2]}{size}, and wins on reaching row 1",
            "b3h lies below b3 and c3",
        )
        pawns, built, walls = [place(f"{'abcdefghi'[size // 2]}{row}") for row in (size, 1)], [0, 0], set()
        for number, seen in enumerate(played.seen):
            mine, theirs = pawns[seen.seat], pawns[1 - seen.seat]
            told = re.match(
                r"Your pawn is on (\w+) and must reach row (\d); theirs is on (\w+) and must reach row (\d). "
                r"You have (\d+) walls? left, they have (\d+). Walls on the board: ([^.]*). This is move (\d+) of at most (\d+).",
                seen.told,
            )
            assert told and seen.seat == number % 2
            left = [walls_each - n for n in built]
            rows = (("1", str(size)), (str(size), "1"))[seen.seat]
            assert told.groups()[:4] == (name(*mine), rows[0], name(*theirs), rows[1])
            assert [int(n) for n in told.groups()[4:6]] == [left[seen.seat], left[1 - seen.seat]]
            assert set(told[7].split(", ")) == (walls or {"none"})
            assert (int(told[8]), int(told[9])) == (number + 1, 4 * size * size)
            legal = pawn_moves(walls, mine, theirs, size)
            if left[seen.seat]:
                legal |= wall_moves(walls, pawns, size)
            assert set(seen.legal) == legal
            if len(seen.move) == 3:
                walls.add(seen.move)
                built[seen.seat] += 1
            else:
                pawns[seen.seat] = place(seen.move)
        home = pawns[seen.seat][0] == (0, size - 1)[seen.seat]
        assert home or number + 1 == 4 * size * size
        won(played, seen.seat if home else None)


# ---- Chess -----------------------------------------------------------------------------------------------------------


def chess_game(moves: str) -> tuple[Any, list[tuple[int, str]]]:
    """A game by the names that players are offered: the last state, and what each was told."""
    spec = parse("chess")
    state, told = load(spec).game.new_initial_state(), []
    for move in moves.split():
        turn = state_turn(spec, state, state.current_player())
        assert turn.legal and move in turn.legal, (move, turn.legal)
        told.append((turn.seat, turn.messages[1].content))
        state.apply_action(turn.state.actions[turn.legal.index(move)])
    return state, told


def look(state: Any) -> str:
    return state_turn(parse("chess"), state, state.current_player()).messages[1].content


def test_chess_white_moves_first_and_mates() -> None:
    state, told = chess_game("e4 e5 Bc4 Nc6 Qh5 Nf6 Qxf7#")
    assert told[0][0] == 1 and told[0][1].startswith("You are White.") and told[1][1].startswith("You are Black.")
    assert state.returns() == [-1, 1]
    assert board(told[0][1])[0] == list("RNBQKBNR") and board(told[0][1])[7] == list("rnbqkbnr")
    assert board(told[2][1])[3][4] == "P" and board(told[2][1])[4][4] == "p"
    claims(
        load(parse("chess")).rules.content,
        "White moves first",
        "Capital letters are White's",
        "third time",
        "50 by each",
    )


def test_chess_counts_moves_as_everybody_does() -> None:
    def perft(state: Any, depth: int) -> int:
        return 1 if depth == 0 else sum(perft(state.child(action), depth - 1) for action in state.legal_actions())

    assert [perft(pyspiel.load_game("chess").new_initial_state(), depth) for depth in (1, 2, 3)] == [20, 400, 8902]


def test_chess_castling_passing_and_promotion_are_told() -> None:
    state, _ = chess_game("e4 Nf6 e5 d5")
    assert "A pawn has just passed d6." in look(state) and "Castling still possible: KQkq." in look(state)
    state, _ = chess_game("e4 Nf6 e5 d5 exd6 Nc6 Nf3 g6 Be2 Bg7 O-O O-O")
    assert "Castling still possible: none. 4 moves since a capture or pawn move." in look(state)
    cells = board(look(state))
    assert cells[0][4:] == [".", "R", "K", "."] and cells[7][4:] == [".", "r", "k", "."] and cells[4][3] == "."
    state, _ = chess_game("a4 b5 axb5 a6 bxa6 Bb7 axb7 Nc6 bxa8=Q")
    assert board(look(state))[7][0] == "Q"


def test_chess_draws() -> None:
    back = "Nf3 Nf6 Ng1 Ng8 "
    state, told = chess_game(back * 2)
    assert state.is_terminal() and state.returns() == [0, 0]  # the third time on the board
    assert "for the second time" in told[4][1] and "time" not in told[0][1]
    state, _ = chess_game("e3 a5 Qh5 Ra6 Qxa5 h5 h4 Rah6 Qxc7 f6 Qxd7+ Kf7 Qxb7 Qd3 Qxb8 Qh7 Qxc8 Kg6 Qe6")
    assert state.is_terminal() and state.returns() == [0, 0]  # not in check and cannot move


def test_chess_ends_after_fifty_quiet_moves_of_each_side() -> None:
    def quiet(told: str, legal: tuple[str, ...]) -> str | None:
        moves = [move for move in legal if move[0] in "NBRQK" and "x" not in move]
        return min(moves, key=lambda move: hash_of(told + move), default=None)

    counts = []
    for seed in range(3):
        played = play("chess", seed, quiet)
        counts += [int(re.search(r"(\d+) moves? since", seen.told)[1]) for seen in played.seen[-1:]]  # type: ignore[index]
        if counts[-1] == 99:
            assert played.returns == (0, 0)
    assert 99 in counts and max(counts) <= 99


def hash_of(text: str) -> int:
    """Some order of moves that is the same on every machine."""
    return sum(ord(letter) * (i * i + 1) for i, letter in enumerate(text)) % 1009


def test_chess_texts_show_the_engines_board() -> None:
    for seed in range(2):
        spec, played = parse("chess"), play("chess", seed)
        state = load(spec).game.new_initial_state()
        for seen in played.seen[:150]:
            rows = state.observation_string(seen.seat).split()[0].split("/")
            expected = [list(re.sub(r"\d", lambda m: "." * int(m[0]), row)) for row in rows[::-1]]
            assert board(seen.told) == expected
            turn = state_turn(spec, state, seen.seat)
            assert len(set(seen.legal)) == len(state.legal_actions())
            state.apply_action(turn.state.actions[seen.legal.index(seen.move)])
