"""Hearts, Euchre, bridge bidding and gin rummy, refereed from their rules texts."""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache
from itertools import combinations

import pyspiel
import pytest
from tests.envs.texts.rig import Played, pairs, play
from tests.envs.texts.test_boards import claims

from ludora.envs.openspiel import state_turn
from ludora.envs.openspiel_games import load
from ludora.grammar import parse

SEATS = ("North", "East", "South", "West")
RANKS = "23456789TJQKA"


def hand_of(told: str, suit_first: bool) -> set[str]:
    cards = re.search(r"Your hand: ([^.]*)\.", told)[1]  # type: ignore[index]
    suits = [part.split() for part in cards.split(", ") if len(part.split()) == 2]
    return {suit + rank if suit_first else rank + suit for suit, ranks in suits for rank in ranks}


def tricks_of(told: str) -> list[list[tuple[int, str]]]:
    """Tricks as (seat, card) in the order of play."""
    text = re.search(r"Tricks so far: ([^.]*)\.", told)[1]  # type: ignore[index]
    found = [] if text == "none" else [part.split(": ")[1].split(", ") for part in text.split("; ")]
    return [[("NESW".index(item[0]), item[2:]) for item in trick] for trick in found]


# ---- Hearts ----------------------------------------------------------------------------------------------------------


def hearts_points(card: str) -> int:
    return 13 if card == "QS" else card[1] == "H"


def hearts_legal(hand: set[str], trick: list[str], broken: bool, first: bool) -> set[str]:
    if not trick:
        if first:
            return {"2C"}
        return {card for card in hand if card[1] != "H"} if not broken and any(c[1] != "H" for c in hand) else hand
    follow = {card for card in hand if card[1] == trick[0][1]}
    if follow:
        return follow
    clean = {card for card in hand if not hearts_points(card)}
    return clean if first and clean else hand


def greedy_north(told: str, legal: tuple[str, ...]) -> str:
    pick = max if "You are North" in told else min
    return pick(legal, key=lambda card: RANKS.index(card[0]))


@pytest.mark.parametrize("config", range(8))
def test_hearts(config: int) -> None:
    passing, jack, empty = bool(config & 1), bool(config & 2), bool(config & 4)
    options = f"pass_cards={passing},jd_bonus={jack},avoid_all_tricks_bonus={empty}"
    directions, bare = set(), 0
    # In every fourth game North tries for all the points; in the last one somebody takes them, and another no trick.
    for seed in (*range(8), 29 if passing else 426):
        played = play(f"hearts({options.lower()})", seed, greedy_north if seed % 4 == 3 or seed > 7 else None)
        claims(played.rules, "Who holds 2C leads it", "QS 13", "who takes all 26 counts 0")
        told = [words in played.rules for words in ("three cards", "JD", "less, unless one takes all 26")]
        assert told == [passing, jack, empty]
        hands, passed = {}, {seat: set() for seat in range(4)}
        tricks: list[list[tuple[int, str]]] = []
        direction = (re.search(r"Passing: (\w+)\.", played.seen[0].told) or [None, "none"])[1]
        directions.add(direction)
        for number, seen in enumerate(played.seen):
            assert seen.told.startswith(f"You are {SEATS[seen.seat]}.")
            hand = hand_of(seen.told, suit_first=False)
            if "Choose a card to pass." in seen.told:
                assert number < 12 and seen.seat == number // 3
                assert set(seen.legal) == hand and len(hand) == 13 - len(passed[seen.seat])
                passed[seen.seat].add(seen.move)
                continue
            if direction != "none":
                gave = re.search(r"You passed: ([^.]*)\. You received: ([^.]*)\.", seen.told)
                giver = (seen.seat - {"left": 1, "across": 2, "right": 3}[direction]) % 4
                assert gave and set(gave[1].split()) == passed[seen.seat] and set(gave[2].split()) == passed[giver]
            assert tricks_of(seen.told) == tricks
            hands.setdefault(seen.seat, set(hand))
            assert hand == hands[seen.seat]
            current = tricks[-1] if tricks and len(tricks[-1]) < 4 else []
            if not current:
                tricks.append(current := [])
                if len(tricks) > 1:
                    assert seen.seat == winner_of(tricks[-2])
            broken = any(hearts_points(card) for trick in tricks for _, card in trick)
            assert set(seen.legal) == hearts_legal(hand, [card for _, card in current], broken, len(tricks) == 1)
            current.append((seen.seat, seen.move))
            hands[seen.seat].remove(seen.move)
        assert [len(trick) for trick in tricks] == [4] * 13
        taken: dict[int, list[str]] = {seat: [] for seat in range(4)}
        for trick in tricks:
            taken[winner_of(trick)] += [card for _, card in trick]
        points = [sum(map(hearts_points, taken[seat])) for seat in range(4)]
        swept = 26 in points
        if swept:
            points = [26 - p for p in points]
            bare += any(not cards for cards in taken.values())
        for s in range(4):
            points[s] -= 10 * (jack and "JD" in taken[s]) + 5 * (empty and not swept and not taken[s])
        assert list(played.returns) == [26 - p for p in points]
    assert (directions == {"none"}) != passing and bare


