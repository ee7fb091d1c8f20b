"""TASK strings of the shell, and which task each of them means."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from tests.envs.shell.test_entries import raw

from ludora.envs.build import make_env, num_players, task_spec
from ludora.envs.shell.options import entry_of, options_of, singles
from ludora.envs.shell.templates.all import TEMPLATES
from ludora.errors import InputError
from ludora.evals.evaluate import deals
from ludora.types import Task


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("shell", "shell"),
        ("shell(split=train, level=0, rounds=5, seconds=20)", "shell"),
        ("shell(level=2, act=line)", "shell(act=line, level=2)"),
        ("shell(index=3, template=chmod-mode)", "shell(index=3, template=chmod-mode)"),
        ("shell(incorrect=0)", "shell(incorrect=0.0)"),
    ],
)
def test_canonical(text: str, canonical: str) -> None:
    spec = task_spec(text)
    assert str(spec) == canonical and task_spec(canonical) == spec and num_players(spec) == 1


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("shell(8)", "named options only"),
        ("shell(lvel=1)", "no option 'lvel'"),
        ("shell(level=4)", "level is a whole number from 0 to 3"),
        ("shell(level=true)", "level is a whole number"),
        ("shell(rounds=0)", "rounds is a whole number from 1"),
        ("shell(output=-1)", "output is a whole number from 0"),
        ("shell(seconds=0)", "seconds=0 is out of range"),
        ("shell(correct=much)", "correct='much' is out of range"),
        ("shell(act=python)", "act=python is unknown"),
        ("shell(backend=podman)", "backend=podman needs an image"),
        ("shell(image=debian)", "image has no effect alone"),
        ("shell(backend=moby)", "backend=moby is unknown"),
        ("shell(split=test)", "split=test is unknown"),
        ("shell(split=all)", "split=all is for files"),
        ("shell(template=chmod)", "there is no template 'chmod'"),
        ("shell(skill=chmodd)", "there is no skill 'chmodd'"),
        ("shell(index=x)", "index=x is no number"),
        ("shell(index=²)", "index=² is no number"),
        (f"shell(index={'9' * 19})", "is no number"),
        ("shell(template=touch-two)", "no task has all of these options"),  # held out: never for training
        ("shell(skill=vi, level=2)", "no task has all of these options"),
        ("shell(path=nowhere.json)", "there is no file nowhere.json"),
    ],
)
def test_refused(text: str, why: str) -> None:
    with pytest.raises(InputError) as caught:
        task_spec(text)
    assert why in caught.value.message and caught.value.hint


def test_a_task_is_a_function_of_itself() -> None:
    spec = task_spec("shell")
    entries = [entry_of(Task(spec, seed)) for seed in range(60)]
    assert entries == [entry_of(Task(spec, seed)) for seed in range(60)]
    assert len({entry.template for entry in entries}) > 30 and len(set(entries)) == 60


def test_selection() -> None:
    def drawn(text: str) -> set[str]:
        spec = task_spec(text)
        return {entry_of(Task(spec, seed)).template for seed in range(150)}

    assert drawn("shell(skill=vi+chage)") == {
        t.name for t in TEMPLATES.values() if {"vi", "chage"} & set(t.skills.split()) and not t.held_out
    }
    assert {TEMPLATES[name].level for name in drawn("shell(level=3)")} == {3}
    assert drawn("shell(template=rm-file+cp-file)") == {"rm-file", "cp-file"}
    held_out = drawn("shell(split=held_out)")
    assert held_out == {t.name for t in TEMPLATES.values() if t.held_out}
    assert not held_out & (drawn("shell") | drawn("shell(split=eval)"))


def test_index_counts_through_the_templates() -> None:
    first, second, again = (
        entry_of(Task(task_spec(f"shell(template=rm-file+cp-file, index={i})"), seed))
        for i, seed in ((0, 1), (1, 1), (2, 9))
    )
    assert (first.template, second.template, again.template) == ("rm-file", "cp-file", "rm-file")
    assert first != again
    assert first == entry_of(Task(task_spec("shell(template=rm-file, index=0)"), 77))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    skills = {n: ["mkdir"] if n % 2 else ["vi"] for n in range(40)}
    (tmp_path / "e.json").write_text(json.dumps({str(n): raw(n, skill_list=skills[n]) for n in range(40)}))
    return tmp_path / "e.json"


def test_entries_of_a_file(path: Path) -> None:
    def drawn(options: str) -> set[str]:
        spec = task_spec(f'shell(path="{path}"{options})')
        return {entry_of(Task(spec, seed)).key for seed in range(400)}

    everything = {str(n) for n in range(40)}
    assert drawn("") == drawn(", split=all") == everything
    train, eval_ = drawn(", split=train"), drawn(", split=eval")
    assert train | eval_ == everything and not train & eval_ and 4 <= len(eval_) <= 12
    assert drawn(", index=17") == {"17"}
    assert drawn(", skill=vi") == {str(n) for n in range(0, 40, 2)}


def test_keys_of_a_file_that_begin_with_zeros(tmp_path: Path) -> None:
    (tmp_path / "e.json").write_text(json.dumps({key: raw(0) for key in ("007", "7", "00")}))
    every = singles(task_spec(f'shell(path="{tmp_path / "e.json"}")'))
    assert [entry_of(Task(task_spec(str(spec)))).key for spec in every] == ["007", "7", "00"]


def test_an_evaluation_takes_every_entry_of_a_file_equally_often(path: Path) -> None:
    def asked(options: str, games: int, seed: int = 0) -> list[str]:
        spec = task_spec(f'shell(path="{path}"{options})')
        return [entry_of(task).key for task in deals(spec, games, seed)]

    assert sorted(asked("", 40)) == sorted(str(n) for n in range(40))
    assert set(Counter(asked(", skill=vi", 60)).values()) == {3}
    assert len(set(asked("", 12))) == 12 and asked("", 12) != asked("", 12, seed=1)
    assert asked("", 12) == asked("", 40)[:12]
    assert asked(", index=17", 3) == ["17"] * 3
    assert len({task.seed for task in deals(task_spec(f'shell(path="{path}")'), 80, 0)}) == 80


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (", index=99", "has no entry '99'"),
        (", level=1", "the entries of a file have no level"),
        (", template=rm-file", "the entries of a file have no template"),
        (", split=held_out", "a file has no held_out entries"),
        (", skill=awk", "no task has all of these options"),
    ],
)
def test_refused_of_a_file(options: str, why: str, path: Path) -> None:
    with pytest.raises(InputError, match=why):
        task_spec(f'shell(path="{path}"{options})')


def test_the_options_reach_the_environment() -> None:
    env = make_env(Task(task_spec("shell(act=line, rounds=1)"), 3))
    assert "one command line" in env.turns()[0].messages[0].content
    assert options_of(env.task.env).rounds == 1
