"""The report as one HTML page: no script, nothing fetched, every value escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from string import Template

from ludora import __version__
from ludora.evals.again import commands
from ludora.evals.campaign import Part, parts
from ludora.evals.curves import CURVES, PER_GAME, WORDS
from ludora.evals.frames import stepper, strip
from ludora.evals.plots import Point, Reference, Series, chart, minus
from ludora.evals.record import Evaluation
from ludora.evals.replay import Decision, ReplayedGame, facts
from ludora.evals.story import Headline, Story, flat
from ludora.evals.tables import (
    GROUPS,
    NONE,
    Measure,
    by_task,
    group_measures,
    heading,
    judged_by,
    measures,
    percent,
    title,
    verdicts,
)

SHOWN = 8  # legal actions with a bar of their own; games with hundreds would drown the page
WIDE, NARROW, SMALL = (920, 330), (340, 250), (270, 180)


def page(story: Story) -> str:
    """The whole page."""
    sections = [
        _header(story),
        _headline(story),
        _learning(story),
        _table(story),
        _by_task(story),
        *(_part(part) for part in parts(story)),
        _games(story),
        _curves(story),
        settings_section(story),
        events_section(story),
        again_section(story),
        f"<footer>Written by ludora {escape(__version__)} from the files of {escape(str(story.path))}.</footer>",
    ]
    return assemble(story.title, sections)


def assemble(title: str, sections: Iterable[str]) -> str:
    """A page of sections, empty ones left out."""
    template = files("ludora.evals").joinpath("report_page.html").read_text(encoding="utf-8")
    return Template(template).substitute(title=escape(title), body="\n".join(filter(None, sections)))


def section(name: str, *parts: str) -> str:
    """A part of the page under a heading; the parts are HTML."""
    return f"<section><h2>{escape(name)}</h2>{''.join(parts)}</section>"


def _missing(story: Story, name: str, hint: str) -> str:
    """Says why a section has nothing to show."""
    why = story.problems.get(name, "has nothing to show here")
    return f'<p class="missing">{escape(name)} {escape(why)}. {escape(hint)}</p>'


def _header(story: Story) -> str:
    return (
        f'<header><p class="kicker">Run {escape(story.path.resolve().name)}</p><h1>{escape(story.title)}</h1>'
        f'<p class="lead">{escape(story.summary)}</p></header>'
    )


def _headline(story: Story) -> str:
    head = story.headline
    if head is None:
        return section("In short", _missing(story, "evaluation.json", "Evaluate the adapter to see what it learnt."))
    before, after = story.contenders
    cards = [
        _card("Before", before.player if before else "", head.before, ""),
        _card("After", after.player if after else "", head.after, "after"),
    ]
    if head.best is not None:
        cards.append(_card("Best possible", "", head.best, ""))
    return f'<section class="card"><div class="headline">{"".join(cards)}</div>{_way(head)}</section>'


def _card(label: str, who: str, value: float | None, kind: str) -> str:
    shown = NONE if value is None else minus(f"{value:.2f}")
    return (
        f'<div class="{kind}"><div class="label">{label}</div><div class="figure">{shown}</div>'
        f'<div class="who">{escape(who)}</div></div>'
    )


def _way(head: Headline) -> str:
    if head.way is None:
        return f'<p class="hint">{escape(head.label)}</p>'
    return (
        f'<div class="way"><i style="width:{100 * head.way:.1f}%"></i></div>'
        f'<p class="hint">{escape(head.label)}: {int(100 * head.way)} % of the way from before to the best possible.'
        "</p>"
    )


def _learning(story: Story) -> str:
    """The curve that tells the story: exact values and sampled returns, or NashConv after self-play."""
    if story.kind == "sft":
        return _imitation(story)
    before, best = story.contenders[0], story.best
    unit = story.evaluation.unit if story.evaluation else "per game"
    if story.by_nash_conv:
        lines = [Series("NashConv, exact", story.series("nash_conv"), dots=True)]
        marks = _references(("before", before.nash_conv if before else None), (story.zero, 0.0))
    elif story.stages:  # returns of several games do not add up
        lines = [
            Series("score of the training games", story.series("score"), "faint"),
            Series("score of the evaluation games", story.series("evaluation_score"), dots=True),
        ]
        return _learning_curve(story, lines, [], "mean score, 0 to 1, in the stage of the time")
    else:
        exact = story.series("expected_value")
        name = "expected value, exact" if exact else "mean return of the evaluation games"
        lines = [
            Series("mean return of the training games", story.series("return"), "faint"),
            Series(name, exact or story.series("evaluation_return"), dots=True),
        ]
        marks = _references(
            ("before", before.expected_value if before else None),
            ("best possible", best.expected_value if best else None),
        )
    return _learning_curve(story, lines, marks, f"{unit}, after each update")


def _imitation(story: Story) -> str:
    """Loss on what was learnt and on what was held out."""
    lines = [
        Series("examples of the steps", story.series("loss"), "faint"),
        Series("held-out examples", story.series("eval_loss"), dots=True),
    ]
    return _learning_curve(story, lines, [], "loss in nats per choice or token")


def _learning_curve(
    story: Story,
    lines: Sequence[Series],
    marks: Sequence[Reference],
    small: str,
) -> str:
    """The section with one chart, wide or narrow as the screen is; its legend names the lines there are."""
    x_label, caption = story.unit, "".join(legend(line.style, line.label) for line in reversed(lines) if line.points)
    wide = chart("learning curve", lines, references=marks, x_label=x_label, size=WIDE)
    if not wide:
        return section("Learning", _missing(story, "metrics.jsonl", "It is written while the run trains."))
    narrow = chart("learning curve", lines, references=marks, x_label=x_label, size=NARROW)
    return section(
        "Learning",
        f'<figure class="card"><figcaption>{caption}<small>{escape(small)}</small></figcaption>'
        f'<div class="wide">{wide}</div><div class="narrow">{narrow}</div></figure>',
    )


def _references(*marks: tuple[str, float | None]) -> list[Reference]:
    return [Reference(label, y) for label, y in marks if y is not None]


def legend(style: str, label: str) -> str:
    """One entry of a legend; it is not broken between its line and its name."""
    return f'<span class="legend"><i class="key {style}"></i>{escape(label)}</span> '


def _table(story: Story) -> str:
    evaluation = story.evaluation
    if evaluation is None:
        return ""  # the headline section has said so
    note = "Small figures: 95 % intervals. Everyone met the same deals in the same seats." if evaluation.games else ""
    folded = [
        f"<details><summary>{escape(name)}</summary>{_results(evaluation, lines)}</details>"
        for kind, name in GROUPS.items()
        if (lines := group_measures(evaluation, kind))
    ]
    return section(
        "Before and after",
        f'<p class="hint">{escape(title(evaluation))}. {note}</p>',
        _results(evaluation, measures(evaluation)),
        '<div style="margin-top:1rem">',
        *(f"<p>{escape(sentence)}</p>" for sentence in verdicts(evaluation)),
        "</div>",
        *folded,
    )


def _results(evaluation: Evaluation, lines: Sequence[Measure]) -> str:
    """The players side by side, one line per measure."""
    player = evaluation.rows[0].player
    kinds = [' class="player"' if row.player == player else "" for row in evaluation.side_by_side]
    head = "".join(
        f"<th{kind}>{escape(heading(row.player))}</th>"
        for kind, row in zip(kinds, evaluation.side_by_side, strict=True)
    )
    body = []
    for line in lines:
        kind = "main" if line.main else "part" if line.label.startswith(" ") else ""
        cells = "".join(f"<td{k}>{with_ends(cell)}</td>" for k, cell in zip(kinds, line.cells, strict=True))
        body.append(f'<tr class="{kind}"><th scope="row">{escape(line.label.strip())}</th>{cells}</tr>')
    return (
        f'<div class="scroll card"><table class="results"><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _part(part: Part) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in part.head)
    body = []
    for first, *rest in part.rows:
        kind = "part" if first.startswith(" ") else ""
        cells = "".join(f"<td>{with_ends(cell)}</td>" for cell in rest)
        body.append(f'<tr class="{kind}"><th scope="row">{escape(first.strip())}</th>{cells}</tr>')
    table = f'<table class="results"><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>'
    hint = f'<p class="hint">{escape(part.hint)}</p>' if part.hint else ""
    return section(part.title, hint, f'<div class="scroll card">{table}</div>')


def _by_task(story: Story) -> str:
    """All players on all tasks, where there are several."""
    if story.evaluation is None or not story.evaluation.further:
        return ""
    head, rows = by_task(story.evaluation)
    hint = f"{judged_by(story.evaluation).capitalize()}."
    return _part(Part("Task by task", hint, tuple(head), tuple(map(tuple, rows))))


def with_ends(text: str) -> str:
    """A figure, with its interval on a line of its own."""
    figure, bracket, ends = minus(escape(text)).partition(" (")
    return f'{figure}<span class="ends">{ends.rstrip(")")}</span>' if bracket else figure


def _games(story: Story) -> str:
    if story.plays_nothing:
        return ""
    if not story.replays:
        return section("Games, move by move", _missing(story, "replays.json", "The demo records three games."))
    first = story.replays[0]
    shown = strip(first.pictured) if first.pictured else ""
    how = " The arrow keys, or those beside the board, go from move to move." if shown else ""
    keys = legend("accent", first.player) + (legend("plain", first.baseline) if first.baseline else "")
    return section(
        "Games, move by move",
        shown,
        f'<p class="hint">What the player saw, and the probability of every legal action.{how} {keys}</p>',
        *(_game(number, game) for number, game in enumerate(story.replays, 1)),
    )


def _game(number: int, game: ReplayedGame) -> str:
    if game.pictured:
        moves = stepper(f"game{number}", game.pictured, _beside)
    else:
        moves = f"<ol>{''.join(_move(game, d) for d in game.decisions)}</ol>"
    result = f"{game.outcome}, {minus(f'{game.total:+g}') if game.total else 0}"
    told = ", ".join([*facts(game), f"seat {game.seat}", f"seed {game.seed}"])
    return (
        f'<article class="card game"><header><h3>Game {number}: {escape(result)}</h3>'
        f'<span class="hint">{escape(told)}</span></header>{moves}</article>'
    )


def _beside(decision: Decision) -> str:
    """What stands beside a picture: what a model read there, and how likely it found its moves."""
    seen = f"<p>{escape(decision.text)}</p>" if "\n" not in decision.text.strip() else ""
    if not decision.probabilities:
        return f"{seen}<p><b>{escape(decision.chosen)}</b></p>"
    return f'{seen}<div class="bars">{_bars(decision)}</div>'


def _move(game: ReplayedGame, decision: Decision) -> str:
    board = "\n" in decision.text.strip()  # drawn with signs, so every sign must be equally wide
    if decision.seat != game.seat:
        who = f"{escape(decision.player)} in seat {decision.seat}"
        saw = "" if board else f"<p>{escape(decision.text)}</p>"
        return f'<li class="move other">{who}: <b>{escape(decision.chosen)}</b>{saw}</li>'
    seen = f"<pre>{escape(decision.text)}</pre>" if board else f"<p>{escape(decision.text)}</p>"
    bars = (
        f'<div class="bars">{_bars(decision)}</div>'
        if decision.probabilities
        else f"<pre>{escape(decision.chosen)}</pre>"
    )
    return f'<li class="move own">{seen}{bars}</li>'


def _bars(decision: Decision) -> str:
    """The likeliest actions, and the one taken, with the player's bar above the baseline's."""
    order = sorted(range(len(decision.legal)), key=lambda i: -decision.probabilities[i])
    shown = {*order[:SHOWN], *(i for i in order if decision.legal[i] == decision.chosen)}
    rows = []
    for i in sorted(shown):
        now = decision.probabilities[i]
        before = decision.baseline[i] if decision.baseline else None
        taken = decision.legal[i] == decision.chosen
        label = escape(decision.legal[i]) + ('<span class="tag">taken</span>' if taken else "")
        small = "" if before is None else f"<small>{percent(before)}</small>"
        pair = _bar("", now) + ("" if before is None else _bar("before", before))
        rows.append(
            f'<div class="action{" taken" if taken else ""}">{label}</div><div class="pair">{pair}</div>'
            f'<div class="share">{percent(now)}{small}</div>'
        )
    rest = len(order) - len(shown)
    return "".join(rows) + (f'<div class="rest">and {rest} more</div>' if rest else "")


def _bar(kind: str, share: float) -> str:
    return f'<div class="bar {kind}"><i style="width:{100 * min(1.0, max(0.0, share)):.1f}%"></i></div>'


def _curves(story: Story) -> str:
    if not story.metrics:
        return ""  # the learning section has said so
    main = [
        curve(name, hint, [(k, story.series(k)) for k in keys], bounds, story.unit)
        for keys, name, hint, bounds in CURVES
        if not (keys == ("nash_conv",) and story.by_nash_conv)  # the learning section has it, larger
    ]
    keys = sorted({k for line in story.metrics for k in line if k.startswith(PER_GAME)})
    main += [
        curve(WORDS[k.partition("/")[0]], k.partition("/")[2], [(k, story.series(k))], None, story.unit) for k in keys
    ]
    known = set(keys) | {"step", "time", "return", "expected_value", "evaluation_return", "loss", "eval_loss"}
    known |= {k for names, *_ in CURVES for k in names}
    others = sorted({k for line in story.metrics for k in line} - known)
    more = [curve(k, "", [(k, story.series(k))], None, story.unit) for k in others]
    folded = f"<details><summary>All other metrics</summary>{grid(more)}</details>" if any(more) else ""
    return section("How the training went", grid(main), folded)


def grid(figures: Iterable[str], kind: str = "") -> str:
    """Figures side by side, as many as the screen is wide; `large` ones are fewer."""
    return f'<div class="charts {kind}">{"".join(figures)}</div>'


def curve(
    name: str,
    hint: str,
    lines: Sequence[tuple[str, list[Point]]],
    bounds: tuple[float, float] | None,
    x_label: str,
) -> str:
    """One small chart, or nothing where nothing of it was logged."""
    styles = ("accent", "plain")
    series = [Series(key, points, style) for (key, points), style in zip(lines, styles, strict=False)]
    drawn = chart(name, series, x_label=x_label, bounds=bounds, size=SMALL)
    if not drawn:
        return ""
    words = hint.split(", ") if len(series) > 1 else [hint]
    pairs = [(s, w) for s, w in zip(series, words, strict=True) if s.points]  # nothing is named that is not drawn
    marked = [legend(s.style, w) if len(series) > 1 else escape(w) for s, w in pairs]
    caption = f"{escape(name)}<small>{''.join(marked)}&nbsp;</small>"  # one line high even where there is no hint
    return f'<figure class="card"><figcaption>{caption}</figcaption>{drawn}</figure>'


def settings_section(story: Story) -> str:
    """Every value of the config."""
    if not story.config:
        return section("Settings", _missing(story, "config.json", "Without it the run cannot be repeated."))
    rows = _pairs(flat(story.config))
    return section("Settings", f'<div class="scroll card"><table class="plain">{rows}</table></div>')


def _pairs(pairs: Iterable[tuple[str, str]]) -> str:
    return "".join(f"<tr><th scope='row'>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in pairs)


def events_section(story: Story) -> str:
    """Every event, folded."""
    if not story.events:
        return section("What happened", _missing(story, "events.jsonl", "It holds stages, saves and stops."))
    rows = [
        (str(e.get("event", e.get("kind", e.get("name", number)))), ", ".join(f"{k} {v}" for k, v in flat(e)))
        for number, e in enumerate(story.events, 1)
    ]
    return section(
        "What happened",
        f"<details><summary>{len(rows)} events</summary><div class='scroll card'>"
        f"<table class='plain'>{_pairs(rows)}</table></div></details>",
    )


def again_section(story: Story) -> str:
    """The commands that do it again."""
    lines = "\n".join(commands(story))
    return section("Do it again", f'<pre class="card">{escape(lines)}</pre>') if lines else ""