def winner_of(trick: list[tuple[int, str]]) -> int:
    suit = trick[0][1][1]
    return max((RANKS.index(card[0]), seat) for seat, card in trick if card[1] == suit)[1]


def test_hearts_without_passing_never_passes() -> None:
    """The engine lists directions of passing where there is none; ours does not let them happen."""
    for seed in range(12):
        played = play("hearts(pass_cards=false)", seed)
        assert "Passing" not in played.seen[0].told and len(played.seen) == 52


# ---- Euchre ----------------------------------------------------------------------------------------------------------

SUITS = {"C": "clubs", "D": "diamonds", "H": "hearts", "S": "spades"}
COLOUR = {"C": "S", "S": "C", "D": "H", "H": "D"}


def suit_of(card: str, trump: str) -> str:
    return trump if card[1] == "J" and COLOUR[card[0]] == trump else card[0]


def strength(card: str, trump: str, led: str) -> int:
    if card[1] == "J" and suit_of(card, trump) == trump:
        return 100 if card[0] == trump else 99
    return RANKS.index(card[1]) + {trump: 50, led: 20}.get(card[0], 0)


@pytest.mark.parametrize("config", range(4))
def test_euchre(config: int) -> None:
    lone, stick = bool(config & 1), bool(config & 2)
    scores: Counter[float] = Counter()
    for seed in range(240):
        pass_on = lambda told, legal: "Pass" if "Pass" in legal else None  # noqa: E731
        text = f"euchre(allow_lone_defender={lone},stick_the_dealer={stick})".lower()
        played = play(text, seed, (None, bold, pass_on)[seed % 3])
        claims(
            played.rules,
            "Beginning at the dealer's left",
            "The jack of trump is the highest trump",
            "4 for all five alone",
        )
        assert ("defend alone" in played.rules, "must name one" in played.rules) == (lone, stick)
        scores[euchre_referee(played, lone, stick)] += 1
    assert {1.0, 2.0, 4.0} <= {abs(score) for score in scores} and (0.0 in scores) != stick


def bold(told: str, legal: tuple[str, ...]) -> str | None:
    """Name a suit with its jack and two more, play alone, and lead what is strong."""
    hand = hand_of(told, suit_first=True)
    if "Alone" in legal:
        return "Alone" if len(told) % 3 else None
    if "Pass" in legal:
        good = [
            s for s in SUITS if SUITS[s].capitalize() in legal and s + "J" in hand and sum(c[0] == s for c in hand) > 2
        ]
        return SUITS[good[0]].capitalize() if good else "Pass"
    trump = next((s for s in SUITS if f"Trump: {SUITS[s]}." in told), None)
    return max(legal, key=lambda card: strength(card, trump, "")) if trump and "discard" not in told else None


