"""Hearts, Euchre, bridge bidding, gin rummy: card games for two and four."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ludora.envs.texts.base import GameText, Params, as_named, field
from ludora.errors import InputError

SEATS = ("North", "East", "South", "West")


def _table(lines: Sequence[str], width: int) -> list[tuple[int, str]]:
    """(column, text) of the cells of a table whose columns are `width` wide, row by row."""
    cells = []
    for line in lines:
        for start in range(0, len(line), width):
            if text := line[start : start + width].strip():
                cells.append((start // width, text))
    return cells


def _part(text: str, head: str) -> list[str]:
    """The lines below the line `head` up to the next empty line or the next heading."""
    found = re.search(rf"^{head}[^\n]*\n(.*?)(?=^\s*$|^\w[^\n]*: |\Z)", text, re.MULTILINE | re.DOTALL)
    return found[1].splitlines() if found else []


def _tricks(text: str) -> str:
    """The tricks played so far, each in the order its cards were played."""
    told = []
    for i, line in enumerate(_part(text, "Tricks:")[1:]):
        cards = [f"{SEATS[column % 4][0]} {card}" for column, card in _table([line], 3)]
        told.append(f"{i + 1}: {', '.join(cards)}")
    return "; ".join(told) or "none"


def _hand(text: str) -> str:
    """`S T9, H AT97` from one line per suit; suits that are not held are left out."""
    suits = [line.strip() for line in _part(text, "Hand:")]
    return ", ".join(suit for suit in suits if not suit.endswith("none"))


# --- Hearts: pass direction, hand, tricks and points as tables ---


def _hearts_state(text: str, seat: int, params: Params) -> str:
    lines = [f"You are {SEATS[seat]}. Your hand: {_hand(text)}."]
    direction = field(text, "Pass Direction")
    if direction != "No Pass":
        lines.append(f"Passing: {direction.lower()}.")
    for what in ("Passed Cards", "Received Cards"):
        if cards := field(text, what):
            lines.append(f"You {what.split()[0].lower()}: {cards}.")
    if direction != "No Pass" and not field(text, "Received Cards"):
        lines.append("Choose a card to pass.")
        return " ".join(lines)
    points = ", ".join(f"{who} {field(text, who[0]) or 0}" for who in SEATS)
    return f"{' '.join(lines)}\nTricks so far: {_tricks(text)}.\nPoints: {points}."


def hearts(params: Params) -> GameText | None:
    """With the engine's usual rules of leading; passing and the bonuses as the parameters say."""
    usual = {"no_pts_on_first_trick": True, "can_lead_any_club": False, "can_lead_hearts_instead_of_qs": False}
    if any(params[key] != value for key, value in usual.items()):
        return None
    if not (params["must_break_hearts"] and params["qs_breaks_hearts"]):
        return None
    passing = (
        "Before play each player passes three cards, one by one, to the player named by the direction, which is drawn "
        "for each deal (left, right, across, or none). "
        if params["pass_cards"]
        else ""
    )
    bonus = " Taking JD counts 10 points less." if params["jd_bonus"] else ""
    if params["avoid_all_tricks_bonus"]:
        bonus += " A player without a trick counts 5 points less, unless one takes all 26."
    rules = (
        "Hearts, one deal, four players clockwise North, East, South, West, 13 cards each; aces are high. Cards are "
        f"rank then suit (TH: ten of hearts); a hand lists the ranks of each suit. {passing}Who holds 2C leads it. "
        "Follow the suit that was led if you can, else play any card; the highest card of that suit takes the trick, "
        "and its taker leads. Hearts may be led only after a heart or QS has been played, or from a hand of hearts "
        "alone. In the first trick nobody may play a heart or QS, unless all they hold are such cards. Each heart "
        f"taken counts 1 point, QS 13; who takes all 26 counts 0 and the others 26 each.{bonus} Fewest points are best."
    )
    return GameText(rules, _hearts_state, as_named)


# --- Euchre: dealer, upcard, hand, bids and tricks as tables; with the phase and the trump suit ---

_BIDS = range(24, 29)  # pass, and four suits
_TRUMPS = {"0": "clubs", "1": "diamonds", "2": "hearts", "3": "spades"}


def _euchre_reads(state: Any, seat: int) -> str:
    """Bids from the history: the engine's own table calls some bids of the second round by the wrong name.

    And who plays alone, of whom it names only the side.
    """
    bids = [
        f"{SEATS[item.player]} {state.action_to_string(item.player, item.action).lower()}"
        for item in state.full_history()
        if item.player >= 0 and item.action in _BIDS
    ]
    told = [state.information_state_string(seat), f"bids: {', '.join(bids)}"]
    told += [f"phase: {state.current_phase().name}", f"trump: {state.trump_suit()}"]
    for who, alone in (
        ("declarer", state.declarer() if state.declarer_go_alone() else -1),
        ("defender", state.lone_defender()),
    ):
        if alone >= 0:
            told.append(f"lone {who}: {SEATS[alone]}")
    return "\n".join(told)


