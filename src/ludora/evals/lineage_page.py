"""The report of an evolution: what was found, how, and what it teaches; as a page and as Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from ludora import __version__
from ludora.errors import InputError
from ludora.evals import quiz_report
from ludora.evals.again import commands
from ludora.evals.lineage import Effect, Lineage, Member
from ludora.evals.page import (
    again_section,
    assemble,
    curve,
    events_section,
    grid,
    section,
    settings_section,
    with_ends,
)
from ludora.evals.pictures import Dot, family_tree, heat_map, scatter
from ludora.evals.quiz import KIND, Quiz
from ludora.evals.report import fenced, inline, table
from ludora.evals.story import Story, flat
from ludora.evals.tables import NONE, percent, signed

_UNIT = "generation"
_FITNESS = ("best_fitness", "mean_fitness")  # drawn from the lineage: what was logged stands on each generation's scale
# metrics of a generation: keys, title, hint (one word each)
_CURVES: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (_FITNESS, "Fitness", "best known, mean of the generation"),
    (("best_accuracy",), "Accuracy of the best", "share of the questions it was selected by"),
    (("best_perplexity",), "Perplexity of the best", "of the reference answers"),
    (("hypervolume",), "Hypervolume", "of quality and smallness, above the worst and below the largest so far"),
    (("best_parameters",), "Parameters of the best", "trainable numbers"),
    (("train_tokens",), "Tokens of training", "in all, since the start"),
)
_EVERYBODY = (
    "Fitness: of all answers of the run, the difficulty of the questions taken out. Accuracy and perplexity over all "
    "questions that a variant was asked, easy or hard."
)
Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """What the report is made of: the run's story, its lineage, and the comparison with the base where there is one."""

    story: Story
    lineage: Lineage
    quiz: Quiz | None


@dataclass(frozen=True, slots=True)
class Block:
    """A part of the report that is a table: said once, shown on the page and in Markdown."""

    name: str
    hint: str
    head: Row
    rows: Sequence[Row]


def tell(story: Story) -> Told:
    """Read what the run's files say.

    Raises:
        InputError: the events are not those of an evolution.
    """
    try:
        lineage = Lineage.read(story.events, story.config.get("posterior", True) is not False)
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise InputError(f"{story.path / 'events.jsonl'} is damaged: {error!r}", "mend or delete that line") from None
    return Told(story, lineage, _quiz(story))


def _quiz(story: Story) -> Quiz | None:
    """The comparison on the test split; a damaged one is a problem of the story's."""
    path = story.path / "evaluation.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return Quiz.from_json(data) if isinstance(data, dict) and data.get("kind") == KIND else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        story.problems[path.name] = f"cannot be read ({error})"
    except InputError as error:
        story.problems[path.name] = f"cannot be read ({error.message})"
    return None


# ---- in words ------------------------------------------------------------------------------------------------------


def title(told: Told) -> str:
    """Who evolved on what."""
    config = told.story.config
    fitness = str(config.get("fitness", ""))
    goal = fitness.removeprefix("game:") if fitness.startswith("game:") else str(config.get("data", "a data set"))
    return f"{told.story.model or 'A language model'} evolves on {goal}"


def summary(told: Told) -> str:
    """How much was tried, at what cost, and what was best."""
    history, members = told.lineage.history, told.lineage.members.values()
    clones = sum(bool(m.variant.clone_of) for m in members)
    stopped = sum(m.fate == "stopped" for m in members)
    said = [
        f"{len(history.generations)} generations, {len(members)} variants"
        + (f", {clones} of them clones that were not trained again" if clones else "")
        + f"; {history.tokens:,} tokens of training",
    ]
    if stopped:
        said.append(f"Successive halving stopped {stopped} of them before their end")
    if failed := sum(m.fate == "failed" for m in members):
        said.append(f"{failed} failed, their numbers no longer finite")
    if best := told.lineage.best():
        said.append(f"The best is {best.variant.id}, with {best.variant.parameters:,} trainable parameters")
    return " ".join(f"{s}." for s in said)


def findings(told: Told) -> list[str]:
    """The test, in sentences."""
    tested = told.lineage.history.tested
    said = quiz_report.verdicts(told.quiz) if told.quiz else []
    if not said and tested:
        base, chosen = tested.get("base"), tested.get("chosen")
        said.append(f"On the untouched test the base has fitness {signed(base)}, the best adapter {signed(chosen)}.")
    seeds = tested.get("seed_accuracies") or tested.get("seeds") or []
    if len(seeds) > 1:
        shown = ", ".join(f"{s:.3f}" for s in seeds)
        said.append(f"The winner trained with {len(seeds)} seeds reaches {shown} there.")
    return said


