"""Answers to actions, actions to answers, and what is shown of an output."""

from __future__ import annotations

import subprocess

import pytest

from ludora.envs.sandbox.base import Done
from ludora.envs.shell.actions import ACTS, Action, observation, read, reference, rules, write
from ludora.envs.shell.entries import Entry, Script

FINISHED = Action(None)


@pytest.mark.parametrize(
    ("answer", "action"),
    [
        ("Act: bash\n```bash\nls\n```", Action("ls")),
        ("First I look.\n\nAct:  Bash\n\n```bash\nls\ncd /\n```\nthen\n```bash\npwd\n```", Action("ls\ncd /\n\npwd")),
        ("```bash\nls\n```\nAct: bash", Action("ls")),  # blocks count wherever they stand
        ("Act: bash\nls", Action("")),  # no block: an empty script
        ("Act: bash\n```python\nprint()\n```", Action("")),
        ("All is done.\nAct: finish", FINISHED),
        ("Act: Finish.", FINISHED),
        ("Act: finish\nAct: bash\n```bash\nrm x\n```", FINISHED),  # the first one counts
        ("Act: bash\n```bash\nrm x\n```\nAct: finish", Action("rm x")),
        ("Act: answer(3)", None),
        ("act: finish", None),
        ("```bash\nls\n```", None),
        ("", None),
    ],
)
def test_the_benchmarks_form(answer: str, action: Action | None) -> None:
    assert read(answer, "act") == action


@pytest.mark.parametrize(
    ("answer", "action"),
    [
        ("```bash\nls\n```", Action("ls")),
        ("So:\n```sh\nls\n```\nand\n```\npwd\n```", Action("ls\n\npwd")),
        ("finish", FINISHED),
        (" Finish.\n", FINISHED),
        ("I finish here", None),
        ("ls", None),
    ],
)
def test_code_blocks(answer: str, action: Action | None) -> None:
    assert read(answer, "bash") == action


@pytest.mark.parametrize(
    ("answer", "action"),
    [
        ("mkdir /srv/x", Action("mkdir /srv/x")),
        ("\n  mkdir /srv/x \nThat was it.", Action("mkdir /srv/x")),
        ("$ mkdir x", Action("mkdir x")),
        ("`mkdir x`", Action("mkdir x")),
        ("Here:\n```bash\nmkdir x\n```", Action("mkdir x")),
        ("finish", FINISHED),
        ("exit 3", Action("exit 3")),
        ("", None),
        ("```\n```", None),
    ],
)
def test_one_line(answer: str, action: Action | None) -> None:
    assert read(answer, "line") == action


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("script", [None, "mkdir x && ls", "echo 'a b' > /srv/f"])
def test_what_is_written_is_read_back(script: str | None, act: str) -> None:
    assert read(write(script, act), act) == Action(script)


def test_a_script_of_several_lines_as_one() -> None:
    script = "for i in 1 2; do\n  echo \"it's $i\"\ndone\nprintf 'a\\tb\\n' | cat"
    action = read(write(script, "line"), "line")
    assert action and action.script and "\n" not in action.script
    told = [subprocess.run(["bash", "-c", text], capture_output=True).stdout for text in (script, action.script)]
    assert told[0] == told[1] == b"it's 1\nit's 2\na\tb\n"


def test_a_solution_in_python_is_carried_out_by_bash() -> None:
    entry = Entry("0", "", Script(""), Script(""), Script("x = 'a'\nprint(x * 3)", "python"), ())
    done = subprocess.run(["bash", "-c", reference(entry)], capture_output=True, text=True)
    assert done.stdout == "aaa\n"


@pytest.mark.parametrize("act", ACTS)
def test_the_rules_show_the_form_that_is_read(act: str) -> None:
    text = rules(act, 7).content
    if act == "line":
        assert "finish" in text and "finish" not in rules("line", 1).content
    else:
        assert "7 answers" in text and read(text, act) == Action("mkdir /data")


@pytest.mark.parametrize(
    ("done", "limit", "text"),
    [
        (Done(0, "one\ntwo\n"), 100, "Output:\none\ntwo"),
        (Done(0, " \n"), 100, "There was no output."),
        (
            Done(0, "x" * 11),
            10,
            f"Output:\n{'x' * 10}\n(The output was longer; only the first 10 characters are shown.)",
        ),
        (Done(0, "x" * 10), 10, f"Output:\n{'x' * 10}"),
        (
            Done(0, "abc", truncated=True),
            10,
            "Output:\nabc\n(The output was longer; only the first 3 characters are shown.)",
        ),
        (Done(0, "abc"), 0, "(The output was longer; only the first 0 characters are shown.)"),
        (Done(None, "", timed_out=True), 9, "There was no output.\n(The command was stopped after 20 seconds.)"),
        (
            Done(137, "", out_of_memory=True),
            9,
            "There was no output.\n(The machine ran out of memory, and processes were stopped.)",
        ),
    ],
)
def test_observations(done: Done, limit: int, text: str) -> None:
    assert observation(done, limit, 20.0).content == text