def euchre_referee(played: Played, lone: bool, stick: bool) -> float:
    """Follow one deal by the rules; what North and South scored."""
    first = played.seen[0].told
    dealer = SEATS.index(re.search(r"Dealer: (\w+)", first)[1])  # type: ignore[index]
    upcard = re.search(r"Upcard: (\w+)", first)[1]  # type: ignore[index]
    bids: list[str] = []
    trump = declarer = None
    out: set[int] = set()
    asked = [(dealer + i) % 4 for i in range(1, 9)]
    alone: dict[int, bool] = {}
    hands: dict[int, set[str]] = {}
    tricks: list[list[tuple[int, str]]] = []
    for seen in played.seen:
        told, hand = seen.told, hand_of(seen.told, suit_first=True)
        assert told.startswith(f"You are {SEATS[seen.seat]}, your partner is {SEATS[(seen.seat + 2) % 4]}.")
        assert f"Dealer: {SEATS[dealer]}. Upcard: {upcard}. Bids: {', '.join(bids) or 'none'}." in told
        assert (f"Trump: {SUITS[trump]}." in told) if trump else ("Trump" not in told)
        if trump is None:
            assert seen.seat == asked[len(bids)] and len(hand) == 5
            second = len(bids) >= 4
            suits = {SUITS[s].capitalize() for s in SUITS if (s == upcard[0]) != second}
            forced = stick and len(bids) == 7
            assert set(seen.legal) == suits | (set() if forced else {"Pass"})
            if seen.move == "Pass":
                bids.append(f"{SEATS[seen.seat]} pass")
            else:
                trump, declarer = seen.move[0], seen.seat
                bids.append(f"{SEATS[seen.seat]} {seen.move.lower()}")
        elif "choose a card to discard" in told:
            assert seen.seat == dealer and len(bids) <= 4 and len(hand) == 6 and upcard in hand
            assert set(seen.legal) == hand - {upcard}
            hands[dealer] = hand - {seen.move}
        elif "Choose to play alone" in told:
            assert set(seen.legal) == {"Alone", "Partner"}
            defenders = [s for s in asked[:4] if (s - declarer) % 2] if lone else []
            assert seen.seat == ([declarer, *defenders])[len(alone)]
            assert lone_of(told) == ({declarer: "declarer"} if alone.get(declarer) else {})
            alone[seen.seat] = seen.move == "Alone"
            if alone[seen.seat]:
                out.add((seen.seat + 2) % 4)
        else:
            hands.setdefault(seen.seat, hand)
            assert hand == hands[seen.seat] and tricks_of(told) == [t for t in tricks if t]
            assert lone_of(told) == {s: "declarer" if s == declarer else "defender" for s in alone if alone[s]}
            size = 4 - len(out)
            if not tricks or len(tricks[-1]) == size:
                before = euchre_winner(tricks[-1], trump) if tricks else next(s for s in asked if s not in out)
                assert seen.seat == before
                tricks.append([])
            else:
                turns = [(tricks[-1][-1][0] + i) % 4 for i in (1, 2, 3)]
                assert seen.seat == next(s for s in turns if s not in out)
            led = suit_of(tricks[-1][0][1], trump) if tricks[-1] else None
            follow = {card for card in hand if suit_of(card, trump) == led}
            assert set(seen.legal) == (follow or hand)
            tricks[-1].append((seen.seat, seen.move))
            hands[seen.seat].remove(seen.move)
    if trump is None:
        assert played.returns == (0, 0, 0, 0) and len(bids) == 8
        return 0.0
    won = sum(euchre_winner(trick, trump) % 2 == declarer % 2 for trick in tricks)
    defended = any(value for seat, value in alone.items() if seat != declarer)
    score = (4 if alone[declarer] else 2) if won == 5 else 1 if won >= 3 else -4 if defended else -2
    expected = [score if seat % 2 == declarer % 2 else -score for seat in range(4)]
    assert len(tricks) == 5 and list(played.returns) == expected
    return float(expected[0])


def lone_of(told: str) -> dict[int, str]:
    """Who plays alone, by seat."""
    return {SEATS.index(who): side for who, side in re.findall(r"(\w+), (?:the|a) (\w+), plays alone\.", told)}


def euchre_winner(trick: list[tuple[int, str]], trump: str) -> int:
    led = suit_of(trick[0][1], trump)
    return max((strength(card, trump, led), seat) for seat, card in trick)[1]


# ---- Bridge ----------------------------------------------------------------------------------------------------------

STRAINS = ("C", "D", "H", "S", "NT")


def duplicate(level: int, strain: str, doubled: int, vulnerable: bool, tricks: int) -> int:
    """The score of a contract (doubled: 0, 1, 2) with so many tricks."""
    over = tricks - level - 6
    if over < 0:
        if not doubled:
            return 50 * (1 + vulnerable) * over
        down = -over
        if vulnerable:
            return -(300 * down - 100) * doubled
        return -([0, 100, 300, 500][min(down, 3)] + 300 * max(down - 3, 0)) * doubled
    each = 20 if strain in "CD" else 30
    points = (each * level + 10 * (strain == "NT")) * 2**doubled
    score = points + (50 if points < 100 else 500 if vulnerable else 300) + 50 * doubled
    score += {6: 750 if vulnerable else 500, 7: 1500 if vulnerable else 1000}.get(level, 0)
    return score + over * (100 * doubled * (1 + vulnerable) if doubled else each)


