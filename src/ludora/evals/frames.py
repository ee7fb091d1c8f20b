"""Games that have pictures, drawn, and as frames that a page steps through without a script.

Every frame follows a button of one group and is shown while that is checked, so a browser's own keys (the arrows move
among the buttons of a group) and the labels in each frame step through the game.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from ludora.evals.replay import Decision

STRIP = 8  # pictures of the strip
_SIGNS = {"o": "body", ".": "tail", "@": "head", "*": "apple"}


def drawing(picture: str) -> str:
    """A framed board of signs as `<svg>`: `@` head, `o` body, `.` tail, `*` apple; other pictures as they are."""
    lines = picture.splitlines()
    rows = [line[2:-1:2] for line in lines[1:-1]]
    if not rows or not lines[0].startswith("+-") or set("".join(rows)) - {*_SIGNS, " "}:
        return f"<pre>{escape(picture)}</pre>"
    width, height = len(rows[0]), len(rows)
    paths: dict[str, str] = {}
    for y, row in enumerate(rows):
        for x, sign in enumerate(row):
            if sign != " ":
                paths[sign] = paths.get(sign, "") + f"M{x} {y}h1v1h-1z"
    drawn = "".join(f'<path class="{_SIGNS[sign]}" d="{path}"/>' for sign, path in sorted(paths.items()))
    return f'<svg class="board" viewBox="0 0 {width} {height}" role="img" aria-label="board">{drawn}</svg>'


def strip(decisions: Sequence[Decision]) -> str:
    """Some pictures of a game, evenly spread from the first to the last."""
    last = len(decisions) - 1
    shown = sorted({round(last * i / (STRIP - 1)) for i in range(STRIP)})
    figures = (f"<figure>{drawing(decisions[i].picture)}<small>move {i + 1}</small></figure>" for i in shown)
    return f'<div class="strip">{"".join(figures)}</div>'


def stepper(name: str, decisions: Sequence[Decision], beside: Callable[[Decision], str]) -> str:
    """All pictures of a game, one at a time; `beside` is what stands beside each."""
    last = len(decisions) - 1
    frames = []
    for i, decision in enumerate(decisions):
        places = (("\N{LEFTWARDS ARROW} start", 0), ("\N{LEFTWARDS ARROW}", i - 1), ("\N{RIGHTWARDS ARROW}", i + 1))
        labels = "".join(
            f'<label for="{name}-{min(max(to, 0), last)}">{sign}</label>'
            for sign, to in (*places, ("end \N{RIGHTWARDS ARROW}", last))
        )
        frames.append(
            f'<input type="radio" name="{name}" id="{name}-{i}" aria-label="move {i + 1}"{"" if i else " checked"}>'
            f'<div class="frame">{drawing(decision.picture)}<div><div class="steps">{labels}'
            f"<span>move {i + 1} of {last + 1}</span></div>{beside(decision)}</div></div>"
        )
    return f'<div class="frames">{"".join(frames)}</div>'
