"""Data sets: the grammar, three disjoint splits, and errors that say what to do."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ludora.data.questions import STYLES, Question, Sizes, choice_answer, key_of, messages
from ludora.data.sources import SOURCES, is_dataset, load, source_spec
from ludora.envs.build import own_games
from ludora.envs.openspiel_games import game_types
from ludora.errors import InputError

# the package needs a C compiler to install, so the tests do without it where it is not there
GYM = pytest.mark.skipif(find_spec("reasoning_gym") is None, reason="needs reasoning-gym")


def write(path: Path, rows: list[dict[str, object]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def numbered(count: int) -> list[dict[str, object]]:
    return [{"question": f"question {i}?", "answer": f"answer {i}"} for i in range(count)]


# ---- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("gsm8k", "dataset(gsm8k)"),
        ("dataset(gsm8k)", "dataset(gsm8k)"),
        ("mmlu-pro", "dataset(mmlu-pro)"),
        (" dataset( arithmetic(level=2) ) ", "dataset(arithmetic(level=2))"),
        ("arithmetic(operations=add+mul, level=2)", "dataset(arithmetic(level=2, operations=add+mul))"),
        ("dataset(my.jsonl, style=final)", "dataset(my.jsonl, style=final)"),
        ("dataset(some/folder/x.json)", "dataset(some/folder/x.json)"),
        ("positions(leduc_poker, expert=nash)", "dataset(positions(leduc_poker, expert=nash))"),
    ],
)
def test_names(text: str, name: str) -> None:
    assert is_dataset(text)
    assert str(source_spec(text)) == name
    assert source_spec(str(source_spec(text))) == source_spec(text)


@pytest.mark.parametrize("text", ["kuhn_poker", "snake(size=8)", "200000042", "-1", "", "a(", "2048"])
def test_games_are_no_data_sets(text: str) -> None:
    assert not is_dataset(text)


def test_no_data_set_has_the_name_of_a_game() -> None:
    assert not set(SOURCES) & (set(game_types()) | set(own_games()))


@pytest.mark.parametrize(
    ("text", "why", "hint"),
    [
        ("dataset(gsm9k)", "no data set 'gsm9k'", "gsm8k"),
        ("dataset", "names no data set", "list datasets"),
        ("dataset(gsm8k, mmlu-pro)", "names no data set", "list datasets"),
        ("dataset(gsm8k, path=here)", "options belong to gsm8k", "dataset(gsm8k(key=value))"),
        ("dataset(nothing(x=1))", "no data set 'nothing'", ""),
    ],
)
def test_names_that_are_refused(text: str, why: str, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        load(text, Sizes(test=1))
    assert why in caught.value.message and hint in caught.value.hint


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("arithmetic(level=9)", "no level 9"),
        ("arithmetic(level=high)", "level is of type int"),
        ("arithmetic(operations=add+pow)", "no operation 'pow'"),
        ("arithmetic(operations=add+add)", "named twice"),
        ("arithmetic(depth=1)", "data set arithmetic has no option 'depth'"),
        ("arithmetic(3)", "takes no plain value"),
        ("gsm8k(path=nowhere)", "no folder nowhere"),
        ("gsm8k(split=train)", "no option 'split'"),
        ("snake-moves(size=3)", "size"),
        ("snake-moves(expert=nash)", "no expert at Snake"),
        ("snake-moves(8)", "takes no plain value"),
        ("positions(leduc_poker, expert=random)", "no expert at other games"),
        ("positions(leduc_poker, deep=1)", "no option 'deep'"),
        ("positions", "does not name one game"),
        ("positions(snake)", "no game of OpenSpiel"),
        ("positions(chess)", "chess"),
        pytest.param("reasoning-gym", "no task ''", marks=GYM),
        pytest.param("reasoning-gym(chain_sums)", "no task 'chain_sums'", marks=GYM),
        pytest.param("reasoning-gym(chain_sum, terms=3)", "unexpected keyword argument 'terms'", marks=GYM),
        pytest.param("reasoning-gym(chain_sum, min_terms=0)", "min_terms must be positive", marks=GYM),
        ("dataset(nowhere.jsonl)", "no file nowhere.jsonl"),
    ],
)
def test_options_that_are_refused(text: str, why: str) -> None:
    with pytest.raises(InputError) as caught:
        load(text, Sizes(test=2))
    assert why in caught.value.message and caught.value.hint and "\n" not in caught.value.message


@pytest.mark.parametrize("sizes", [Sizes(), Sizes(train=-1, test=3)])
def test_sizes_that_are_refused(sizes: Sizes) -> None:
    with pytest.raises(InputError, match="make no data set"):
        load("arithmetic", sizes)


# ---- splits --------------------------------------------------------------------------------------------------------

SMALL = ["arithmetic", "arithmetic(level=2, operations=mul+div)", pytest.param("reasoning-gym(chain_sum)", marks=GYM)]


@pytest.mark.parametrize("source", SMALL)
def test_a_question_of_one_split_is_never_in_another_whatever_seed_and_size(source: str) -> None:
    learnt = {key_of(q) for seed in (1, 2) for q in load(source, Sizes(train=150), seed).train}
    for seed in (1, 3):
        asked = load(source, Sizes(search=60, test=60), seed)
        assert not learnt & {key_of(q) for q in (*asked.search, *asked.test)}
        assert not {key_of(q) for q in asked.search} & {key_of(q) for q in asked.test}


@pytest.mark.parametrize("source", SMALL)
def test_the_seed_decides_and_the_sizes_do_not(source: str) -> None:
    one, other = load(source, Sizes(20, 10, 10), 5), load(source, Sizes(40, 5, 30), 5)
    assert one.train == other.train[:20] and one.search[:5] == other.search and one.test == other.test[:10]
    assert one == load(source, Sizes(20, 10, 10), 5)
    assert one.test != load(source, Sizes(20, 10, 10), 6).test


def test_a_file_is_cut_into_blocks_that_hang_on_it_alone(tmp_path: Path) -> None:
    source = f"dataset({write(tmp_path / 'a.jsonl', numbered(50))})"
    splits = load(source, Sizes(30, 10, 10), 3)
    parts = [{q.question for q in part} for part in (splits.train, splits.search, splits.test)]
    assert [len(part) for part in parts] == [30, 10, 10] and len(set.union(*parts)) == 50
    assert load(source, Sizes(test=4), 3).test == splits.test[:4]
    write(tmp_path / "a.jsonl", list(reversed(numbered(50))))  # another order of the lines is the same data set
    assert {q.question for q in load(source, Sizes(30, 10, 10), 3).test} == parts[2]


@pytest.mark.parametrize("shares", ["", ", search_share=0.4, test_share=0.3"])
def test_no_seed_learns_what_another_asks(tmp_path: Path, shares: str) -> None:
    source = f"dataset({write(tmp_path / 'a.jsonl', numbered(50))}{shares})"
    whole = Sizes(15, 20, 15) if shares else Sizes(30, 10, 10)
    one, other = load(source, whole, 1), load(source, whole, 2)
    assert set(one.test) == set(other.test) and one.test != other.test  # the same ones, in another order
    assert set(one.search) != set(other.search)
    assert not set(one.test) & {*other.train, *other.search}


def test_shares_of_a_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", numbered(50))
    splits = load(f"dataset({path}, search_share=0.1, test_share=0.5)", Sizes(20, 5, 25))
    assert (len(splits.train), len(splits.search), len(splits.test)) == (20, 5, 25)
    with pytest.raises(InputError, match="shares"):
        load(f"dataset({path}, search_share=0.6, test_share=0.5)", Sizes(1))
    with pytest.raises(InputError, match="has 30 different questions for train, 31 are wanted"):
        load(f"dataset({path})", Sizes(31))


def test_duplicates_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = [*numbered(20), *({**row, "question": f"  {str(row['question']).upper()} "} for row in numbered(20)[:7])]
    splits = load(f"dataset({write(tmp_path / 'a.jsonl', rows)})", Sizes(12, 4, 4))
    assert splits.duplicates == 7
    keys = [key_of(q) for q in (*splits.train, *splits.search, *splits.test)]
    assert len(set(keys)) == len(keys) == 20


def test_a_source_that_runs_dry_says_how_much_there_is() -> None:
    with pytest.raises(InputError) as caught:
        load("arithmetic(operations=mul)", Sizes(train=100_000))
    assert caught.value.message.endswith("for train, 100000 are wanted") and "ask for" in caught.value.hint


def test_options_tell_questions_apart() -> None:
    one = Question("1", "Which?", choice_answer(0), ("a", "b"))
    assert key_of(one) != key_of(Question("2", "Which?", choice_answer(0), ("a", "c")))
    assert key_of(one) == key_of(Question("3", " WHICH? ", choice_answer(1), ("A", "b ")))


def test_how_a_question_is_put() -> None:
    told = messages(Question("1", "Which?", choice_answer(1), ("up", "down")), STYLES["choice"])
    assert [m.role for m in told] == ["system", "user"]
    assert told[1].content == "Which?\nA. up\nB. down" and "The answer is (X)." in told[0].content
    assert [m.role for m in messages(Question("1", "Why?", "so"), STYLES["text"])] == ["user"]


# ---- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "question", "answer"),
    [
        ({"question": "a?", "answer": "b", "final": "ignored"}, "a?", "b"),
        ({"text": "a?", "label": "b"}, "a?", "b"),
        ({"instruction": "a?", "response": "b"}, "a?", "b"),
        ({"instruction": "a?", "output": "b"}, "a?", "b"),
        ({"question": "a?", "answer": 40}, "a?", "40"),
        ({"question": "a?", "answer": "down", "options": ["up", "down"]}, "a?", "The answer is (B)."),
        ({"question": "a?", "answer": "b", "options": ["up", "down"]}, "a?", "The answer is (B)."),
    ],
)
@pytest.mark.parametrize("ending", ["json", "jsonl"])
def test_columns_of_a_file(tmp_path: Path, row: dict[str, object], question: str, answer: str, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    path.write_text(json.dumps([row] if ending == "json" else row))
    [found] = load(f"dataset({path}, search_share=0, test_share=0)", Sizes(train=1)).train
    assert (found.question, found.answer) == (question, answer)


@pytest.mark.parametrize("ending", ["json", "jsonl"])
def test_a_mark_of_the_byte_order_is_no_text(tmp_path: Path, ending: str) -> None:
    row = {"question": "a?", "answer": "b"}
    path = tmp_path / f"a.{ending}"
    path.write_text(json.dumps([row] if ending == "json" else row), encoding="utf-8-sig")
    assert load(f"dataset({path}, search_share=0, test_share=0)", Sizes(train=1)).train[0].answer == "b"


@pytest.mark.parametrize(
    ("answers", "style"),
    [
        (["1 + 1 #### 2", "#### 3"], "gsm8k"),
        (["so. Answer: 2", "Answer: 3"], "final"),
        (["so. Answer: 2", "3"], "text"),
        (["#### 2", "Answer: 3"], "text"),
    ],
)
def test_answers_tell_the_style(tmp_path: Path, answers: list[str], style: str) -> None:
    path = write(tmp_path / "a.jsonl", [{"question": f"{i}?", "answer": a} for i, a in enumerate(answers)])
    assert load(f"dataset({path}, test_share=0.5)", Sizes(test=1)).style == style
    assert load(f"dataset({path}, style=squad, test_share=0.5)", Sizes(test=1)).style == "squad"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"question": "a?"}\n', "a.jsonl:1: 'answer' is missing"),
        ('{"question": "a?", "answer": "b"}\nnot json\n', "a.jsonl:2: it is not JSON"),
        ('{"question": "a?", "answer": ""}\n', "a.jsonl:1: its question or answer is empty"),
        ('{"question": "a?", "answer": null}\n', "a.jsonl:1: 'answer' is not a text"),
        ('{"question": "a?", "answer": true}\n', "a.jsonl:1: 'answer' is not a text"),
        ('{"question": "a?", "answer": "c", "options": ["x", "y"]}\n', 'its answer "c" is none of its options'),
        ('{"question": "a?", "answer": "x", "options": ["x", "x"]}\n', "none of its options"),
        ('{"question": "a?", "answer": "b", "group": 3}\n', "'group' is not a text"),
        ("\n", "holds no question"),
        ('{"question": "a?", "answer": "b"}\n{"question": "c?", "answer": "A", "options": ["x"]}\n', "has options"),
    ],
)
def test_lines_that_are_refused(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(InputError) as caught:
        load(f"dataset({tmp_path / 'a.jsonl'})", Sizes(train=1))
    assert why in caught.value.message and caught.value.hint


@pytest.mark.parametrize(("text", "why"), [("{}", "not a list"), ("[1]", "not a list"), ("[", "not JSON")])
def test_json_files_that_are_refused(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=why):
        load(f"dataset({tmp_path / 'a.json'})", Sizes(train=1))


def test_styles_that_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", numbered(5))
    with pytest.raises(InputError, match="no style 'gsm9k'"):
        load(f"dataset({path}, style=gsm9k)", Sizes(train=1))
    with pytest.raises(InputError, match="has no options"):
        load(f"dataset({path}, style=choice)", Sizes(train=1))


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_a_name_or_a_clear_error(text: str) -> None:
    try:
        assert source_spec(text)
    except InputError as error:
        assert error.hint