@pytest.mark.parametrize(
    ("options", "vulnerable"),
    [("", "none"), ("(dealer_vul=true)", "North-South"), ("(dealer_vul=true,non_dealer_vul=true)", "both")],
)
def test_bridge(options: str, vulnerable: str) -> None:
    kinds = Counter()
    for seed in range(5):
        played = play(f"bridge{options}", seed, (sober, sober, sober, sober, lambda told, legal: "Pass")[seed])
        claims(
            played.rules,
            "The dealer (North) begins",
            "C, D, H, S, NT",
            "four passes at the start",
            "The cards are not played",
        )
        calls: list[str] = []
        for number, seen in enumerate(played.seen):
            seat = number % 4
            assert seen.seat == seat
            words = [f"{SEATS[i % 4]} {call}" for i, call in enumerate(calls)]
            assert (
                seen.told.split("\n")[1]
                == f"Dealer: North. Vulnerable: {vulnerable}. Bids: {', '.join(words) or 'none'}."
            ), seen.told
            hand = hand_of(seen.told.replace(" none,", " ,").replace(" none.", " ."), suit_first=True)
            assert len(hand) == 13
            bid, bidder, doubled = contract(calls)
            legal = {"Pass"} | {
                f"{n}{s}" for n in range(1, 8) for s in STRAINS if not bid or (n, STRAINS.index(s)) > bid
            }
            if bid and (bidder - seat) % 2 and doubled == 0:
                legal.add("Double")
            if bid and not (bidder - seat) % 2 and doubled == 1:
                legal.add("Redouble")
            assert set(seen.legal) == legal
            calls.append(seen.move)
        assert calls[-3:] == ["Pass"] * 3
        bid, bidder, doubled = contract(calls)
        if not bid:
            assert calls == ["Pass"] * 4 and played.returns == (0, 0, 0, 0)
            continue
        tricks = int(re.search(r"Declarer tricks: (\d+)", str(played.end))[1])  # type: ignore[index]
        at_risk = vulnerable == "both" or (vulnerable == "North-South" and bidder % 2 == 0)
        score = duplicate(bid[0], STRAINS[bid[1]], doubled, at_risk, tricks)
        kinds[score > 0, doubled] += 1
        assert list(played.returns) == [score if (seat - bidder) % 2 == 0 else -score for seat in range(4)]
    assert len(kinds) >= 2


def sober(told: str, legal: tuple[str, ...]) -> str:
    """A low bid or two, sometimes doubled, and then passes."""
    bids = 0 if "Bids: none" in told else told.count(",", told.index("Bids:")) + 1
    lot = sum(map(ord, told))
    if bids < 2:
        return legal[1 + lot % 7]
    if bids < 6 and lot % 3 == 0:
        return next((call for call in ("Double", "Redouble") if call in legal), "Pass")
    return "Pass"


def contract(calls: list[str]) -> tuple[tuple[int, int] | None, int, int]:
    """The last bid, who made it, and how often it is doubled."""
    bid, bidder, doubled = None, -1, 0
    for i, call in enumerate(calls):
        if call[0].isdigit():
            bid, bidder, doubled = (int(call[0]), STRAINS.index(call[1:])), i % 4, 0
        doubled = {"Double": 1, "Redouble": 2}.get(call, doubled)
    return bid, bidder, doubled


# ---- Gin rummy -------------------------------------------------------------------------------------------------------

LOW = "A23456789TJQK"


def value(card: str) -> int:
    return min(LOW.index(card[0]) + 1, 10)


def is_meld(cards: tuple[str, ...]) -> bool:
    ranks, suits = {c[0] for c in cards}, {c[1] for c in cards}
    if len(ranks) == 1:
        return True
    places = sorted(LOW.index(c[0]) for c in cards)
    return len(suits) == 1 and places == list(range(places[0], places[0] + len(cards)))


@lru_cache(maxsize=100_000)
def deadwood(hand: frozenset[str]) -> int:
    cards = sorted(hand)
    best = sum(map(value, cards))
    for size in (3, 4, 5):
        for meld in combinations(cards, size):
            if is_meld(meld):
                best = min(best, deadwood(hand - set(meld)))
    return best


def gin_cards(text: str) -> list[str]:
    return [] if text == "none" else text.split()


