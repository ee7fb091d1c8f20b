"""What a kill, a full disk, or a race does to a run folder, in real processes."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ludora.runs.store import Run

DRIVER = Path(__file__).with_name("crash_driver.py")
OLD = {"adapter.safetensors": b"1" * 3000, "state.json": b"1"}
NEW = {"adapter.safetensors": b"2" * 3000, "state.json": b"2"}


def template(tmp_path: Path, steps: int) -> Path:
    """A run with one or two checkpoints and an adapter."""
    with Run.create(tmp_path, "template", {}) as run:
        for step, files in list(enumerate((OLD, NEW), start=1))[:steps]:
            run.append("metrics.jsonl", {"step": step})
            run.save_checkpoint(step, files)
        run.write_adapter(OLD)
        return run.path


def python(*arguments: object) -> list[str]:
    return [sys.executable, *map(str, arguments)]


@pytest.mark.parametrize(("action", "steps", "least"), [("save", 1, 25), ("resume", 2, 5), ("adapter", 1, 15)])
def test_a_kill_at_any_system_call_loses_nothing(tmp_path: Path, action: str, steps: int, least: int) -> None:
    command = python(DRIVER, template(tmp_path, steps), action)
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    points, lost = map(int, done.stdout.split())
    assert points >= least, "the hook saw too few calls to prove anything"
    assert lost == 0


def test_files_written_in_place_would_be_damaged(tmp_path: Path) -> None:
    """The control: without our way of writing, the same kills leave a checkpoint that is there and not whole."""
    path = template(tmp_path, 1)
    done = subprocess.run(python(DRIVER, path, "naive"), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    # Killed before the folder exists, step 1 is left; from then on step 2 lies there damaged and is passed over.
    points, lost = map(int, done.stdout.split())
    assert points >= 6 and lost == 0
    assert done.stderr.count("step-000002 is damaged") >= points - 2


SAVER = """
import sys
from ludora.runs.store import Run
with Run.open(sys.argv[1]) as run:
    step = max(run.steps)
    print("ready", flush=True)
    while True:
        step += 1
        run.append("metrics.jsonl", {"step": step})
        run.save_checkpoint(step, {f"{i}.bin": bytes([step % 256]) * 400_000 for i in range(4)})
        run.prune(2)
"""


def test_kills_at_random_moments(tmp_path: Path) -> None:
    """Whatever the moment, the newest checkpoint is whole, all its files are of one step, and the log ends there."""
    path, chance = template(tmp_path, 1), random.Random(0)
    for _ in range(20):
        process = subprocess.Popen(python("-c", SAVER, path), stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0.005, 0.08))
        process.kill()
        process.wait()
        with Run.open(path) as run:
            warnings: list[str] = []
            run.warn = warnings.append
            found = run.resume()
            assert found is not None and warnings == []
            assert len({data[:1] for data in found.files.values() if len(data) == 400_000}) <= 1
            assert [row["step"] for row in run.rows("metrics.jsonl")][-1] == found.step


FULL = """
import resource, sys
from ludora.runs.store import Run
with Run.open(sys.argv[1]) as run:
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))  # a write beyond fails as on a full disk
    print(run.save_checkpoint(2, {"small.bin": b"x", "large.bin": bytes(300_000)}))
    print(run.save_checkpoint(3, {"small.bin": b"x"}))
"""


def test_a_full_disk_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    path = template(tmp_path, 1)
    done = subprocess.run(python("-c", FULL, path), capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["None", str(path / "checkpoints" / "step-000003")]
    assert done.stderr.startswith("warning: checkpoint of step 2 was not saved: File too large; the last one is step 1")
    assert done.stderr.count("\n") == 1
    with Run.open(path) as run:
        assert run.steps == [1, 3] and run.load_checkpoint(1).files == OLD
        assert not list(run.checkpoints.glob(".*"))


RACER = """
import sys, time
from ludora.errors import RunInUse
from ludora.runs.store import Run
print("ready", flush=True)
sys.stdin.readline()
try:
    run = Run.open(sys.argv[1])
except RunInUse as error:
    print("lost", error.message, flush=True)
else:
    print("won", flush=True)
sys.stdin.readline()
"""


def test_of_ten_that_race_one_wins(tmp_path: Path) -> None:
    path = template(tmp_path, 1)
    racers = [
        subprocess.Popen(python("-c", RACER, path), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(10)
    ]
    assert all(racer.stdout.readline() == "ready\n" for racer in racers)
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    said = [racer.stdout.readline() for racer in racers]
    winners = [racer for racer, text in zip(racers, said, strict=True) if text == "won\n"]
    assert len(winners) == 1
    assert sum(f"in use by process {winners[0].pid} on " in text for text in said) == 9
    winners[0].kill()
    winners[0].wait()
    Run.open(path).close()  # the system freed the lock
    for racer in racers:
        racer.kill()
        racer.wait()


def test_ten_that_create_get_ten_folders(tmp_path: Path) -> None:
    code = "import sys; from ludora.runs.store import Run; print(Run.create(sys.argv[1], 'leduc', {}).name)"
    racers = [subprocess.Popen(python("-c", code, tmp_path), stdout=subprocess.PIPE, text=True) for _ in range(10)]
    names = {racer.communicate()[0].strip() for racer in racers}
    assert names == {"leduc", *(f"leduc-{i}" for i in range(2, 11))}


STOPPABLE = """
import sys, time
from ludora.runs.signals import graceful
with graceful(lambda text: print(text, flush=True)) as stopper:
    print("ready", flush=True)
    while not stopper.stop:
        time.sleep(0.01)
    if sys.argv[1] == "hang":
        print("saving", flush=True)
        time.sleep(60)
    stopper.leave()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_asks(number: int, code: int) -> None:
    process = subprocess.Popen(python("-c", STOPPABLE, "leave"), stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert "Ctrl-C again leaves at once" in process.communicate(timeout=10)[0]
    assert process.returncode == code


def test_the_second_interrupt_kills() -> None:
    process = subprocess.Popen(python("-c", STOPPABLE, "hang"), stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    while process.stdout.readline() != "saving\n":
        pass
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == -signal.SIGINT
