"""Task files: JSON and parquet, and what is said of a broken one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ludora.envs.shell.entries import Entry, Script, read_entries
from ludora.errors import InputError


def raw(number: int = 0, **changes: Any) -> dict[str, Any]:
    entry = {
        "sample_index": number,
        "instruction": f"Make folder {number}.",
        "initialization_command_item": {"command_name": "bash", "script": "true"},
        "evaluation_info": {
            "evaluation_command_item": {"command_name": "python", "script": "exit(0)"},
            "ground_truth_command_item": {"command_name": "bash", "script": f"mkdir /{number}"},
        },
        "skill_list": ["mkdir", "ls"],
        "raw_entry_hash": 1,
    }
    return {k: v for k, v in (entry | changes).items() if v is not None}


def write(path: Path, entries: Any) -> Path:
    path.write_text(json.dumps(entries))
    return path


WANTED = Entry("0", "Make folder 0.", Script("true"), Script("exit(0)", "python"), Script("mkdir /0"), ("mkdir", "ls"))


def test_json(tmp_path: Path) -> None:
    found = read_entries(write(tmp_path / "e.json", {"0": raw(), "x": raw(5)}))
    assert list(found) == ["0", "x"] and found["0"] == WANTED and found["x"].key == "x"


def test_parquet_holds_the_same(tmp_path: Path) -> None:
    rows = [{k: v if isinstance(v, int | str) else repr(v) for k, v in raw(n).items()} for n in (0, 3)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "e.parquet")
    found = read_entries(tmp_path / "e.parquet")
    assert list(found) == ["0", "3"] and found["0"] == WANTED


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path / "e.json", {"0": raw()})
    first = read_entries(path)
    assert read_entries(path) is first
    write(path, {"0": raw(), "1": raw(1)})
    assert list(read_entries(path)) == ["0", "1"]


SCRIPT = "initialization_command_item"


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ([], "it is not an object"),
        (raw(instruction=None), "'instruction' is missing"),
        (raw(instruction=3), "'instruction' is not a text"),
        (raw(skill_list="mkdir"), "'skill_list' is not a list"),
        (raw(skill_list=[1]), "'skill_list' is not a list of texts"),
        (raw(evaluation_info={}), "'evaluation_command_item' is missing"),
        (
            raw(**{SCRIPT: {"command_name": "perl", "script": ""}}),
            f"{SCRIPT}: 'command_name' is \"perl\", not one of bash",
        ),
        (raw(**{SCRIPT: {"command_name": "bash", "script": "a\0b"}}), f"{SCRIPT}: 'script' holds a NUL"),
        (raw(**{SCRIPT: {"command_name": "bash"}}), f"{SCRIPT}: 'script' is missing"),
    ],
)
def test_a_malformed_entry_is_named_by_its_key(entry: Any, why: str, tmp_path: Path) -> None:
    path = write(tmp_path / "e.json", {"0": raw(), "17": entry})
    with pytest.raises(InputError) as caught:
        read_entries(path)
    assert caught.value.message.startswith(f'{path}: 1 of 2 entries cannot be used: entry "17": {why}')
    assert "\n" not in caught.value.message and caught.value.hint


def test_a_key_that_has_no_utf8_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "e.json", {"0": raw(), "\ud800": raw(1)})
    with pytest.raises(InputError, match="a text holds half a character"):
        read_entries(path)


def test_many_malformed_entries_make_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "e.json", {str(n): 0 for n in range(8)})
    with pytest.raises(InputError, match=r"8 of 8 .*entry \"4\": it is not an object; and entries 5, 6, 7\n"):
        read_entries(path)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.json", None, "there is no file"),
        ("a.json", b"{", "is not JSON"),
        ("a.json", b"\xff\xff", "cannot be read"),
        ("a.json", b"[1]", "holds no object"),
        ("a.json", b"{}", "holds no entries"),
        ("a.parquet", b"PAR1 no", "is not parquet"),
    ],
)
def test_a_file_that_is_none(name: str, content: bytes | None, why: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=why):
        read_entries(tmp_path / name)


def test_a_parquet_field_that_spells_nothing(tmp_path: Path) -> None:
    row = {"sample_index": 4, "instruction": "x", "evaluation_info": "oops(", "skill_list": "[]"}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "e.parquet")
    with pytest.raises(InputError, match="entry \"4\": 'evaluation_info' is not an object"):
        read_entries(tmp_path / "e.parquet")


def test_two_rows_of_one_index(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([{"sample_index": 4}, {"sample_index": 4}]), tmp_path / "e.parquet")
    with pytest.raises(InputError, match="two rows have the sample_index 4"):
        read_entries(tmp_path / "e.parquet")