@pytest.mark.parametrize(("size", "knock"), [(7, 10), (8, 9), (9, 8)])
def test_gin_rummy(size: int, knock: int) -> None:
    results = Counter()
    for seed in range(10):
        played = play(f"gin_rummy(hand_size={size},knock_card={knock})", seed, sharp if seed % 5 else None)
        claims(
            played.rules,
            f"{size} cards each",
            f"At most {knock}".lower(),
            "ten and picture cards 10",
            "the ace is low",
            "player 0, then player 1",
        )
        knocker = None
        for number, (seen, after) in enumerate(pairs(played)):
            hand = frozenset(gin_cards(re.search(r"Your hand: ([^;]*);", seen.told)[1]))  # type: ignore[index]
            shown = int(re.search(r"deadwood (\d+)\.", seen.told)[1])  # type: ignore[index]
            upcard = re.search(r"Upcard: (\w+)\.", seen.told)[1]  # type: ignore[index]
            if seen.told.startswith("Take the upcard"):
                assert seen.seat == number and number < 2 and set(seen.legal) == {"Upcard", "Pass"}
                assert len(hand) == size and shown == deadwood(hand)
            elif seen.told.startswith("Both passed"):
                assert number == 2 and seen.seat == 0 and [s.move for s in played.seen[:2]] == ["Pass", "Pass"]
                assert seen.legal == ("Stock",)
            elif seen.told.startswith("Draw"):
                assert set(seen.legal) == {"Upcard", "Stock"}
                assert shown == deadwood(hand) and len(hand) == size
            elif seen.told.startswith("Discard"):
                assert len(hand) == size + 1
                least = min(deadwood(hand - {card}) for card in hand)
                assert set(seen.legal) == set(hand) | ({"Knock"} if least <= knock else set())
                assert shown == least or shown == deadwood(hand)
                if seen.move == "Knock":
                    knocker = seen.seat
            elif seen.told.startswith("You knock"):
                assert seen.seat == knocker
            elif seen.told.startswith("They knocked"):
                assert seen.seat != knocker
            else:
                assert seen.told.startswith("The stock is used up") and "Stock: 2 cards" in seen.told
            if seen.move == "Upcard" and after:
                assert upcard in after.told.split(";")[0]
            if after and after.seat != seen.seat and knocker is None and len(seen.move) == 2:
                assert f"Upcard: {seen.move}." in after.told
        assert ended_by_return(played) in ([], [len(played.seen)])
        if knocker is None:
            drawn = [seen.told.startswith("Draw") and seen.move == "Upcard" for seen in played.seen]
            often = drawn[-1] and sum(drawn) == 50
            wall = played.seen[-1].told.startswith("The stock is used up")
            results["stock" if wall else "often" if often else "returned"] += 1
            assert played.returns == (0, 0) and (wall or often or ended_by_return(played))
            continue
        mine, theirs = (
            int(re.search(rf"Player{p}: Deadwood=(\d+)", str(played.end))[1]) for p in (knocker, 1 - knocker)
        )  # type: ignore[index]
        gain = knock_gain(mine, theirs)
        results["gin" if mine == 0 else "knock" if gain > 0 else "undercut"] += 1
        assert mine <= knock and played.returns[knocker] == gain == -played.returns[1 - knocker]
    assert results["knock"] + results["gin"] + results["undercut"] >= 3


def ended_by_return(played: Played) -> list[int]:
    """After how many decisions two players in turn had taken the upcard and discarded it again."""
    upcards = [re.search(r"Upcard: (\w+)\.", seen.told)[1] for seen in played.seen]  # type: ignore[index]
    moves = [seen.move for seen in played.seen]
    back = [i for i in range(1, len(moves)) if (moves[i - 1], moves[i]) == ("Upcard", upcards[i - 1])]
    return [i + 1 for i in back if i - 2 in back]


def knock_gain(mine: int, theirs: int) -> int:
    """What a knocker gets for this deadwood and theirs."""
    return theirs - mine + (25 if mine == 0 else -25 if theirs < mine else 0)


