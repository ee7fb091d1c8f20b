"""The TASK and PLAYER grammar: what it reads, what it prints, what it refuses."""

from __future__ import annotations

import math
import string
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ludora.errors import InputError
from ludora.grammar import parse
from ludora.types import Spec

NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,8}", fullmatch=True)
KEYS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
TEXTS = st.text(max_size=12) | st.text(alphabet=string.ascii_letters + string.digits + " ,()=\"'\\:/.+-", max_size=12)
PLAIN = st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS


def specs(values: st.SearchStrategy[Any], min_size: int = 0) -> st.SearchStrategy[Spec]:
    """Specs as `parse` makes them: parameters sorted, nested specs never empty."""

    def build(name: str, variant: str, args: list[Any], params: dict[str, Any]) -> Spec:
        return Spec(name, variant, tuple(args), tuple(sorted(params.items())))

    made = st.builds(
        build, NAMES, st.just("") | NAMES, st.lists(values, max_size=3), st.dictionaries(KEYS, values, max_size=3)
    )
    return made.filter(lambda spec: len(spec.args) + len(spec.params) >= min_size)


NESTED = st.recursive(PLAIN, lambda inner: specs(inner, min_size=1), max_leaves=6)


@given(specs(NESTED))
def test_what_is_printed_reads_back_as_it_was(spec: Spec) -> None:
    again = parse(str(spec))
    assert again == spec
    assert repr(again) == repr(spec)  # 1, 1.0 and True are equal, but not the same value
    assert str(again) == str(spec)


@given(st.text(alphabet='ab1.,()=:" \\-_\n', max_size=20))
@example("a(b())")
@example("a(true())")
@example('a("\\ud800")')
@example('a("x" )')
def test_any_text_is_read_the_same_twice_or_refused_with_a_hint(text: str) -> None:
    try:
        spec = parse(text)
    except InputError as error:
        assert error.hint and "\n" not in error.message
        return
    assert repr(parse(str(spec))) == repr(spec)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("leduc_poker", Spec("leduc_poker")),
        ("  leduc_poker ", Spec("leduc_poker")),
        ("leduc_poker()", Spec("leduc_poker")),
        ("200000042", Spec("200000042")),
        ("mcts:strong", Spec("mcts", "strong")),
        ("mcts:strong(simulations=7)", Spec("mcts", "strong", (), (("simulations", 7),))),
        ("hex(board_size=5)", Spec("hex", params=(("board_size", 5),))),
        ("f(b=1, a=2)", Spec("f", params=(("a", 2), ("b", 1)))),
        ("f( 1 , x = true ,y=False)", Spec("f", args=(1,), params=(("x", True), ("y", False)))),
        ("f(1.5, -2, +3, 1e-3, .5, 5.)", Spec("f", args=(1.5, -2, 3, 0.001, 0.5, 5.0))),
        ("f(1,)", Spec("f", args=(1,))),
        ("adapter(runs/a-b/adapter)", Spec("adapter", args=("runs/a-b/adapter",))),
        ('adapter("runs/a, b (1)")', Spec("adapter", args=("runs/a, b (1)",))),
        ('f(x="")', Spec("f", params=(("x", ""),))),
        ('f("5", "true")', Spec("f", args=("5", "true"))),
        ("openenv(http://127.0.0.1:8000)", Spec("openenv", args=("http://127.0.0.1:8000",))),
        ("f(x=a=b)", Spec("f", params=(("x", "a=b"),))),
        ("f(g(1))", Spec("f", args=(Spec("g", args=(1,)),))),
        ("f(h=i:j(k=2))", Spec("f", params=(("h", Spec("i", "j", (), (("k", 2),))),))),
        ("f(g-h.i(1))", Spec("f", args=(Spec("g-h.i", args=(1,)),))),
        ("f(game=goofspiel())", Spec("f", params=(("game", "goofspiel"),))),
        ("f(1_000)", Spec("f", args=("1_000",))),
        ("f(../x)", Spec("f", args=("../x",))),
    ],
)
def test_reads(text: str, spec: Spec) -> None:
    assert repr(parse(text)) == repr(spec)


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("f(b=1,a=True)", "f(a=true, b=1)"),
        ("f()", "f"),
        ('f("plain")', "f(plain)"),
        ('f("a, b")', 'f("a, b")'),
        ('f("12")', 'f("12")'),
        ('f("True")', 'f("True")'),
        ('f("k=v")', 'f("k=v")'),
        ("f(1e3)", "f(1000.0)"),
        ("f(-0.0)", "f(-0.0)"),
    ],
)
def test_canonical_form(text: str, printed: str) -> None:
    assert str(parse(text)) == printed


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "name is expected"),
        ("(1)", "name is expected"),
        ("-x", "name is expected"),
        ("a b", "unexpected 'b'"),
        ("a(1) b", "unexpected 'b'"),
        ("a(1))", "unexpected ')'"),
        ("a:", "word is expected"),
        ("a:(1)", "word is expected"),
        ("a(", "')' is missing"),
        ("a(1", "')' is missing"),
        ("a(1,", "')' is missing"),
        ("a(k=", "')' is missing"),
        ("a(,1)", "value is missing"),
        ("a(1,,2)", "value is missing"),
        ("a(k=)", "value is missing"),
        ("a(k=1, k=2)", "given twice"),
        ("a(k=1, 2)", "plain value follows"),
        ("a(x y(1))", "double quotes"),
        ('a("x)', "does not end"),
        ('a("x" y)', "',' or ')' is expected"),
        ("a(b(1)c)", "',' or ')' is expected"),
        ("a(1e999)", "too large"),
        ("a(" + "9" * 5000 + ")", "too large"),
        ("a(" * 5000 + "1" + ")" * 5000, "nested too deeply"),
    ],
)
def test_refusals_are_one_short_line_and_a_hint(text: str, why: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(text)
    assert why in caught.value.message
    assert "\n" not in caught.value.message and len(caught.value.message) < 800
    assert "mcts(simulations=100)" in caught.value.hint


def test_numbers_stay_finite() -> None:
    assert math.isfinite(parse("f(1e308)").args[0])


def test_get() -> None:
    spec = parse("f(a=1)")
    assert (spec.get("a"), spec.get("b"), spec.get("b", 3)) == (1, None, 3)
