"""A template: a task with holes, filled in from pools of values, some of which are kept for evaluation.

A hole is `@` and a name, in any of a template's texts: `@file`, `@word2`, and before a letter `@{n}d`. Its kind is the
name without the digit; two holes of one kind get different values.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random

from ludora.envs.shell.entries import Entry, Script

TRAIN, EVAL, HELD_OUT = SPLITS = ("train", "eval", "held_out")
SKILLS = (
    *("addgroup", "awk", "cat", "cd", "chage", "chgrp", "chmod", "chown", "chsh", "cp", "echo", "exit", "find"),
    *("gpasswd", "grep", "groupadd", "ln", "ls", "mkdir", "mv", "rm", "sed", "sleep", "tee", "touch", "useradd"),
    *("usermod", "vi", "wc"),
)
_STEMS = (
    (
        *(
            "notes",
            "report",
            "draft",
            "list",
            "config",
            "plan",
            "memo",
            "index",
            "sales",
            "orders",
            "summary",
            "result",
        ),
        *("table", "input", "output", "contacts", "prices", "events", "tasks", "ideas"),
    ),
    ("budget", "letter", "recipe", "survey", "journal", "agenda", "ledger", "review"),
)
_ENDINGS = ("txt", "md", "log", "csv")

# kind -> (values for training, values for evaluation); no value is in both.
POOLS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "file": (
        tuple(f"{stem}.{end}" for stem in _STEMS[0] for end in _ENDINGS),
        tuple(f"{stem}.{end}" for stem in _STEMS[1] for end in _ENDINGS),
    ),
    "dir": (
        (
            *("docs", "build", "backup", "photos", "source", "music", "archive", "tools", "old", "public", "work"),
            *("site", "data", "cache", "models", "themes", "books", "games"),
        ),
        ("drafts", "reports", "images", "assets", "inbox", "videos", "letters", "shared"),
    ),
    "script": (
        ("run", "start", "deploy", "sync", "clean", "rotate", "collect", "update", "check", "install", "stop", "fetch"),
        ("launch", "export", "refresh", "gather", "publish"),
    ),
    "user": (
        (
            *("alice", "bob", "carol", "dave", "erin", "frank", "gina", "hugo", "ivan", "judy", "anna", "ben"),
            *("clara", "david", "emma", "felix", "greta", "henry", "iris", "jonas"),
        ),
        ("kate", "liam", "mona", "nils", "olga", "paul"),
    ),
    "group": (
        (
            *("devs", "ops", "writers", "testers", "editors", "builders", "guests", "runners", "painters", "readers"),
            *("sales", "legal", "finance", "members", "students", "players"),
        ),
        ("analysts", "designers", "support", "auditors", "teachers"),
    ),
    "word": (
        (
            *("apple", "river", "stone", "cloud", "tiger", "lemon", "piano", "rocket", "garden", "silver", "winter"),
            *("candle", "forest", "marble", "pepper", "violet", "copper", "island", "bridge", "meadow", "button"),
            *("carpet", "dragon", "engine", "feather", "hammer", "jungle", "kettle", "ladder", "mirror"),
        ),
        ("harbor", "falcon", "ginger", "lantern", "orchid", "saddle", "tunnel", "walnut", "anchor", "beacon"),
    ),
    "n": (("2", "3", "5", "7", "8"), ("4", "6", "9")),
    "days": (("10", "20", "30", "40", "45", "60", "90", "120", "150", "200", "365"), ("14", "75", "100", "180")),
    "mode": (
        ("400", "440", "444", "600", "604", "644", "700", "705", "740", "744", "755", "770", "775", "777"),
        ("640", "660", "750", "711", "664"),
    ),
    "shell": (
        ("/bin/sh", "/bin/bash", "/usr/bin/bash", "/bin/zsh", "/usr/bin/zsh", "/bin/ksh", "/usr/bin/dash", "/bin/ash"),
        ("/bin/dash", "/bin/rbash", "/usr/bin/sh", "/bin/csh", "/usr/bin/fish"),
    ),
    "uid": (
        (
            *("2001", "2010", "2042", "2105", "2300", "2512", "2677", "2718", "2999", "4004", "4123", "4310", "4567"),
            *("5000", "5151", "5432", "6006", "6280", "7001", "7373", "8008", "8642", "9100", "9876"),
        ),
        ("3003", "3021", "3100", "3456", "3789"),
    ),
}
HOLE = re.compile(r"@(?P<brace>\{)?(?P<name>(?P<kind>[a-z]+)\d?)(?(brace)\})")


@dataclass(frozen=True, slots=True)
class Template:
    """A task with holes.

    Attributes:
        name: unique.
        level: 1 for one command, 2 for two or three, 3 for more.
        skills: those of `SKILLS` that the solution takes.
        asks: ways to ask for it.
        solution: one line of bash.
        check: bash; status 0 where the task is done.
        setup: bash, run before.
        held_out: never trained on, so that what was learnt can be tried on another kind of task.
    """

    name: str
    level: int
    skills: str
    asks: tuple[str, ...]
    solution: str
    check: str
    setup: str = ""
    held_out: bool = False

    def instance(self, random: Random, *, evaluation: bool) -> Entry:
        """The task with every hole filled, from the values for training or those for evaluation."""
        texts = (random.choice(self.asks), self.setup, self.check, self.solution)
        values = fill(texts, random, evaluation=evaluation)
        ask, setup, check, solution = (HOLE.sub(lambda hole: values[hole["name"]], text) for text in texts)
        key = "/".join((self.name, *values.values()))
        before = f"mkdir -p /srv && cd /srv\n{setup}" if setup else "mkdir -p /srv"
        skills = tuple(self.skills.split())
        return Entry(key, ask, Script(before), Script(check), Script(solution), skills, self.level, self.name)


def fill(texts: tuple[str, ...], random: Random, *, evaluation: bool) -> dict[str, str]:
    """A value for every hole of some texts, by name, in the order of the names."""
    holes = sorted({(hole["name"], hole["kind"]) for text in texts for hole in HOLE.finditer(text)})
    values: dict[str, str] = {}
    for name, kind in holes:
        free = [value for value in POOLS[kind][evaluation] if value not in values.values()]
        values[name] = random.choice(free)
    return values
