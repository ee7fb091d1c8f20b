"""Othello, Hex, Clobber, Go, Amazons, Dots and Boxes and Oware, refereed from their rules texts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import pytest
from tests.envs.texts.rig import Board, Played, board, name, pairs, place, play

EIGHT = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if a or b]
FOUR = [(0, 1), (1, 0), (0, -1), (-1, 0)]


def inside(cells: Board, r: int, c: int) -> bool:
    return 0 <= r < len(cells) and 0 <= c < len(cells[0])


def squares(cells: Board, what: str) -> Iterator[tuple[int, int]]:
    return ((r, c) for r, row in enumerate(cells) for c, cell in enumerate(row) if cell == what)


def claims(rules: str, *words: str) -> None:
    """The rules text says so; what the referee below assumes is what players are told."""
    for word in words:
        assert word in rules, f"{word!r} is not in {rules!r}"


def won(played: Played, winner: int | None) -> None:
    assert played.returns == ((0.0, 0.0) if winner is None else (1.0, -1.0) if winner == 0 else (-1.0, 1.0))


# ---- Othello ---------------------------------------------------------------------------------------------------------


def turned(cells: Board, r: int, c: int, mark: str) -> list[tuple[int, int]]:
    """The discs that a disc of `mark` on (r, c) turns."""
    found = []
    for dr, dc in EIGHT:
        line, y, x = [], r + dr, c + dc
        while inside(cells, y, x) and cells[y][x] not in (".", mark):
            line.append((y, x))
            y, x = y + dr, x + dc
        if inside(cells, y, x) and cells[y][x] == mark:
            found += line
    return found


@pytest.mark.parametrize("seed", range(4))
def test_othello(seed: int) -> None:
    played = play("othello", seed)
    claims(
        played.rules, "8x8", "rows 1-8 from the top", "x moves first", "must turn at least one disc", "more discs win"
    )
    assert played.seen[0].told.startswith("You are x.") and played.seen[0].seat == 0
    for seen, after in pairs(played):
        cells, mark = board(seen.told), "xo"[seen.seat]
        assert f"You are {mark}." in seen.told
        legal = {name(r, c) for r, c in squares(cells, ".") if turned(cells, r, c, mark)}
        assert set(seen.legal) == (legal or {"Pass"})
        if seen.move != "Pass":
            r, c = place(seen.move)
            for y, x in [(r, c), *turned(cells, r, c, mark)]:
                cells[y][x] = mark
        if after:
            assert board(after.told) == cells and after.seat == 1 - seen.seat
    for mark in "xo":
        assert not any(turned(cells, r, c, mark) for r, c in squares(cells, "."))
    x, o = (len(list(squares(cells, mark))) for mark in "xo")
    won(played, None if x == o else int(o > x))


# ---- Hex -------------------------------------------------------------------------------------------------------------


def connects(cells: Board, mark: str) -> bool:
    """x from the top row to the bottom row, o from the left column to the right one; b2 touches a2 c2 b1 c1 a3 b3."""
    near = [(place(n)[0] - 1, place(n)[1] - 1) for n in ("a2", "c2", "b1", "c1", "a3", "b3")]
    at, last = (0 if mark == "x" else 1), (len(cells) if mark == "x" else len(cells[0])) - 1
    todo = [cell for cell in squares(cells, mark) if cell[at] == 0]
    reached = set(todo)
    while todo:
        r, c = todo.pop()
        for dr, dc in near:
            cell = (r + dr, c + dc)
            if inside(cells, *cell) and cells[cell[0]][cell[1]] == mark and cell not in reached:
                reached.add(cell)
                todo.append(cell)
    return any(cell[at] == last for cell in reached)


@pytest.mark.parametrize("text", ["hex(board_size=5)", "hex(board_size=7)", "hex", "hex(num_rows=4,num_cols=6)"])
def test_hex(text: str) -> None:
    for seed in range(5):
        played = play(text, seed)
        claims(played.rules, "x moves first", "b2 touches a2, c2, b1, c1, a3 and b3", "x stones from the top row")
        for seen, after in pairs(played):
            cells, mark = board(seen.told), "xo"[seen.seat]
            goal = "the top row with the bottom row" if mark == "x" else "the left column with the right column"
            assert f"You are {mark} and connect {goal}." in seen.told
            assert not connects(cells, "x") and not connects(cells, "o")
            assert set(seen.legal) == {name(r, c) for r, c in squares(cells, ".")}
            r, c = place(seen.move)
            cells[r][c] = mark
            if after:
                assert board(after.told) == cells and after.seat == 1 - seen.seat
        assert connects(cells, mark)
        won(played, seen.seat)


# ---- Clobber ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [5, 6, 7])
def test_clobber(size: int) -> None:
    for seed in range(3):
        played = play(f"clobber(rows={size},columns={size})", seed)
        claims(played.rules, "o moves first", f"rows (1-{size} from the bottom)", "cannot move on their turn loses")
        first = board(played.seen[0].told)
        assert all(
            cell == "xo"[(r + c + first[0][0].count("o")) % 2]
            for r, row in enumerate(first)
            for c, cell in enumerate(row)
        )
        for seen, after in pairs(played):
            cells, (mine, theirs) = board(seen.told), (("o", "x"), ("x", "o"))[seen.seat]
            assert f"You are {mine}." in seen.told
            moves = clobbers(cells, mine, theirs)
            assert set(seen.legal) == moves
            (r, c), (y, x) = place(seen.move[:2]), place(seen.move[2:])
            cells[r][c], cells[y][x] = ".", mine
            if after:
                assert board(after.told) == cells and after.seat == 1 - seen.seat
        assert not clobbers(cells, theirs, mine)
        won(played, seen.seat)


def clobbers(cells: Board, mine: str, theirs: str) -> set[str]:
    return {
        name(r, c) + name(r + dr, c + dc)
        for r, c in squares(cells, mine)
        for dr, dc in FOUR
        if inside(cells, r + dr, c + dc) and cells[r + dr][c + dc] == theirs
    }


# ---- Go --------------------------------------------------------------------------------------------------------------


def group(cells: Board, r: int, c: int) -> tuple[set[tuple[int, int]], bool]:
    """The group of a stone (or the empty area of a point), and whether it has an empty point beside it."""
    mark, todo, found, free = cells[r][c], [(r, c)], {(r, c)}, False
    while todo:
        y, x = todo.pop()
        for dr, dc in FOUR:
            if inside(cells, y + dr, x + dc):
                beside = cells[y + dr][x + dc]
                free = free or beside == "."
                if beside == mark and (y + dr, x + dc) not in found:
                    found.add((y + dr, x + dc))
                    todo.append((y + dr, x + dc))
    return found, free


def put(cells: Board, r: int, c: int, mark: str) -> Board | None:
    """The board after a stone is played, None where it may not be (but for repetition)."""
    after = [row[:] for row in cells]
    after[r][c] = mark
    for dr, dc in FOUR:
        if inside(after, r + dr, c + dc) and after[r + dr][c + dc] not in (".", mark):
            stones, free = group(after, r + dr, c + dc)
            if not free:
                for y, x in stones:
                    after[y][x] = "."
    return after if group(after, r, c)[1] else None


def area(cells: Board) -> float:
    """Black's stones and own empty areas less White's."""
    total = 0.0
    for r, row in enumerate(cells):
        for c, cell in enumerate(row):
            if cell == ".":
                marks = {
                    cells[y + dr][x + dc]
                    for y, x in group(cells, r, c)[0]
                    for dr, dc in FOUR
                    if inside(cells, y + dr, x + dc)
                }
                marks -= {"."}
                total += (marks == {"X"}) - (marks == {"O"})
            else:
                total += 1 if cell == "X" else -1
    return total


def long_game(told: str, legal: tuple[str, ...]) -> str:
    return legal[len(told) * 7 % len(legal)]


def repeater() -> Callable[[str, tuple[str, ...]], str | None]:
    """A way to play that brings back an earlier position wherever that is allowed."""
    before: list[Board] = []

    def choose(told: str, legal: tuple[str, ...]) -> str | None:
        before.append(cells := board(told))
        mark = told[len("You are ")]
        back = [move for move in legal if move != "Pass" and put(cells, *place(move), mark) in before]
        return back[0] if back else None

    return choose


@pytest.mark.parametrize(("size", "seeds"), [(5, (*range(13), 201)), (7, range(2))])
def test_go(size: int, seeds: Sequence[int]) -> None:
    ends, taken_back = set(), 0
    for seed in seeds:
        # in two games of three few passes, so that they are long and stones are taken
        played = play(f"go(board_size={size},komi=7.5)", seed, long_game if seed % 3 else repeater())
        limit = 2 * size * size
        claims(played.rules, f"{size}x{size}", "Black (X) plays first", "Two passes", f"move {limit}", "White 7.5 more")
        claims(
            played.rules, "before their last move", "any other earlier position of the board ends the game as a draw"
        )
        positions: list[Board] = []
        for number, (seen, after) in enumerate(pairs(played)):
            cells, mark = board(seen.told), "XO"[seen.seat]
            assert (
                f"You are {mark} ({('black', 'white')[seen.seat]}). This is move {number + 1} of at most {limit}."
                in seen.told
            )
            assert seen.seat == number % 2
            positions.append(cells)
            results = {name(r, c): put(cells, r, c, mark) for r, c in squares(cells, ".")}
            legal = {point for point, result in results.items() if result and result not in positions[-2:]}
            taken_back += any(result == positions[-2] for result in results.values() if len(positions) > 1)
            assert set(seen.legal) == legal | {"Pass"}
            cells = results.get(seen.move) or cells
            if after:
                assert board(after.told) == cells
                assert ("They just passed." if seen.move == "Pass" else f"They just played {seen.move}.") in after.told
        moves = [seen.move for seen in played.seen]
        passes = [i for i in range(1, len(moves)) if moves[i - 1] == moves[i] == "Pass"]
        end = "again" if moves[-1] != "Pass" and cells in positions else "passes" if passes else "limit"
        assert passes == ([len(moves) - 1] if end == "passes" else []) and (end != "limit" or len(moves) == limit)
        ends.add(end)
        won(played, None if end == "again" else 0 if area(cells) > 7.5 else 1)
    assert (ends == {"again", "passes", "limit"} and taken_back) or size == 7


# ---- Amazons ---------------------------------------------------------------------------------------------------------


def queen(cells: Board, r: int, c: int) -> set[str]:
    found = set()
    for dr, dc in EIGHT:
        y, x = r + dr, c + dc
        while inside(cells, y, x) and cells[y][x] == ".":
            found.add(name(y, x))
            y, x = y + dr, x + dc
    return found


@pytest.mark.parametrize("size", [6, 8, 10])
def test_amazons(size: int) -> None:
    played = play(f"amazons(board_size={size})", size)
    claims(played.rules, f"{size}x{size}", "X moves first", "rows 1-", "from the top", "no amazon that can move")
    for number, (seen, after) in enumerate(pairs(played)):
        cells, mark, phase = board(seen.told), "XO"[seen.seat], number % 3
        assert f"You are {mark}." in seen.told and seen.seat == number // 3 % 2
        if phase == 0:
            assert "Choose the amazon to move." in seen.told
            assert set(seen.legal) == {name(r, c) for r, c in squares(cells, mark) if queen(cells, r, c)}
            r, c = place(seen.move)
            cells[r][c] = "."
        elif phase == 1:
            assert f"You lift your amazon from {name(r, c)}" in seen.told
            assert set(seen.legal) == queen(cells, r, c)
            r, c = place(seen.move)
            cells[r][c] = mark
        else:
            assert f"Your amazon is on {name(r, c)} now" in seen.told
            assert set(seen.legal) == queen(cells, r, c)
            y, x = place(seen.move)
            cells[y][x] = "#"
        if after:
            assert board(after.told) == cells
    assert phase == 2 and not any(queen(cells, *at) for at in squares(cells, "XO"[1 - seen.seat]))
    won(played, seen.seat)


# ---- Dots and Boxes --------------------------------------------------------------------------------------------------


def drawing(told: str, n: int) -> tuple[set[str], dict[tuple[int, int], str]]:
    """The lines that are drawn, by our names, and the owners of boxes."""
    lines = told.splitlines()[1:]
    picture = [line.ljust(4 * n + 1) for line in lines]
    drawn = {f"h{i // 2}{j}" for i in range(0, 2 * n + 1, 2) for j in range(n) if picture[i][4 * j + 2] == "-"}
    drawn |= {f"v{i // 2}{j}" for i in range(1, 2 * n, 2) for j in range(n + 1) if picture[i][4 * j] == "|"}
    owners = {(i // 2, j): picture[i][4 * j + 2] for i in range(1, 2 * n, 2) for j in range(n)}
    return drawn, {box: owner for box, owner in owners.items() if owner != " "}


def sides(r: int, c: int) -> set[str]:
    return {f"h{r}{c}", f"h{r + 1}{c}", f"v{r}{c}", f"v{r}{c + 1}"}


@pytest.mark.parametrize("n", [3, 4, 5])
def test_dots_and_boxes(n: int) -> None:
    for seed in range(4):
        played = play(f"dots_and_boxes(num_rows={n},num_cols={n})", seed)
        claims(played.rules, f"{n} rows of {n} boxes", "Player 0 begins", "moves again", "equal numbers draw")
        every = set().union(*(sides(r, c) for r in range(n) for c in range(n)))
        score = {0: 0, 1: 0}
        assert played.seen[0].seat == 0
        for seen, after in pairs(played):
            drawn, owners = drawing(seen.told, n)
            assert set(seen.legal) == every - drawn
            mine, theirs = (list(owners.values()).count(mark) for mark in "YT")
            assert (mine, theirs) == (score[seen.seat], score[1 - seen.seat])
            assert re.match(rf"You have {mine} box(es)?, they have {theirs}\.\n", seen.told)
            new = [(r, c) for r in range(n) for c in range(n) if sides(r, c) - drawn == {seen.move}]
            score[seen.seat] += len(new)
            if after:
                assert after.seat == (seen.seat if new else 1 - seen.seat)
                assert drawing(after.told, n)[0] == drawn | {seen.move}
                owner = "Y" if after.seat == seen.seat else "T"
                assert all(drawing(after.told, n)[1][box] == owner for box in new)
        won(played, None if score[0] == score[1] else int(score[1] > score[0]))


# ---- Oware -----------------------------------------------------------------------------------------------------------


def houses(told: str, seat: int) -> tuple[list[int], list[int]]:
    """Seeds of A-F then a-f, and what each seat has captured."""
    groups = [[int(n) for n in re.findall(r"[A-Za-z] (\d+)", part)] for part in re.findall(r"houses: ([^.]*)\.", told)]
    mine, theirs = re.search(r"You have captured (\d+), they have captured (\d+)", told).groups()  # type: ignore[union-attr]
    captured = [int(mine), int(theirs)]
    return (groups[seat] + groups[1 - seat]), (captured if seat == 0 else captured[::-1])


def sow(seeds: list[int], seat: int, house: int) -> tuple[list[int], int]:
    """The seeds after a move, and what it captured."""
    after, at = seeds[:], house
    hand, after[house] = after[house], 0
    while hand:
        at = (at + 1) % 12
        if at != house:
            after[at] += 1
            hand -= 1
    theirs = range(6 * (1 - seat), 6 * (1 - seat) + 6)
    taken = []
    while at in theirs and after[at] in (2, 3):
        taken.append(at)
        at -= 1
    if taken and sum(after[i] for i in taken) == sum(after[i] for i in theirs):
        return after, 0
    total = sum(after[i] for i in taken)
    return [0 if i in taken else n for i, n in enumerate(after)], total


@pytest.mark.parametrize("seeds", [3, 4, 5])
def test_oware(seeds: int) -> None:
    kinds = set()
    for seed in range(25):
        played = play(f"oware(num_seeds_per_house={seeds})", seed)
        claims(
            played.rules, f"{seeds} seeds in each", "The player of A-F moves first", f"More than {6 * seeds} captured"
        )
        assert played.seen[0].seat == 0
        boards = set()
        for seen, after in pairs(played):
            now, captured = houses(seen.told, seen.seat)
            assert sum(now) + sum(captured) == 12 * seeds
            boards.add((seen.seat, tuple(now)))
            mine = range(6 * seen.seat, 6 * seen.seat + 6)
            moves = {i: sow(now, seen.seat, i) for i in mine if now[i]}
            theirs = range(6 - 6 * seen.seat, 12 - 6 * seen.seat)
            if not any(now[i] for i in theirs):
                moves = {i: m for i, m in moves.items() if any(m[0][j] for j in theirs)}
            assert set(seen.legal) == {"ABCDEFabcdef"[i] for i in moves}
            next_board, gained = moves["ABCDEFabcdef".index(seen.move)]
            captured[seen.seat] += gained
            if after:
                assert houses(after.told, after.seat) == (next_board, captured) and after.seat == 1 - seen.seat
        how = (
            "half"
            if max(captured) > 6 * seeds
            else "again"
            if (1 - seen.seat, tuple(next_board)) in boards
            else "stuck"
        )
        if how == "again":
            captured = [captured[i] + sum(next_board[6 * i : 6 * i + 6]) for i in (0, 1)]
        elif how == "stuck":  # who should move cannot, or cannot give the other any seeds
            captured[1 - seen.seat] += sum(next_board)
        kinds.add(how)
        won(played, None if captured[0] == captured[1] else int(captured[1] > captured[0]))
    assert {"half", "again"} <= kinds
