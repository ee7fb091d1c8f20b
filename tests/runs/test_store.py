"""The run folder: names, logs, checkpoints, damage, pruning, listing."""

import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ludora.errors import DamagedCheckpoint, InputError, RunInUse
from ludora.runs import episodes
from ludora.runs.files import MANIFEST
from ludora.runs.listing import clean, find_run, latest_run, list_runs
from ludora.runs.store import Run

FILES = {"adapter.safetensors": bytes(range(256)) * 20, "state.json": b'{"update": 1}'}


@pytest.fixture
def run(tmp_path: Path):
    with Run.create(tmp_path, "leduc", {"kind": "ppo", "task": "leduc_poker"}) as made:
        made.warnings = []
        made.warn = made.warnings.append
        yield made


def test_create_numbers_runs_of_one_name(tmp_path: Path) -> None:
    names = []
    for _ in range(3):
        with Run.create(tmp_path / "runs", "leduc", {"seed": 3}) as made:
            names.append(made.name)
            assert made.config == {"seed": 3}
    assert names == ["leduc", "leduc-2", "leduc-3"]


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "/etc", ".hidden", "a\0b", "a\nb", "x" * 101, "naïve"])
def test_a_name_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="cannot be the name"):
        Run.create(tmp_path / "runs", name, {})
    assert not (tmp_path / "runs").exists()


@given(st.text(max_size=30))
@settings(max_examples=300, deadline=None)
def test_any_accepted_name_is_a_child(name: str) -> None:
    from ludora.runs.store import check_name

    try:
        check_name(name)
    except InputError:
        return
    root = Path("/runs")
    assert os.path.normpath(root / name) == f"/runs/{name}"
    assert Path(os.path.normpath(root / name)).parent == root


def test_one_writer(run: Run) -> None:
    with pytest.raises(RunInUse, match=f"process {os.getpid()} on ") as error:
        Run.open(run.path)
    assert error.value.exit_code == 2
    assert Run.read(run.path).in_use.startswith(f"process {os.getpid()} on ")
    run.close()
    assert Run.read(run.path).in_use == ""
    Run.open(run.path).close()


def test_reading_writes_nothing(run: Run) -> None:
    reader = Run.read(run.path)
    for write in (lambda: reader.append("metrics.jsonl", {}), lambda: reader.save_checkpoint(1, FILES), reader.resume):
        with pytest.raises(ValueError, match="opened for reading"):
            write()


def test_no_run_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a run folder"):
        Run.open(tmp_path)


def test_save_and_load(run: Run) -> None:
    for step in (0, 5, 10):
        run.save_checkpoint(step, {**FILES, "state.json": str(step).encode()})
    assert run.steps == [0, 5, 10]
    step, files = run.load_checkpoint()
    assert (step, files["state.json"], files["adapter.safetensors"]) == (10, b"10", FILES["adapter.safetensors"])
    assert run.load_checkpoint(5).files["state.json"] == b"5"
    with pytest.raises(InputError, match="no checkpoint of step 7") as error:
        run.load_checkpoint(7)
    assert "0, 5, 10" in error.value.hint


def test_a_step_that_is_there_stays(run: Run) -> None:
    run.save_checkpoint(5, FILES)
    run.save_checkpoint(5, {"state.json": b"other"})
    assert run.load_checkpoint().files == FILES
    (run.checkpoint(5) / "state.json").write_bytes(b"x")
    run.save_checkpoint(5, {"state.json": b"other"})
    assert run.load_checkpoint().files == {"state.json": b"other"}


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".x", MANIFEST])
def test_files_of_a_checkpoint_have_plain_names(run: Run, name: str) -> None:
    with pytest.raises(ValueError, match="cannot be a file"):
        run.save_checkpoint(1, {name: b""})
    assert run.steps == []


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_every_flipped_or_lost_bit_is_noticed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    with Run.create(tmp_path_factory.mktemp("runs"), "leduc", {}) as run:
        warnings: list[str] = []
        run.warn = warnings.append
        run.save_checkpoint(1, FILES)
        run.save_checkpoint(2, FILES)
        file = run.checkpoint(2) / data.draw(st.sampled_from([*FILES, MANIFEST]))
        raw = bytearray(file.read_bytes())
        place = data.draw(st.integers(0, len(raw) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "grow", "gone"])):
            case "flip":
                raw[place] ^= 1 << data.draw(st.integers(0, 7))
                file.write_bytes(raw)
            case "cut":
                file.write_bytes(raw[:place])
            case "grow":
                file.write_bytes(raw + b"\0")
            case "gone":
                file.unlink()
        assert run.load_checkpoint().step == 1
        assert len(warnings) == 1 and "step-000002 is damaged" in warnings[0] and "\n" not in warnings[0]
        with pytest.raises(DamagedCheckpoint, match="step-000002 is damaged"):
            run.load_checkpoint(2)


