"""Liar's dice, backgammon, Goofspiel, phantom tic-tac-toe, 2048, blackjack and solitaire, refereed from their rules."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import pytest
from tests.envs.texts.rig import board, name, pairs, place, play
from tests.envs.texts.test_boards import claims, squares, won

# ---- Goofspiel -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [8, 10, 12, 14, 16])
def test_goofspiel(n: int) -> None:
    for seed in range(3):
        played = play(f"goofspiel(num_cards={n},points_order=random)", seed)
        claims(
            played.rules,
            f"cards 1 to {n}",
            "with equal cards nobody gets them",
            "The last cards are played by themselves",
        )
        hands, points, prizes = [set(range(1, n + 1)), set(range(1, n + 1))], [0, 0], set(range(1, n + 1))
        for i in range(0, len(played.seen), 2):
            both = played.seen[i : i + 2]
            assert [seen.seat for seen in both] == [0, 1]
            prize = int(re.match(r"Prize now: (\d+)\.", both[0].told)[1])  # type: ignore[index]
            prizes.remove(prize)
            to_come = " ".join(map(str, sorted(prizes))) or "none"
            for seen in both:
                mine, theirs = (" ".join(map(str, sorted(hands[s]))) for s in (seen.seat, 1 - seen.seat))
                assert seen.told == (
                    f"Prize now: {prize}. Prizes to come: {to_come}. Your cards: {mine}. Their cards: {theirs}. "
                    f"You have {points[seen.seat]} point{'s' * (points[seen.seat] != 1)}, they have {points[1 - seen.seat]}."
                )
                assert set(seen.legal) == {str(card) for card in hands[seen.seat]}
            bids = [int(seen.move) for seen in both]
            if bids[0] != bids[1]:
                points[bids[1] > bids[0]] += prize
            for seat in (0, 1):
                hands[seat].remove(bids[seat])
        assert [len(hand) for hand in hands] == [1, 1]
        last = [hand.pop() for hand in hands]
        if last[0] != last[1]:
            points[last[1] > last[0]] += prizes.pop()
        won(played, None if points[0] == points[1] else int(points[1] > points[0]))


# ---- Liar's dice -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dice", "sides"), [(5, 6), (2, 4)])
def test_liars_dice(dice: int, sides: int) -> None:
    results = Counter()
    for seed in range(40):
        cautious = lambda told, legal: legal[len(told) % min(4, len(legal))]  # noqa: E731
        played = play(f"liars_dice(numdice={dice},dice_sides={sides})", seed, cautious if seed % 2 else None)
        claims(played.rules, "Player 0 bids first", f"faces of {sides} are wild", f"all {2 * dice} dice")
        bids: list[tuple[int, int]] = []
        hands: dict[int, list[int]] = {}
        for number, seen in enumerate(played.seen):
            assert seen.seat == number % 2
            hands.setdefault(seen.seat, [int(d) for d in re.match(r"Your dice: ([\d ]+)\.", seen.told)[1].split()])  # type: ignore[index]
            words = [f"{'you' if i % 2 == seen.seat else 'they'} {n}-{f}" for i, (n, f) in enumerate(bids)]
            assert (
                seen.told == f"Your dice: {' '.join(map(str, hands[seen.seat]))}. Bids: {', '.join(words) or 'none'}."
            )
            every = [(n, f) for n in range(1, 2 * dice + 1) for f in range(1, sides + 1)]
            higher = {f"{n}-{f}" for n, f in every if not bids or (n, f) > bids[-1]}
            assert set(seen.legal) == higher | ({"Liar"} if bids else set())
            if seen.move != "Liar":
                bids.append(tuple(int(x) for x in seen.move.split("-")))  # type: ignore[arg-type]
        rolled = [
            int(d) for d in str(played.end).replace("-", " ").split()[0] + str(played.end).replace("-", " ").split()[1]
        ]
        assert all(sorted(rolled[s * dice : s * dice + dice]) == sorted(hand) for s, hand in hands.items())
        n, face = bids[-1]
        true = sum(die in (face, sides) for die in rolled) >= n
        bidder = (len(bids) - 1) % 2
        assert played.seen[-1].move == "Liar" and played.seen[-1].seat == 1 - bidder
        results[true] += 1
        won(played, bidder if true else 1 - bidder)
    assert len(results) == 2


# ---- Phantom tic-tac-toe ---------------------------------------------------------------------------------------------

LINES = [[(0, i), (1, i), (2, i)] for i in range(3)] + [[(i, 0), (i, 1), (i, 2)] for i in range(3)]
LINES += [[(0, 0), (1, 1), (2, 2)], [(0, 2), (1, 1), (2, 0)]]


@pytest.mark.parametrize("obstype", ["reveal-nothing", "reveal-numturns"])
def test_phantom_ttt(obstype: str) -> None:
    taken = 0
    for seed in range(20):
        played = play(f"phantom_ttt(obstype={obstype})", seed)
        claims(played.rules, "x moves first", "rows 1-3 from the top", "try another", "a full board is a draw")
        truth, known = [["."] * 3 for _ in range(3)], [[["."] * 3 for _ in range(3)] for _ in "xo"]
        tries: list[tuple[int, str]] = []
        assert played.seen[0].seat == 0
        for seen, after in pairs(played):
            mark = "xo"[seen.seat]
            words = [
                f"you {t}" if s == seen.seat else "they tried"
                for s, t in tries
                if s == seen.seat or obstype == "reveal-numturns"
            ]
            assert seen.told.startswith(f"You are {mark}. Tries so far: {', '.join(words) or 'none'}. What you know:\n")
            assert board(seen.told) == known[seen.seat]
            assert set(seen.legal) == {name(r, c) for r, c in squares(known[seen.seat], ".")}
            r, c = place(seen.move)
            free = truth[r][c] == "."
            if free:
                truth[r][c] = mark
            known[seen.seat][r][c] = truth[r][c]
            tries.append((seen.seat, seen.move if free else f"{seen.move} (taken)"))
            taken += not free
            if after:
                assert after.seat == (1 - seen.seat if free else seen.seat)
        line = any(all(truth[r][c] == mark for r, c in cells) for cells in LINES)
        assert line or not list(squares(truth, "."))
        won(played, seen.seat if line else None)
    assert taken > 10


# ---- Backgammon ------------------------------------------------------------------------------------------------------

Position = tuple[
    tuple[int, ...], tuple[int, ...]
]  # checkers on 0 (off), points 1-24 and 25 (bar); theirs the same, as they count


def backgammon_position(told: str) -> Position:
    found = []
    for line in told.splitlines()[1:]:
        points, bar, off = re.match(r"\w+: (.*); bar (\d+), off (\d+)", line).groups()  # type: ignore[union-attr]
        numbers = {int(p): int(n) for p, n in (item.split(": ") for item in points.split(", ") if item != "none")}
        found.append([int(off), *(numbers.get(p, 0) for p in range(1, 25)), int(bar)])
    mine, theirs = found
    return tuple(mine), (theirs[0], *(theirs[25 - p] for p in range(1, 25)), theirs[25])


def moved(at: Position, point: int, to: int) -> Position:
    mine, theirs = list(at[0]), list(at[1])
    mine[point] -= 1
    mine[to] += 1
    if to and theirs[25 - to]:
        theirs[25 - to] -= 1
        theirs[25] += 1
    return tuple(mine), tuple(theirs)


def single(at: Position, die: int) -> list[tuple[int, int]]:
    """Moves of one checker by one die: (from, to)."""
    mine, theirs = at
    found = []
    for point in [25] if mine[25] else [p for p in range(1, 25) if mine[p]]:
        to = point - die
        if to >= 1 and theirs[25 - to] <= 1:
            found.append((point, to))
        if to <= 0 and not any(mine[7:26]) and (to == 0 or not any(mine[point + 1 : 7])):
            found.append((point, 0))
    return found


def plays(at: Position, dice: Sequence[int]) -> set[Position]:
    """Positions after using as many of two dice as possible, and the higher one if only one can be used."""
    found: list[tuple[int, int, Position]] = []  # dice used, the die, the position
    for first, second in {(dice[0], dice[1]), (dice[1], dice[0])}:
        for move in single(at, first):
            after = moved(at, *move)
            found.append((1, first, after))
            found += [(2, 0, moved(after, *again)) for again in single(after, second)]
    if not found:
        return {at}
    most = max((used, die) for used, die, _ in found)
    return {position for used, die, position in found if (used, die) == most}


def named(at: Position, text: str) -> Position:
    """The position after a move as it is written, for example `Bar/20/16* 6/1`."""
    for part in text.split(" ") if text != "Pass" else []:
        part, _, times = part.rstrip(")").partition("(")
        stops = part.split("/")
        for again in range(int(times or 1)):
            for a, b in pairwise(stops):
                point, to = (
                    (25 if a == "Bar" else int(a.rstrip("*"))),
                    (0 if b.startswith("Off") else int(b.rstrip("*"))),
                )
                assert again or b.endswith("*") == bool(to and at[1][25 - to] == 1), text
                at = moved(at, point, to)
    return at


@pytest.mark.parametrize("seed", range(2))
def test_backgammon(seed: int) -> None:
    played = play("backgammon", seed)
    claims(
        played.rules, "your point p is their point 25 - p", "the higher if either can be", "bears off all 15 first wins"
    )
    again, largest = False, 0
    for seen, after in pairs(played):
        at = backgammon_position(seen.told)
        dice = [int(d) for d in re.match(r"You rolled (\d) and (\d)", seen.told).groups()]  # type: ignore[union-attr]
        assert all(sum(side) == 15 for side in at)
        if dice[0] == dice[1]:
            assert ("the last two of four" if again else "the first two of four") in seen.told
        else:
            assert not again
        assert {named(at, move) for move in seen.legal} == plays(at, dice)
        largest = max(largest, len(seen.legal))
        result = named(at, seen.move)
        again = dice[0] == dice[1] and not again
        if after:
            next_at = backgammon_position(after.told)
            if after.seat == seen.seat:
                assert next_at == result
            else:
                assert next_at == (result[1], result[0])
                again = False
    assert result[0][0] == 15
    won(played, seen.seat)


def test_backgammon_starts_as_everybody_does() -> None:
    at = backgammon_position(play("backgammon", 0).seen[0].told)
    start = {24: 2, 13: 5, 8: 3, 6: 5}
    assert at == (tuple(start.get(p, 0) for p in range(26)),) * 2


# ---- 2048 ------------------------------------------------------------------------------------------------------------


Grid = list[list[float]]  # a number and a half is a tile that the last move made


def slide(row: list[float]) -> tuple[list[float], int, bool]:
    """What becomes of a row that slides to the left: tiles, score, and whether that makes the move allowed."""
    tiles, out, score = [n for n in row if n], [], 0
    allowed = row[: len(tiles)] != tiles or any(int(a) == int(b) and a == int(a) for a, b in pairwise(tiles))
    while tiles:
        if len(tiles) > 1 and int(tiles[0]) == int(tiles[1]):
            out.append(2 * int(tiles[0]) + 0.5)
            score += 2 * int(tiles[0])
            tiles = tiles[2:]
        else:
            out.append(int(tiles.pop(0)))
    return out + [0] * (4 - len(out)), score, allowed


def turned(rows: Grid, times: int) -> Grid:
    """Quarter turns to the left."""
    for _ in range(times % 4):
        rows = [list(row) for row in zip(*rows, strict=True)][::-1]
    return rows


def shifted(rows: Grid, move: str) -> tuple[Grid, int, bool]:
    times = {"Left": 0, "Up": 1, "Right": 2, "Down": 3}[move]
    slid = [slide(row) for row in turned(rows, times)]
    after = turned([row for row, _, _ in slid], -times)
    return after, sum(score for _, score, _ in slid), any(allowed for _, _, allowed in slid)


def tiles(told: str) -> list[list[int]]:
    return [[int(cell.replace(".", "0")) for cell in line.split()] for line in told.splitlines()]


@pytest.mark.parametrize("text", ["2048", "2048(max_tile=64)"])
def test_2048(text: str) -> None:
    new, total = Counter(), 0
    for seed in range(6):
        played, score = play(text, seed), 0
        claims(played.rules, "once per move", "one time in ten", "with a tile of " + ("64" if "64" in text else "2048"))
        merged: Grid = [[0] * 4] * 4
        for seen, after in pairs(played):
            shown = tiles(seen.told)
            rows = [
                [m if int(m) == n else n for n, m in zip(*two, strict=True)] for two in zip(shown, merged, strict=True)
            ]
            moves = {move: shifted(rows, move) for move in ("Up", "Right", "Down", "Left")}
            assert set(seen.legal) == {move for move, (_, _, allowed) in moves.items() if allowed}
            merged, gained, _ = moves[seen.move]
            result = [[int(n) for n in row] for row in merged]
            score += gained
            if after:
                both = [list(zip(x, y, strict=True)) for x, y in zip(result, tiles(after.told), strict=True)]
                new_tiles = [(a, b) for row in both for a, b in row if a != b]
                assert len(new_tiles) == 1 and new_tiles[0][0] == 0 and new_tiles[0][1] in (2, 4)
                new[new_tiles[0][1]] += 1
        total += score
        assert played.returns == (score,)
        final = tiles(str(played.end))
        stuck = all(n for row in final for n in row) and not any(shifted(final, move)[2] for move in ("Up", "Left"))
        assert stuck or max(map(max, result)) == (64 if "64" in text else 2048)
    assert 0.05 < new[4] / sum(new.values()) < 0.15 and total > 0


# ---- Blackjack -------------------------------------------------------------------------------------------------------


def counted(cards: Sequence[str]) -> int:
    """Suit then rank: aces 1 or 11, pictures 10."""
    values = [{"A": 1, "T": 10, "J": 10, "Q": 10, "K": 10}.get(card[1]) or int(card[1]) for card in cards]
    return sum(values) + (10 if 1 in values and sum(values) <= 11 else 0)


def test_blackjack() -> None:
    ends, soft = Counter(), 0
    for seed in range(300):
        played = play("blackjack", seed)
        claims(played.rules, "pictures 10", "17 or more", "equal counts are a draw", "win no more")
        for seen, after in pairs(played):
            told = re.fullmatch(
                r"Your cards: ([^;]*); they count (\d+)( \(an ace as 11\))?\. The dealer shows (\w\w)\.", seen.told
            )
            assert told and seen.legal == ("Hit", "Stand")
            mine = told[1].split()
            assert counted(mine) == int(told[2])
            assert bool(told[3]) == (counted(mine) > sum(1 if c[1] == "A" else min(counted([c]), 10) for c in mine))
            if after:
                assert seen.move == "Hit" and after.told.startswith(f"Your cards: {told[1]} ")
        end = str(played.end)
        final, dealer = (re.search(rf"{who}: Cards: (.*)", end)[1].split() for who in ("Player 0", "Dealer"))  # type: ignore[index]
        assert dealer[1] == told[4]
        if counted(final) > 21:
            assert played.seen[-1].move == "Hit"
            expected = -1
        else:
            assert counted(dealer) >= 17 and all(counted(dealer[:i]) < 17 for i in range(2, len(dealer)))
            soft += any(card[1] == "A" for card in dealer) and counted(dealer) == 17
            expected = (
                1 if counted(dealer) > 21 else (counted(final) > counted(dealer)) - (counted(final) < counted(dealer))
            )
        ends[expected] += 1
        assert played.returns == (expected,)
    assert len(ends) == 3 and soft


# ---- Solitaire -------------------------------------------------------------------------------------------------------

RANKS = "A23456789TJQK"


def red(card: str) -> bool:
    return card[1] in "HD"


def solitaire_position(told: str) -> tuple[list[str], list[str], list[tuple[int, list[str]]], int]:
    """Waste, foundations (-S where empty, 4S where up to the four), columns (face down, face up), moves left."""
    lines = dict(line.split(": ", 1) for line in told.splitlines())
    waste = [] if lines["Waste"] == "empty" else lines["Waste"].split()
    assert [i for i, card in enumerate(waste) if card.startswith("[")] == list(range(0, len(waste), 3))
    done = [p.split()[-1] if "up to" in p else f"-{p.split()[0]}" for p in lines["Foundations"].split(", ")]
    columns = []
    empty = int(lines.get("Empty columns", 0))
    for i in range(7 - empty):
        hidden = re.match(r"(\d) face down, ", lines[f"Column {i + 1}"])
        columns.append((int(hidden[1]) if hidden else 0, lines[f"Column {i + 1}"].split(", ")[-1].split()))
    columns += [(0, [])] * empty
    return [card.strip("[]") for card in waste], done, columns, int(lines["Moves left"].rstrip("."))


@pytest.mark.parametrize("eager", [False, True])
def test_solitaire(eager: bool) -> None:
    scored: set[str] = set()
    for seed in range(15):
        played = play(
            "solitaire",
            seed,
            (lambda told, legal: next((m for m in legal if "foundation" in m), None)) if eager else None,
        )
        claims(
            played.rules,
            "the first card and every third after it",
            "alternating colours",
            "only a king moves to an empty column",
        )
        score = 0
        for seen, after in pairs(played):
            waste, done, columns, left = solitaire_position(seen.told)
            ends = [cards[-1] for _, cards in columns if cards]
            sources = {card for _, cards in columns for card in cards} | set(waste[::3])
            tops = {card for card in done if card[0] != "-"}
            legal = set()
            for card in sources | tops:
                rank = RANKS.index(card[0])
                for end in ends:
                    if RANKS.index(end[0]) == rank + 1 and red(end) != red(card):
                        legal.add(f"{card} onto {end}")
                at_home = (0, card) in [(hidden, cards[0]) for hidden, cards in columns if cards]
                if card[0] == "K" and card not in tops and not at_home and any(not cards for _, cards in columns):
                    legal.add(f"{card} to an empty column")
                below = f"{RANKS[rank - 1] if rank else '-'}{card[1]}"
                if below in done and card not in tops and (card in ends or card in waste[::3]):
                    legal.add(f"{card} to its foundation")
            assert set(seen.legal) == (legal or {"End"}), (seen.told, set(seen.legal) ^ legal)
            card = seen.move.split()[0]
            if seen.move == "End":
                assert not after
                continue
            value = [100, 90, 80, 70, 60, 50, 40, 30, 20, 10, 10, 10, 10][RANKS.index(card[0])]
            gained = value if "foundation" in seen.move else -value if card in tops else 0
            if "foundation" in seen.move:
                scored.add(card[0])
            hidden = sum(n for n, _ in columns)
            lifted = [
                (n, cards) for n, cards in columns if (cards and cards[0] == card) or cards[-1:] == [card] == cards[:1]
            ]
            turned = any(n for n, _ in lifted)
            gained += 20 * turned + 20 * (card in waste)
            score += gained
            if after:
                _, _, columns_after, left_after = solitaire_position(after.told)
                assert sum(n for n, _ in columns_after) == hidden - turned
                assert left_after == left - 1 - turned
        assert played.returns == (score,)
        assert seen.move == "End" or solitaire_position(seen.told)[3] <= 2
    assert not eager or len(scored) >= 6
