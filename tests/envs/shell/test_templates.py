"""The built-in set: what must hold of every template, without running any."""

from __future__ import annotations

import re
from collections import Counter
from itertools import product
from random import Random

import pytest

from ludora.envs.shell.options import instance
from ludora.envs.shell.templates.accounts import ACCOUNTS
from ludora.envs.shell.templates.all import TEMPLATES
from ludora.envs.shell.templates.base import EVAL, HOLE, POOLS, SKILLS, SPLITS, TRAIN, Template
from ludora.envs.shell.templates.files import FILES
from ludora.envs.shell.templates.rights import RIGHTS
from ludora.envs.shell.templates.texts import TEXTS

each = pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)


def test_the_set() -> None:
    tables = (FILES, TEXTS, ACCOUNTS, RIGHTS)
    assert len(TEMPLATES) == sum(map(len, tables)) >= 60  # no name twice
    counts = Counter(skill for t in TEMPLATES.values() for skill in t.skills.split())
    assert set(counts) == set(SKILLS) and len(SKILLS) == 29 and min(counts.values()) >= 3
    for held_out, level in product((False, True), (1, 2, 3)):
        assert any(t.held_out is held_out and t.level == level for t in TEMPLATES.values())


def test_values_for_evaluation_are_never_met_in_training() -> None:
    for train, eval_ in POOLS.values():
        assert not set(train) & set(eval_)
        assert len(set(train)) == len(train) and len(set(eval_)) == len(eval_) and len(eval_) >= 3


def test_no_trained_template_spells_a_value_for_evaluation() -> None:
    kept = "|".join(re.escape(value) for _, eval_ in POOLS.values() for value in eval_)
    spelled = re.compile(rf"(?<![\w/.])(?:{kept})(?![\w.])")
    for t in TEMPLATES.values():
        for text in () if t.held_out else (*t.asks, t.setup, t.check, t.solution):
            assert not spelled.search(HOLE.sub(" ", text)), t.name


@each
def test_every_hole_has_a_pool_and_every_value_its_side(template: Template) -> None:
    asked = " ".join(template.asks)
    for text in (asked, template.setup, template.check, template.solution):
        assert all(hole["kind"] in POOLS for hole in HOLE.finditer(text)) and not re.search(r"@(?![a-z{])", text)
    own = {hole["name"] for hole in HOLE.finditer(asked)}
    made = {hole["name"] for hole in HOLE.finditer(template.setup)}
    assert {hole["name"] for hole in HOLE.finditer(template.solution)} <= own | made  # the reference guesses nothing
    assert own, "every instance is the same"


@each
def test_instances(template: Template) -> None:
    seen: dict[str, set[str]] = {split: set() for split in SPLITS}
    for split, number in product(SPLITS, range(6)):
        entry = instance(template, split, number)
        assert entry == instance(template, split, number)
        assert not HOLE.search(entry.instruction + entry.check.text + entry.solution.text)
        assert "\n" not in entry.solution.text and entry.template == template.name
        seen[split].add(entry.instruction)
    assert not seen[TRAIN] & seen[EVAL]
    assert len(seen[TRAIN]) > 1


@each
def test_skills_are_those_of_the_solution(template: Template) -> None:
    for skill in template.skills.split():
        assert re.search(rf"(?<![\w/.-]){skill}(?![\w/.-])", template.solution)


def test_two_holes_of_a_kind_differ() -> None:
    for seed in range(50):
        values = TEMPLATES["cat-join"].instance(Random(seed), evaluation=True).key.split("/")[1:]
        assert len(set(values)) == len(values)
