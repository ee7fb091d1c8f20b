"""Run by test_crash.py in a process of its own: do something to a run folder and die, or fail, at the k-th system call.

Usage: crash_driver.py FOLDER ACTION HOW. Python's profile hook sees every call into the `posix` module before it is
made, so nothing of the code under test has to be replaced. For every k a child is forked, works on a fresh copy of
FOLDER, and is killed by SIGKILL before its k-th such call; the parent then checks what is left.
"""

import os
import shutil
import signal
import sys
from pathlib import Path

from ludora.runs.store import Run

OLD = {"adapter.safetensors": b"1" * 3000, "state.json": b"1"}
NEW = {"adapter.safetensors": b"2" * 3000, "state.json": b"2"}
CALLS = {"open", "write", "fsync", "rename", "mkdir", "rmdir", "unlink", "ftruncate", "truncate", "close", "pwrite"}


def naive(run: Run) -> None:
    """The control: files written straight into their final place, as most trainers do."""
    folder = run.checkpoint(2)
    os.mkdir(folder)
    for name, data in NEW.items():
        file = os.open(folder / name, os.O_WRONLY | os.O_CREAT)
        os.write(file, data)
        os.close(file)


def save(run: Run) -> None:
    """Save a second checkpoint, mark it as the best, prune the first one."""
    run.append("metrics.jsonl", {"step": 2})
    run.save_checkpoint(2, NEW)
    run.mark_best(2)
    run.prune(1)


def resume(run: Run) -> None:
    """Go back from the second checkpoint to the first."""
    run.resume(1)


def adapter(run: Run) -> None:
    """Write the final adapter over an earlier one."""
    run.write_adapter(NEW)


def main() -> None:
    template, action = (
        Path(sys.argv[1]),
        {"save": save, "resume": resume, "adapter": adapter, "naive": naive}[sys.argv[2]],
    )
    lost = k = 0
    while True:
        k += 1
        work = template.with_name("work")
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(template, work)
        child = os.fork()
        if child == 0:
            with Run.open(work) as run:
                die_at(k)
                action(run)
                sys.setprofile(None)
            os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
            break
        lost += not intact(work, action.__name__)
    print(k - 1, lost)


def die_at(k: int) -> None:
    """Kill this process right before its k-th call from now on that touches files."""
    left = k

    def hook(frame: object, event: str, arg: object) -> None:
        nonlocal left
        if event == "c_call" and getattr(arg, "__module__", "") == "posix" and arg.__name__ in CALLS:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(hook)


def intact(work: Path, action: str) -> bool:
    """Whether the run goes on from one whole state, old or new, and nothing is left lying about."""
    with Run.open(work) as run:
        if action == "adapter":
            found = {path.name: path.read_bytes() for path in run.adapter.iterdir()}
            return found in (OLD, NEW) and not list(run.path.glob(".*"))
        state = run.resume(1 if action == "resume" else None)
        steps = [row["step"] for row in run.rows("metrics.jsonl")]
        whole = state is not None and state.files == {1: OLD, 2: NEW}[state.step] and steps == [1, 2][: state.step]
        return whole and run.best in (None, 1, 2) and not list(run.checkpoints.glob(".*"))


if __name__ == "__main__":
    main()