def _euchre_state(text: str, seat: int, params: Params) -> str:
    parts = [
        f"You are {SEATS[seat]}, your partner is {SEATS[(seat + 2) % 4]}. Your hand: {_hand(text)}.",
        f"Dealer: {SEATS['NESW'.index(field(text, 'Dealer'))]}. Upcard: {field(text, 'Upcard')}.",
        f"Bids: {field(text, 'bids') or 'none'}.",
    ]
    if trump := _TRUMPS.get(field(text, "trump")):
        parts.append(f"Trump: {trump}.")
    phase = field(text, "phase")
    if phase == "DISCARD":
        parts.append("You took the upcard: choose a card to discard.")
    elif phase == "GO_ALONE":
        parts.append("Choose to play alone or with your partner.")
    for who in ("declarer", "defender"):
        if alone := field(text, f"lone {who}"):
            parts.append(f"{alone}, {'the' if who == 'declarer' else 'a'} {who}, plays alone.")
    if phase == "PLAY":
        parts.append(f"\nTricks so far: {_tricks(text)}.")
    return " ".join(parts).replace(" \n", "\n")


def euchre(params: Params) -> GameText | None:
    """All that the engine offers."""
    dealer = (
        "after that the dealer, if all others pass again, must name one."
        if params["stick_the_dealer"]
        else "if all pass again the deal is over without points."
    )
    lone = (
        " Then each defender in turn, beginning at the dealer's left, may choose to defend alone."
        if params["allow_lone_defender"]
        else ""
    )
    rules = (
        "Euchre, one deal, four players clockwise North, East, South, West; North and South are partners against East "
        "and West. 24 cards, nine to ace; five each and one turned up. Cards are suit then rank (HT: ten of hearts). "
        "Beginning at the dealer's left each player may pass or order the suit of the upcard as trump: then the dealer "
        "takes the upcard and discards another card. If all pass, each in turn may pass or name another suit; "
        f"{dealer} Who made trump is the declarer and says whether to play alone, the partner sitting out.{lone} The "
        "player at the dealer's left who is not sitting out leads. Follow suit if you can; the highest trump, else the "
        "highest card of the suit led, takes the trick and leads. The jack of trump is the highest trump, the jack of "
        "the other suit of its colour the second and counts as a trump; the others rank ace to nine. The declarer's "
        "side scores 1 for three or four tricks, 2 for all five, 4 for all five alone; otherwise the other side scores "
        "2" + (", or 4 if one of them defended alone." if params["allow_lone_defender"] else ".")
    )
    return GameText(rules, _euchre_state, as_named, _euchre_reads)


# --- Bridge: the auction alone; "You are North; you hold:", four suits, and the bids in columns from West ---

_CALLS = {"Dbl": "Double", "RDbl": "Redouble"}
_SIGNS = str.maketrans({"♠": "S", "♥": "H", "♦": "D", "♣": "C"})


_VULNERABLE = {"None": "none", "N/S": "North-South", "E/W": "East-West", "All": "both"}


def _bridge_state(text: str, seat: int, params: Params) -> str:
    suits = re.findall(r"^([♠♥♦♣])[ \t]*(.*)$", text, re.MULTILINE)
    hand = [f"{sign.translate(_SIGNS)} {cards.replace(' ', '').replace('10', 'T') or 'none'}" for sign, cards in suits]
    rows = text.split("West  North East  South\n")[1].split("\n\n")[0].splitlines()
    order = ("West", "North", "East", "South")
    bids = [
        f"{order[column]} {_CALLS.get(bid, bid.translate(_SIGNS))}" for column, bid in _table(rows, 6) if bid != "?"
    ]
    dealer, vulnerable = (re.search(rf"^{word}:? (.*)$", text, re.MULTILINE) for word in ("Dealer", "Vul"))
    assert dealer and vulnerable
    return (
        f"You are {SEATS[seat]}, your partner is {SEATS[(seat + 2) % 4]}. Your hand: {', '.join(hand)}.\n"
        f"Dealer: {dealer[1]}. Vulnerable: {_VULNERABLE[vulnerable[1]]}. Bids: {', '.join(bids) or 'none'}."
    )


def _bridge_names(text: str, actions: Sequence[int], names: Sequence[str]) -> tuple[str, ...]:
    return tuple(_CALLS.get(name, name.translate(_SIGNS)) for name in names)