@pytest.mark.parametrize(
    ("kept", "theirs", "other", "laid"),
    [
        ("6h", 5, "5d", "4s4c4d"),  # less deadwood than the knocker's
        ("5h", 5, "5d", "4s4c4d"),
        ("4h", 5, "5d", "4s4c4d"),
        ("2h", 5, "5d", "4s4c4d"),  # gin
        ("2h", 0, "4h", "4s4c4d4h"),
    ],
)
def test_gin_rummy_pays_knocks_as_the_rules_say(kept: str, theirs: int, other: str, laid: str) -> None:
    """Dealt so that player 0 has two melds and `kept`, player 1 two melds and `other`; player 0 knocks."""
    spec = parse("gin_rummy(hand_size=7)")
    claims(load(spec).rules.content, "has less deadwood than a knocker without gin", "with as much it is a draw")
    state = load(spec).game.new_initial_state()
    for card in f"As Ac Ad 2s 2c 2d {kept} 3s 3c 3d 4s 4c 4d {other} Kh".split():
        state.apply_action(LOW.index(card[0]) + 13 * "scdh".index(card[1]))
    gin = kept == "2h"
    moves = ["Upcard", "Knock", "Kh", "AsAcAd", "2s2c2d2h" if gin else "2s2c2d", "Pass"]
    for move in [*moves, *([] if gin else ["Pass"]), "3s3c3d", laid, "Pass"]:
        turn = state_turn(spec, state, state.current_player())
        state.apply_action(turn.state.actions[turn.legal.index(move)])
    gain = knock_gain(0 if gin else value(kept), theirs)
    assert state.returns() == [gain, -gain]


def sharp(told: str, legal: tuple[str, ...]) -> str | None:
    """Knock when it may be done; keep what lowers the deadwood."""
    if "Knock" in legal:
        return "Knock"
    hand = frozenset(gin_cards(re.search(r"Your hand: ([^;]*);", told)[1]))  # type: ignore[index]
    if told.startswith(("Draw", "Take")):
        upcard = re.search(r"Upcard: (\w+)\.", told)[1]  # type: ignore[index]
        better = min(deadwood(hand | {upcard} - {card}) for card in hand) < deadwood(hand)
        return "Upcard" if better else legal[1]
    if told.startswith("Discard"):
        return min(legal, key=lambda card: (deadwood(hand - {card}), card))
    if told.startswith(("You knock", "They knocked")):
        melds = [move for move in legal if len(move) > 4]
        return melds[0] if melds else None
    return None


@pytest.mark.parametrize("passes", [0, 1, 2])
@pytest.mark.parametrize("back", [False, True])
def test_gin_rummy_ends_when_upcards_go_round(passes: int, back: bool) -> None:
    """Both always take the upcard, and discard it again (`back`) or keep it."""
    upcards: list[str] = []

    def take(told: str, legal: tuple[str, ...]) -> str | None:
        if "Pass" in legal and told.startswith("Take") and len(upcards) < passes:
            upcards.append("passed")
            return "Pass"
        if "Upcard" in legal:
            upcards.append(re.search(r"Upcard: (\w+)\.", told)[1])  # type: ignore[index]
            return "Upcard"
        if not told.startswith("Discard"):
            return None
        others = [card for card in legal if card not in ("Knock", upcards[-1])]
        return upcards[-1] if back and upcards[-1] in legal else others[len(upcards) % len(others)]

    played = play("gin_rummy", passes, take)
    claims(
        played.rules, "one and then the other take the upcard and discard it again", "for the 50th time, not counting"
    )
    taken = [seen for seen in played.seen if seen.move == "Upcard"]
    first = any(seen.told.startswith("Take") for seen in taken)
    assert first == (passes < 2) and played.returns == (0, 0)
    assert len(taken) == (2 if back else 50 + first)
    assert played.seen[-1].move == (upcards[-1] if back else "Upcard")


def test_gin_rummy_tells_what_the_other_took_and_nothing_more() -> None:
    """The upcards that the other took and still holds are told; their hand is not."""
    spec, told = parse("gin_rummy"), 0
    for seed in range(5):
        played = play("gin_rummy", seed)
        state = pyspiel.load_game("gin_rummy").new_initial_state()
        taken: dict[int, set[str]] = {0: set(), 1: set()}
        for action in played.end.history():
            if not state.is_chance_node():
                seat = state.current_player()
                text = state_turn(spec, state, seat).messages[1].content
                found = re.search(r"They hold these, taken as upcards: ([^.]*)\.", text)
                if "laid" not in text and not text.startswith(("You knock", "They knocked")):
                    assert set(found[1].split() if found else []) == taken[1 - seat]
                    told += bool(found)
                if action == 52:
                    taken[seat].add(re.search(r"Upcard: (\w+)", text)[1])  # type: ignore[index]
                name = state.action_to_string(seat, action).split("Action: ")[1]
                taken[seat].discard(name)
            state.apply_action(action)
    assert told > 20
