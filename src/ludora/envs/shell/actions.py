"""How an agent is told what to do, how its answer becomes an action, and what it is shown then.

| act    | an answer                                                                                      |
|--------|------------------------------------------------------------------------------------------------|
| `act`  | the benchmark's form: `Act: bash` with code blocks, or `Act: finish`; the first `Act:` counts  |
| `bash` | code blocks, or the word finish                                                                |
| `line` | one command line, or the word finish                                                           |
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from ludora.envs.sandbox.base import Done
from ludora.envs.shell.entries import Entry
from ludora.types import Message

FINISH = "finish"
ACTS = ("act", "bash", "line")
_ACT = re.compile(r"Act:\s*(.+)")
_BASH = re.compile(r"```bash[ \t]*\n(.*?)```", re.DOTALL)
_BLOCK = re.compile(r"```(?:bash|sh|shell)?[ \t]*\n(.*?)```", re.DOTALL)
_HOW = {
    "act": (
        "You are root in a Linux shell and carry out a task, step by step. In each answer think first, then give "
        "exactly one action. To run commands:\n\nAct: bash\n```bash\nmkdir /data\n```\n\nOnce the task is done:\n\n"
        "Act: finish\n\n"
    ),
    "bash": (
        "You are root in a Linux shell and carry out a task, step by step. In each answer give one block of commands:"
        "\n\n```bash\nmkdir /data\n```\n\nOnce the task is done, answer finish.\n\n"
    ),
    "line": "You are root in a Linux shell. Answer with one command line and nothing else.",
}
_MORE = {
    "line": " Once the task is done, answer finish.",
}
_LIMITS = (
    "Every block starts anew in / and must not wait for input. You have {rounds} answers; only what is then to be "
    "found on the machine counts."
)


@dataclass(frozen=True, slots=True)
class Action:
    """What an answer means: a script to run, or (None) that the agent has finished."""

    script: str | None


@cache
def rules(act: str, rounds: int) -> Message:
    """The system message. In `line` with one round there is nothing to say but what an answer is."""
    if act == "line":
        return Message("system", _HOW["line"] + (_MORE["line"] if rounds > 1 else ""))
    return Message("system", _HOW[act] + _LIMITS.format(rounds=rounds))


def read(answer: str, act: str) -> Action | None:
    """The action that an answer names; None if it names none."""
    if act == "act":
        said = _ACT.search(answer)
        word = said[1].strip().lower() if said else ""
        if word.startswith("bash"):
            return Action("\n\n".join(block.strip() for block in _BASH.findall(answer)))
        return Action(None) if word.startswith(FINISH) else None
    blocks = _BLOCK.findall(answer)
    if act == "bash":
        if blocks:
            return Action("\n\n".join(block.strip() for block in blocks))
        return Action(None) if _is_finish(answer) else None
    lines = [line.strip() for line in (blocks[0] if blocks else answer).splitlines()]
    line = next((line.strip("`").removeprefix("$ ") for line in lines if line.strip("`")), "")
    if not line:
        return None
    return Action(None) if _is_finish(line) else Action(line)


def _is_finish(text: str) -> bool:
    return text.strip().strip(".").lower() == FINISH


def write(script: str | None, act: str) -> str:
    """The answer that `read` reads as this action."""
    if script is None:
        return "Act: finish" if act == "act" else FINISH
    if act == "line":
        return script if "\n" not in script.strip() else f"eval $'{_escaped(script)}'"
    return f"{'Act: bash' + chr(10) if act == 'act' else ''}```bash\n{script.strip()}\n```"


def _escaped(script: str) -> str:
    """A script of several lines as it stands inside $'...'."""
    return script.strip().replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")


def reference(entry: Entry) -> str:
    """The solution of an entry as bash, whatever it is written in."""
    text, language = entry.solution.text, entry.solution.language
    if language == "bash":
        return text
    if language == "python":
        return f"python3 - <<'END_OF_PROGRAM'\n{text}\nEND_OF_PROGRAM"
    compiler, ending = ("gcc", "c") if language == "c" else ("g++", "cpp")
    source = f"/tmp/solution.{ending}"
    return (
        f"cat > {source} <<'END_OF_PROGRAM'\n{text}\nEND_OF_PROGRAM\n"
        f"{compiler} -o /tmp/solution {source} && /tmp/solution"
    )


def observation(done: Done, limit: int, seconds: float) -> Message:
    """What the agent is shown of a command: at most `limit` characters of its output, and how it ended if by force."""
    shown = done.output[:limit].rstrip()
    parts = [f"Output:\n{shown}" if shown else "There was no output." if not done.output.strip() else ""]
    if len(done.output) > limit or done.truncated:
        parts.append(f"(The output was longer; only the first {min(limit, len(done.output))} characters are shown.)")
    if done.timed_out:
        parts.append(f"(The command was stopped after {seconds:g} seconds.)")
    if done.out_of_memory:
        parts.append("(The machine ran out of memory, and processes were stopped.)")
    return Message("user", "\n".join(filter(None, parts)))