def blocks(told: Told) -> list[Block]:
    """All tables of the report that have a line."""
    lineage = told.lineage
    found = [
        _rungs(lineage),
        _effects("How children were made", "operator", lineage.operators()),
        _effects("Which changes helped", "changed gene", lineage.mutations()),
        _survival(lineage),
        _finals(lineage),
        _front(lineage),
        _variants(lineage),
    ]
    return [block for block in found if block.rows]


def _effects(name: str, what: str, effects: Sequence[Effect]) -> Block:
    hint = (
        "Better: than the best parent, as all answers of the run tell both. Those stopped early are not better, and "
        "have no gain. 95 % intervals."
    )
    rows = [
        (
            e.name,
            str(e.children),
            percent(e.better / e.children),
            percent(e.survived / e.children),
            NONE if e.gain is None else _gain(e),
        )
        for e in effects
    ]
    return Block(name, hint, (what, "children", "better", "lived on", "mean gain of fitness"), rows)


def _gain(effect: Effect) -> str:
    ends = effect.gain_low, effect.gain_high
    span = "" if None in ends else f" ({effect.gain_low:+.3f} to {effect.gain_high:+.3f})"
    return f"{effect.gain:+.3f}{span}"


def _survival(lineage: Lineage) -> Block:
    rows = [
        (s.gene, s.value, str(s.variants), percent(s.survived / s.variants), _number(s.fitness))
        for s in lineage.survival()
    ]
    hint = "How many variants had each value of a gene, and how many of them some generation kept."
    return Block("What survived", hint, ("gene", "value", "variants", "lived on", "mean fitness"), rows)


def _rungs(lineage: Lineage) -> Block:
    rows = [
        (str(check.rung + 1), str(len(check.pairs)), NONE if check.correlation is None else f"{check.correlation:+.2f}")
        for check in lineage.rungs()
    ]
    hint = "Rank correlation of what a rung was decided by with the fitness at the end, of those that went on."
    return Block("Did the rungs judge well?", hint, ("rung", "variants", "rank correlation"), rows)


def _finals(lineage: Lineage) -> Block:
    rows = []
    for name, final in lineage.history.finals.items():
        score = final["scores"].get("final")
        value = f"failed: {final['failed']}" if final["failed"] else _number(score.mean if score else None)
        rows.append((name, final["variant"], str(final["seed"]), value))
    hint = "Trained again from nothing, on questions that nobody was selected by."
    return Block("Finals", hint, ("finalist", "variant", "seed", "fitness"), rows)


def _front(lineage: Lineage) -> Block:
    rows = [(m.variant.id, f"{m.variant.parameters:,}", _number(m.fitness)) for m in lineage.front]
    hint = "Nobody is better and smaller at once."
    return Block("Pareto front", hint, ("variant", "trainable parameters", "fitness"), rows)


def _variants(lineage: Lineage) -> Block:
    def order(member: Member) -> tuple[int, float]:
        return member.variant.generation, -(member.fitness if member.fitness is not None else float("-inf"))

    rows = [
        (
            m.variant.id,
            m.variant.operator,
            ", ".join(m.variant.parents) or NONE,
            f"clone of {m.variant.clone_of}" if m.variant.clone_of else m.fate,
            f"{m.variant.tokens:,}",
            _number(m.fitness),
            percent(m.variant.measures.get("accuracy")),
            _number(m.variant.measures.get("perplexity")),
        )
        for m in sorted(lineage.members.values(), key=order)
    ]
    head = ("variant", "operator", "parents", "fate", "tokens", "fitness", "accuracy", "perplexity")
    return Block("All variants", _EVERYBODY, head, rows)


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f}"


# ---- page ----------------------------------------------------------------------------------------------------------


def page(told: Told) -> str:
    """The whole page."""
    story, lineage = told.story, told.lineage
    name = title(told)
    header = (
        f'<header><p class="kicker">Run {escape(story.path.resolve().name)}</p><h1>{escape(name)}</h1>'
        f'<p class="lead">{escape(summary(told))}</p>'
        f"{''.join(f'<p>{escape(s)}</p>' for s in findings(told))}</header>"
    )
    tables = {block.name: _table(block) for block in blocks(told)}
    everyone = tables.pop("All variants", "")
    sections = [
        header,
        _generations(told),
        _tree(lineage),
        _pareto(lineage, tables.pop("Pareto front", "")),
        _heat_maps(lineage),
        *tables.values(),
        *(quiz_report.page_sections(told.quiz) if told.quiz else ()),
        everyone,
        settings_section(story),
        events_section(story),
        again_section(story),
        f"<footer>Written by ludora {escape(__version__)} from the files of {escape(str(story.path))}.</footer>",
    ]
    return assemble(name, sections)


def _generations(told: Told) -> str:
    curves = [
        curve(name, hint, [(key, _series(told, key)) for key in keys], None, _UNIT) for keys, name, hint in _CURVES
    ]
    if not any(curves):
        return section("Generation by generation", '<p class="missing">No generation has come to its end.</p>')
    return section("Generation by generation", grid(filter(None, curves)))


