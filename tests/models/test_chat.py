"""Prompts as tokens against the template rendered whole; answers back to actions."""

from __future__ import annotations

import random
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from ludora.errors import InputError
from ludora.models.chat import ChatFormat, parse_action, strip_thinking
from ludora.models.tiny import tiny_tokenizer
from ludora.types import Message

# What the families' own templates do, at their essential parts.
GEMMA = (
    "<bos>{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant') }}{% endif %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "<start_of_turn>{{ role }}\n{{ message['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
LLAMA3 = (
    "{% for message in messages %}{% if loop.index0 == 0 %}<bos>{% endif %}<|start_header_id|>{{ message['role'] }}"
    "<|end_header_id|>\n\n{{ message['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
MISTRAL = (
    "<bos>{% if messages[0]['role'] == 'system' %}{% set rules = messages[0]['content'] + '\n\n' %}"
    "{% set chat = messages[1:] %}{% else %}{% set rules = '' %}{% set chat = messages %}{% endif %}"
    "{% for message in chat %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if message['role'] == 'user' %}[INST] {{ (rules if loop.first else '') + message['content'] }}[/INST]"
    "{% else %} {{ message['content'] }}</s>{% endif %}{% endfor %}"
)
QWEN3 = (
    "{% set ns = namespace(last=-1) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}"
    "{% endif %}{% endfor %}{% for m in messages %}{% set content = m.content %}"
    "{% if m.role == 'assistant' and loop.index0 < ns.last and '</think>' in content %}"
    "{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
FORGETFUL = (
    "{% for m in messages[-1:] %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<bos>", "<start_of_turn>", "<end_of_turn>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
SPECIAL += ["[INST]", "[/INST]", "</s>"]

RULES = Message("system", "Rules: take the higher card.")
TEMPLATES = {"chatml": "", "gemma": GEMMA, "llama3": LLAMA3, "mistral": MISTRAL, "qwen3": QWEN3, "plain": None}


def tokenizer_with(template: str | None) -> PreTrainedTokenizerFast:
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIAL})
    if template != "":
        tokenizer.chat_template = template
    return tokenizer


FORMATS = {name: ChatFormat(tokenizer_with(template)) for name, template in TEMPLATES.items()}


def text_of(chat: ChatFormat, tokens: tuple[int, ...]) -> str:
    return str(chat.tokenizer.decode(list(tokens)))


def test_opening_is_the_rendered_template_and_the_stem() -> None:
    chat = FORMATS["chatml"]
    messages = [RULES, Message("user", "Your card: K")]
    raw = [{"role": m.role, "content": m.content} for m in messages]
    whole = chat.tokenizer.apply_chat_template(raw, add_generation_prompt=True, tokenize=False) + "Move:"
    assert chat.opening(messages, "Move:") == tuple(chat.tokenizer.encode(whole, add_special_tokens=False))
    assert text_of(chat, chat.opening(messages)).endswith("<|im_start|>assistant\n")
    assert chat.opening(messages, "Move:") is chat.opening(tuple(messages), "Move:")  # rendered once


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("gemma", "<bos><start_of_turn>user\nR\n\nS<end_of_turn>\n<start_of_turn>model\nMove:"),
        ("llama3", "<bos><|start_header_id|>system<|end_header_id|>\n\nR<|eot_id|><|start_header_id|>user"),
        ("mistral", "<bos>[INST] R\n\nS[/INST] Move:"),
        ("plain", "R\n\n### User\nS\n\n### Assistant\nMove:"),
    ],
)
def test_layouts(name: str, text: str) -> None:
    chat = FORMATS[name]
    assert text_of(chat, chat.opening([Message("system", "R"), Message("user", "S")], "Move:")).startswith(text)


def test_neighbouring_messages_of_one_role_become_one_where_roles_must_take_turns() -> None:
    chat = FORMATS["gemma"]
    text = text_of(chat, chat.opening([RULES, Message("user", "one"), Message("user", "two")]))
    assert "card.\n\none\n\ntwo<end_of_turn>" in text
    chat = FORMATS["chatml"]
    assert text_of(chat, chat.opening([RULES, Message("user", "one"), Message("user", "two")])).count("user") == 2


@pytest.mark.parametrize("name", TEMPLATES)
@given(states=st.lists(st.text(max_size=30), min_size=1, max_size=4), rules=st.text(min_size=1, max_size=60))
@settings(max_examples=40, deadline=None)
def test_prefix_is_a_prefix_of_every_opening_under_the_same_rules(name: str, states: list[str], rules: str) -> None:
    chat, system = FORMATS[name], Message("system", rules)
    for state in states:
        messages = (system, Message("user", state))
        prefix = chat.prefix(messages)
        for stem in ("", "Move:"):
            assert chat.opening(messages, stem)[: len(prefix)] == prefix


@pytest.mark.parametrize("name", TEMPLATES)
def test_prefix_holds_the_rules_and_is_the_same_for_every_state(name: str) -> None:
    chat = FORMATS[name]
    prefixes = {chat.prefix((RULES, Message("user", state))) for state in ("J", "Your card: Q", "\n\nK", "7 apples")}
    assert len(prefixes) == 1
    assert "the higher" in text_of(chat, prefixes.pop())
    assert chat.prefix((Message("user", "no rules"),)) == ()
    assert chat.prefix(()) == ()


@pytest.mark.parametrize("name", ["chatml", "gemma", "llama3", "mistral", "plain"])
def test_a_history_grows_by_appending(name: str) -> None:
    chat = FORMATS[name]
    assert chat.append_only and chat.append_only_plain
    messages = [RULES, Message("user", "one")]
    tokens = chat.opening(messages, "Move:")
    for turn in ("two", "three"):
        answer = chat.label_tokens(["B"], "Move:")[0]
        following = [Message("user", turn)]
        tokens += answer + chat.following(following, "Move:")
        messages += [Message("assistant", "Move: B"), *following]
        assert tokens == chat.opening(messages, "Move:")


def test_templates_that_rewrite_history_are_refused() -> None:
    qwen = FORMATS["qwen3"]
    assert qwen.append_only_plain and not qwen.append_only
    following = [Message("user", "two")]
    with pytest.raises(InputError, match="rewrites earlier turns"):
        qwen.following(following)
    assert qwen.following(following, plain=True) == qwen.following(following, retry=True)
    forgetful = ChatFormat(tokenizer_with(FORGETFUL))
    assert not forgetful.append_only_plain
    with pytest.raises(InputError, match="rewrites earlier turns"):
        forgetful.following(following, plain=True)


def test_stop_tokens_begin_with_the_templates_own() -> None:
    ends = {"chatml": "<|im_end|>", "gemma": "<end_of_turn>", "llama3": "<|eot_id|>", "mistral": "</s>"}
    for name, end in ends.items():
        chat = FORMATS[name]
        assert text_of(chat, chat.stop_ids[:1]) == end
        assert chat.tokenizer.eos_token_id in chat.stop_ids
        assert len(set(chat.stop_ids)) == len(chat.stop_ids)


def test_labels_carry_the_space_and_letters_are_single_tokens() -> None:
    chat = FORMATS["chatml"]
    paths = chat.label_tokens(string.ascii_uppercase, "Move:")
    assert all(len(path) == 1 for path in paths) and len(set(paths)) == 26
    assert [text_of(chat, path) for path in paths] == [f" {letter}" for letter in string.ascii_uppercase]
    assert text_of(chat, chat.label_tokens(["A"], "")[0]) == "A"
    stem = tuple(chat.tokenizer.encode("Move:", add_special_tokens=False))
    names = ["Bid: 1", "Bid: 10", "e8h", "(1, 2)"]
    for label, path in zip(names, chat.label_tokens(names, "Move:"), strict=True):
        assert stem + path == tuple(chat.tokenizer.encode(f"Move: {label}", add_special_tokens=False))


@pytest.mark.parametrize("labels", [["A", "A"], ["A", " A"], [""], ["  "]])
def test_labels_that_cannot_be_told_apart_are_refused(labels: list[str]) -> None:
    with pytest.raises(InputError):
        FORMATS["chatml"].label_tokens(labels, "Move:")


def test_a_tokenizer_that_cannot_spell_a_label_is_refused() -> None:
    from tokenizers import normalizers

    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    with pytest.raises(InputError, match="cannot spell 'A'"):
        ChatFormat(tokenizer).label_tokens(["A"], "Move:")


def test_bad_prompts_are_refused() -> None:
    chat = FORMATS["chatml"]
    user = Message("user", "hi")
    with pytest.raises(InputError, match="ends with a space"):
        chat.opening([user], "Move: ")
    with pytest.raises(InputError, match="no message to answer"):
        chat.opening([user, Message("assistant", "A")])
    with pytest.raises(InputError, match="no message to answer"):
        chat.opening([])
    with pytest.raises(InputError, match="refuses the messages"):
        FORMATS["gemma"].opening([Message("assistant", "A"), user])


def test_a_plain_layout_begins_with_the_tokenizers_own_token() -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = tokenizer_with(None)
    start = tokenizer.convert_tokens_to_ids("<bos>")
    processor = TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", start)])
    tokenizer.backend_tokenizer.post_processor = processor
    chat = ChatFormat(tokenizer)
    messages = (RULES, Message("user", "x"))
    assert chat.opening(messages)[0] == start
    assert chat.opening(messages)[1:] == FORMATS["plain"].opening(messages)
    assert start not in chat.following([Message("user", "y")])


# ---- answers -------------------------------------------------------------------------------------------------------

LEGAL = ("Raise", "Call", "Bid: 1", "Bid: 10", "(1, 2)", "a1", "a10")
LABELS = tuple("ABCDEFG")


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("Move: A", 0),
        ("Move:B", 1),
        ("move = c", 2),
        ("Move: Raise", 0),
        ("**Move:** `call`", 1),
        ("Move:\n(1, 2)", 4),
        ("Answer: a10.", 6),
        ("Action: Bid: 10", 3),
        ("Bid: 10", 3),
        ("bid: 1", 2),
        ("I bid: 10 now", 3),
        ("a1 or a10? a1!", 5),
        ("c.", 2),
        ('"G"', 6),
        ("Move: A\nNo. Move: B", 1),  # the last one wins
        ("Move: A, not B", 0),
        ("A raise is good. I take B", 1),
        ("a call", 1),  # "a" is a word here, not a label
        ("<think>Move: A</think> Move: C", 2),
        ("Move: A\nMove: fly", None),  # what was said last is not legal, and nothing else is put in its place
        ("Move: a100", None),
        ("recall", None),
        ("", None),
        ("<think>Move: A", None),
    ],
)
def test_parsing(text: str, index: int | None) -> None:
    assert parse_action(text, LEGAL, LABELS) == index


def test_names_that_look_like_declarations() -> None:
    legal = ("Action: 3", "Action: 30", "Move: up")
    assert parse_action("Action: 30", legal) == 1
    assert parse_action("Move: Action: 3", legal) == 0
    assert parse_action("Move: up", legal) == 2
    assert parse_action("Move: up", ("up", "down")) == 0
    assert parse_action("Move: MOVE:", ("move:", "up")) == 0


def test_a_label_wins_over_an_action_of_the_same_text() -> None:
    assert parse_action("Move: 1", ("1", "0"), ("0", "1")) == 1


FEW = st.lists(st.text(max_size=5), max_size=5)


@given(text=st.text(), legal=FEW, labels=FEW)
@settings(max_examples=300, deadline=None)
def test_parsing_never_fails_and_answers_within_range(text: str, legal: list[str], labels: list[str]) -> None:
    for said in (text, f"Move:{text}", f"<think>{text}"):
        index = parse_action(said, legal, labels[: len(legal)])
        assert index is None or 0 <= index < len(legal)


WORDS = st.text(st.sampled_from(string.ascii_letters + string.digits + "():,- "), min_size=1, max_size=8).map(str.strip)


@given(legal=st.lists(WORDS.filter(bool), min_size=1, max_size=8, unique_by=str.casefold), seed=st.integers(0, 99))
@settings(max_examples=200, deadline=None)
def test_a_declared_action_is_found_in_either_case(legal: list[str], seed: int) -> None:
    index = random.Random(seed).randrange(len(legal))
    for name in (legal[index], legal[index].upper(), legal[index].lower()):
        assert parse_action(f"Perhaps {legal[0]}.\nMove: {name}", legal) == index


def test_thinking_is_stripped() -> None:
    assert strip_thinking("<think>a</think>b<THINK>c</think> d") == "b d"
    assert strip_thinking("opened by the prompt</think> d") == "d"
    assert strip_thinking("b <think> never closed") == "b"
    assert strip_thinking(" plain ") == "plain"