def test_a_link_in_a_checkpoint_is_damage(run: Run, tmp_path: Path) -> None:
    run.save_checkpoint(1, FILES)
    (tmp_path / "same").write_bytes(FILES["state.json"])
    (run.checkpoint(1) / "state.json").unlink()
    (run.checkpoint(1) / "state.json").symlink_to(tmp_path / "same")
    with pytest.raises(DamagedCheckpoint, match="every checkpoint of run leduc is damaged"):
        run.load_checkpoint()


def test_resume_takes_everything_back(run: Run) -> None:
    for step in range(1, 7):
        run.append("metrics.jsonl", {"step": step, "return": 0.5})
        run.append("events.jsonl", {"event": "tick", "step": step})
        if step % 2 == 0:
            run.save_checkpoint(step, FILES)
    run.mark_best(6)
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "ret')  # what a kill leaves
    run.close()
    with Run.open(run.path) as again:
        again.warn = run.warn
        assert again.resume().step == 6
        assert [row["step"] for row in again.rows("metrics.jsonl")] == [1, 2, 3, 4, 5, 6]
        assert again.best == 6
        assert again.resume(2).step == 2
        assert again.steps == [2] and again.best is None
        again.append("metrics.jsonl", {"step": 3, "return": None})
        assert [row["step"] for row in again.rows("metrics.jsonl")] == [1, 2, 3]
        assert [row["step"] for row in again.rows("events.jsonl")] == [1, 2]


def test_resume_without_a_checkpoint_starts_over(run: Run) -> None:
    run.append("metrics.jsonl", {"step": 1})
    assert run.resume() is None
    assert list(run.rows("metrics.jsonl")) == []
    with pytest.raises(InputError, match="no checkpoint of step 3"):
        run.resume(3)


def test_resume_passes_over_damage(run: Run) -> None:
    for step in (1, 2, 3):
        run.append("metrics.jsonl", {"step": step})
        run.save_checkpoint(step, FILES)
    for step in (2, 3):
        (run.checkpoint(step) / "state.json").write_bytes(b"{}")
    assert run.resume().step == 1
    assert run.steps == [1]
    assert [row["step"] for row in run.rows("metrics.jsonl")] == [1]


def test_only_a_saved_step_can_be_the_best(run: Run) -> None:
    run.save_checkpoint(1, FILES)
    for step in (None, 2):  # nothing was measured yet; the disk was full
        run.mark_best(step)
        assert run.best is None
    run.mark_best(1)
    written = (run.path / "best").stat().st_ino
    for step in (1, None, 2):  # known already; not to be had
        run.mark_best(step)
        assert run.best == 1 and (run.path / "best").stat().st_ino == written


def test_prune_keeps_the_newest_and_the_best(run: Run) -> None:
    for step in range(6):
        run.save_checkpoint(step, {"state.json": b""})
    run.mark_best(1)
    run.prune(2, also=[3])
    assert run.steps == [1, 3, 4, 5]
    run.prune(1)
    assert run.steps == [1, 5]
    run.prune(1, best=5)
    assert run.steps == [5]


def test_leftovers_are_swept_at_open(run: Run) -> None:
    run.save_checkpoint(1, FILES)
    (run.checkpoints / ".tmp-step-000002-99").mkdir()
    (run.checkpoints / ".tmp-step-000002-99" / "state.json").write_bytes(b"half")
    (run.path / ".tmp-best-99").write_bytes(b"")
    os.rename(run.write_adapter({"a": b"1"}), run.path / ".old-adapter")  # killed between the two renames
    run.close()
    with Run.open(run.path) as again:
        assert [p.name for p in again.checkpoints.iterdir()] == ["step-000001"]
        assert (again.adapter / "a").read_bytes() == b"1"
        assert not list(again.path.glob(".*"))


def test_variants_are_recovered_too(run: Run) -> None:
    """Killed between the two renames, a variant lies aside; resumed, it is written again, more than once."""
    for name in ("v001", "v002"):
        run.write_variant(name, {"a": b"1"})
        os.rename(run.variants / name, run.variants / f".old-{name}")
    run.write_variant("v002", {"a": b"2"})
    run.write_variant("v002", {"a": b"3"})  # though nothing has swept up
    run.close()
    with Run.open(run.path) as again:
        again.write_variant("v002", {"a": b"4"})
        assert {p.name: (p / "a").read_bytes() for p in again.variants.iterdir()} == {"v001": b"1", "v002": b"4"}