def bridge(params: Params) -> GameText | None:
    """The auction, where the play is not played but worked out.

    Raises:
        InputError: the dealer is none of the four; the engine would take any number.
    """
    if params["dealer"] >= len(SEATS):
        raise InputError(f"bridge: dealer={params['dealer']} is no seat", "0 to 3: North, East, South, West")
    if not params["use_double_dummy_result"]:
        return None
    rules = (
        "The bidding of one deal of contract bridge; North and South are partners against East and West. The dealer "
        f"({SEATS[params['dealer']]}) begins, then clockwise. A bid is a number of tricks above six and a trump suit "
        "or NT (no trumps), and must be higher than the last bid: more tricks, or as many in a higher strain, in the "
        "order C, D, H, S, NT. Or pass; or double the last bid if it is theirs, or redouble their double of your "
        "side's bid. Three passes after a bid end the auction; four passes at the start, and nobody scores. The cards "
        "are not played: the declarer's side gets the tricks that perfect play of all four hands, seen by all, would "
        "give. The score is that of duplicate bridge: trick points, game, slam and part-score bonuses, or penalties, "
        "by vulnerability."
    )
    return GameText(rules, _bridge_state, _bridge_names)


# --- Gin rummy: the engine's table, from which one hand, the upcard and the piles are read ---


def _gin_reads(state: Any, seat: int) -> str:
    taken = " ".join(_gin_card(card) for card in state.known_cards()[1 - seat])
    both = "yes" if all(state.pass_on_first_upcard()) else "no"
    return f"{state.observation_string(seat)}\ntaken: {taken}\nboth passed: {both}"


def _gin_card(number: int) -> str:
    return "A23456789TJQK"[number % 13] + "scdh"[number // 13]


def _gin_cards(text: str) -> str:
    return " ".join(re.findall(r"[A2-9TJQK][scdh]", text)) or "none"


def _gin_state(text: str, seat: int, params: Params) -> str:
    phase = field(text, "Phase")
    if phase == "FirstUpcard" and field(text, "both passed") == "yes":
        phase = "Passed"
    mine = re.search(rf"Player{seat}:(.*?)\+-+\+\n(.*?)\+-+\+", text, re.DOTALL)
    theirs = re.search(rf"Player{1 - seat}:(.*?)\+-+\+", text, re.DOTALL)
    assert mine and theirs
    told = {
        "FirstUpcard": "Take the upcard or pass.",
        "Passed": "Both passed: draw from the stock.",
        "Draw": "Draw the upcard or from the stock.",
        "Discard": "Discard a card, or knock.",
        "Knock": "You knock: discard, then lay down your melds one by one, then pass.",
        "Layoff": "They knocked: lay off cards on their melds, pass, then lay down your melds, then pass.",
        "Wall": "The stock is used up: knock or pass.",
    }[phase]
    upcard = re.search(r"Upcard: (\S+)", text)[1]  # type: ignore[index]
    facts = [
        told,
        f"Your hand: {_gin_cards(mine[2])}; deadwood {re.search(r'Deadwood=([0-9]+)', mine[1])[1]}.",  # type: ignore[index]
        f"Upcard: {'none' if upcard == 'XX' else upcard}. Stock: {re.search(r'Stock size: ([0-9]+)', text)[1]} cards.",  # type: ignore[index]
        f"Discards below the upcard: {_gin_cards(field(text, 'Discard pile'))}.",
    ]
    if taken := field(text, "taken"):
        facts.append(f"They hold these, taken as upcards: {taken}.")
    for block, who in ((mine[1], "You have"), (theirs[1], "They have")):
        for what, words in (("Layed melds", "laid down"), ("Layoffs", "laid off")):
            if cards := field(block, what):
                facts.append(f"{who} {words}: {cards}.")
    return " ".join(facts)


def _gin_names(text: str, actions: Sequence[int], names: Sequence[str]) -> tuple[str, ...]:
    plain = [name.split("Action: ")[1] for name in names]
    return tuple({"Draw upcard": "Upcard", "Draw stock": "Stock"}.get(name, name) for name in plain)


def gin_rummy(params: Params) -> GameText | None:
    """A whole pack, knocking by a fixed number."""
    if params["oklahoma"] or (params["num_ranks"], params["num_suits"]) != (13, 4):
        return None
    knock, size = params["knock_card"], params["hand_size"]
    rules = (
        f"Gin rummy, one hand, {size} cards each. Cards are rank then suit (Ts: ten of spades). Melds are three or "
        "four cards of one rank, or three or more of one suit in sequence (the ace is low). Deadwood is what is in no "
        "meld: ace 1, two to nine their number, ten and picture cards 10. At first player 0, then player 1, may take "
        "the upcard; if both pass, player 0 draws from the stock. After that a turn is: draw the upcard or the top of "
        f"the stock, then discard one card. With at most {knock} points of deadwood after a discard you may knock: "
        "discard, lay down your melds; then the other lays off cards on them (not after a knock with no deadwood at "
        "all, which is gin) and lays down their own melds. The knocker scores the difference in deadwood; with gin, "
        f"their deadwood and {params['gin_bonus']} more. If the other has less deadwood than a knocker without gin, "
        f"the other scores the difference and {params['undercut_bonus']} more; with as much it is a draw. It is also a "
        "draw if two cards are left in the stock and nobody knocks, if one and then the other take the upcard and "
        "discard it again, or when the upcard is taken for the 50th time, not counting the first upcard."
    )
    return GameText(rules, _gin_state, _gin_names, _gin_reads)