def _series(told: Told, key: str) -> list[tuple[float, float]]:
    """(generation, value) of a metric; fitness as all answers of the run tell it."""
    if key not in _FITNESS:
        return told.story.series(key)
    rows = ((number, (best, mean)[_FITNESS.index(key)]) for number, best, mean in told.lineage.generations)
    return [(float(number), value) for number, value in rows if value is not None]


def _tree(lineage: Lineage) -> str:
    drawn = family_tree(lineage)
    hint = (
        "The best on top. Thick lines: who lived on; thin ones: from parent to child. Filled: kept by a generation; "
        "hollow: a clone, or stopped early. Rank, learning rate and fitness as that generation knew it; the whole "
        "names are in the list below."
    )
    return section("Family tree", f'<p class="hint">{hint}</p><div class="scroll card">{drawn}</div>') if drawn else ""


def _pareto(lineage: Lineage, listed: str) -> str:
    front = lineage.front
    names = {m.variant.id for m in front}
    dots = [
        Dot(m.variant.parameters, m.fitness or 0.0, m.variant.id, "accent" if m.variant.id in names else "plain")
        for m in sorted(lineage.finished, key=lambda m: m.variant.id in names)
    ]
    path = [(float(m.variant.parameters), m.fitness or 0.0) for m in front]
    drawn = scatter("fitness by trainable parameters", dots, "trainable parameters", log_x=True, path=path)
    checks = [
        scatter(
            f"rung {check.rung + 1} and the end",
            [Dot(value, end, f"{value:.3f}, then {end:.3f}", "accent") for value, end in check.pairs],
            f"value at rung {check.rung + 1}",
        )
        for check in lineage.rungs()
    ]
    figures = [_figure("Fitness by size", "the line joins the Pareto front", drawn)]
    figures += [_figure("Fitness by value at a rung", "those that went on", check) for check in checks]
    return section("Small or good", grid(filter(None, figures), "large")) + listed if drawn else listed


def _figure(name: str, hint: str, drawn: str) -> str:
    caption = f"<figcaption>{escape(name)}<small>{escape(hint)}</small></figcaption>"
    return f'<figure class="card">{caption}{drawn}</figure>' if drawn else ""


def _heat_maps(lineage: Lineage) -> str:
    maps = [_figure(f"{m.y} by {m.x}", "mean fitness, number of variants", heat_map(m)) for m in lineage.heat_maps()]
    return section("Which settings do well", grid(filter(None, maps), "large")) if any(maps) else ""


def _table(block: Block) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in block.head)
    body = "".join("<tr>" + "".join(f"<td>{_shown(text)}</td>" for text in row) + "</tr>" for row in block.rows)
    made = f'<div class="scroll card"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    hint = f'<p class="hint">{escape(block.hint)}</p>'
    if len(block.rows) > 24:
        made = f"<details><summary>{len(block.rows)} lines</summary>{made}</details>"
    return section(block.name, hint, made)


def _shown(text: str) -> str:
    """A cell: a name as it is, a signed number with a true minus sign, its interval on a line of its own."""
    return with_ends(text) if text[:1] in ("+", "-") else escape(text)


# ---- Markdown ------------------------------------------------------------------------------------------------------


def markdown(told: Told) -> str:
    """The whole report as plain Markdown."""
    story = told.story
    parts = [f"# {inline(title(told))}", inline(summary(told)), *map(inline, findings(told)), *_curve_table(told)]
    for block in blocks(told):
        parts += [f"## {block.name}", block.hint, table(block.head, block.rows)]
    for picture in told.lineage.heat_maps():
        rows = [
            (label, *(NONE if cell is None else f"{cell[0]:.3f} (n = {cell[1]})" for cell in row))
            for label, row in zip(picture.rows, picture.cells, strict=True)
        ]
        parts += [f"## {inline(picture.y)} by {inline(picture.x)}", table(("", *picture.columns), rows)]
    if told.quiz:
        parts += [f"## {inline(quiz_report.title(told.quiz))}", *quiz_report.markdown_parts(told.quiz)[1:]]
    parts += ["## Settings", table(("setting", "value"), flat(story.config))] if story.config else []
    parts += ["## Do it again", fenced("\n".join(lines))] if (lines := commands(story)) else []
    if story.problems:
        parts += ["## Missing", "\n".join(f"- `{name}` {inline(why)}" for name, why in story.problems.items())]
    return "\n\n".join(filter(None, parts)) + "\n"


def _curve_table(told: Told) -> list[str]:
    series = {key: found for keys, _, _ in _CURVES for key in keys if (found := dict(_series(told, key)))}
    keys = list(series)
    steps = sorted({step for found in series.values() for step in found})
    rows = [(f"{step:.0f}", *(_cell(series[key].get(step)) for key in keys)) for step in steps]
    return ["## Generation by generation", table((_UNIT, *keys), rows)] if rows else []


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else NONE