def test_adapter_is_replaced_whole(run: Run) -> None:
    run.write_adapter({"a": b"1", "b": b"1"})
    run.write_adapter({"a": b"2"})
    assert {p.name: p.read_bytes() for p in run.adapter.iterdir()} == {"a": b"2"}
    assert not list(run.path.glob(".*"))


def test_json_has_no_nan(run: Run) -> None:
    with pytest.raises(ValueError):
        run.write_json("evaluation.json", {"value": float("nan")})
    assert not run.evaluation.exists()


def test_episodes_are_the_same_bytes_for_the_same_text(run: Run) -> None:
    first = run.write_episodes(3, "{}\n").read_bytes()
    assert run.write_episodes(3, "{}\n").read_bytes() == first


def test_later_episodes_go_when_a_run_is_taken_back(run: Run) -> None:
    for step in (2, 4, 1_000_000):
        run.save_checkpoint(step, FILES)
        run.write_episodes(step, f"{step}\n")
    assert list(episodes.found(run.episodes)) == [2, 4, 1_000_000]
    run.resume(4)
    assert list(episodes.found(run.episodes)) == [2, 4]
    (run.episodes / ".tmp-step-000004.jsonl.gz-1").write_bytes(b"half")  # what a kill leaves
    run.close()
    with Run.open(run.path) as again:
        shutil.rmtree(again.checkpoints)
        assert again.resume() is None
    assert not list(run.episodes.iterdir())


def test_clock_repeats_itself(run: Run) -> None:
    assert [run.clock(1, 0.1), run.clock(2, 1 / 3)] == [0.1, 1 / 3]
    run.close()
    with (run.path / "clock.jsonl").open("a") as file:
        file.write("[3, 2.")  # a kill
    with Run.open(run.path) as again:
        assert [again.clock(2, 99.0), again.clock(3, 5.5)] == [1 / 3, 5.5]
    lines = (run.path / "clock.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [[1, 0.1], [2, 1 / 3], [3, 5.5]]


def test_a_nearly_full_disk_is_said_once(run: Run) -> None:
    run._check_space(10**18)
    run._check_space(10**18)
    assert len(run.warnings) == 1 and "nearly full" in run.warnings[0]


def test_list_find_and_clean(tmp_path: Path) -> None:
    for i in range(4):
        with Run.create(tmp_path, "leduc", {"kind": "ppo", "task": "leduc_poker"}) as made:
            made.save_checkpoint(7, FILES)
        for path in (made.path, *made.path.rglob("*")):
            os.utime(path, (1000 + i, 1000 + i))
    (tmp_path / "no-run").mkdir()
    (tmp_path / "leduc-2" / "config.json").write_text("{")
    os.utime(tmp_path / "leduc-2" / "config.json", (1001, 1001))
    listed = list_runs(tmp_path)
    assert [info.name for info in listed] == ["leduc-4", "leduc-3", "leduc-2", "leduc"]
    assert listed[0].task == "leduc_poker" and listed[0].last_step == 7 and not listed[0].in_use
    assert listed[2].kind == "unreadable"

    assert find_run(tmp_path, "leduc-3@7") == (tmp_path / "leduc-3", 7)
    for step in ("\N{SUPERSCRIPT TWO}", "9" * 100):
        with pytest.raises(InputError, match="there is no run"):
            find_run(tmp_path, f"leduc-3@{step}")
    assert find_run("elsewhere", str(tmp_path / "leduc")) == (tmp_path / "leduc", None)
    with pytest.raises(InputError, match="no run 'leduk'"):
        find_run(tmp_path, "leduk")
    assert latest_run(tmp_path, "leduc") == tmp_path / "leduc-4"
    with pytest.raises(InputError, match="no run 'kuhn'"):
        latest_run(tmp_path, "kuhn")

    assert [path.name for path in clean(tmp_path, keep=3)[0]] == ["leduc"]
    with Run.open(tmp_path / "leduc-3"):
        deleted, left = clean(tmp_path, keep=0)
    assert sorted(path.name for path in deleted) == ["leduc-2", "leduc-4"]
    assert [info.name for info in left] == ["leduc-3"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["leduc-3", "no-run"]
