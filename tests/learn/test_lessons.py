"""The loss mask, at the tensor that reaches the loss: written out token by token for every layout, and held against
plain transformers, which gets the whole rendered chat and labels.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.models.test_chat import TEMPLATES, tokenizer_with
from torch import Tensor
from transformers import AutoModelForCausalLM

from ludora.data.batches import Choice, Item, units
from ludora.errors import InputError
from ludora.learn.lessons import Lessons, prepare
from ludora.learn.pupil import Pupil
from ludora.models.policy import Text
from ludora.models.tiny import tiny_model
from ludora.players.studio import Studio
from ludora.settings import SFTConfig
from ludora.types import Move

torch.set_num_threads(1)

RULES = {"role": "system", "content": "R"}
ANSWER = {"legal": ["up", "go"], "move": "go", "reasoning": "ok", "reward": 0.0}
TURN = {"messages": [RULES, {"role": "user", "content": "S"}], **ANSWER}
NEXT = {**TURN, "messages": [RULES, {"role": "user", "content": "T"}], "move": "up", "reasoning": "so"}
CHAT = {
    "messages": [
        RULES,
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "no"},
        {"role": "assistant", "content": "ok"},
    ]
}
END = {"chatml": "<|im_end|>", "qwen3": "<|im_end|>", "plain": "<|im_end|>", "gemma": "<end_of_turn>"}
END |= {"llama3": "<|eot_id|>", "mistral": "</s>"}


def game(*steps: dict[str, Any], task: str = "kuhn_poker") -> dict[str, Any]:
    line = {"version": 1, "kind": "trajectory", "task": task, "seed": 0, "seat": 0, "player": "expert"}
    return {**line, "steps": list(steps), "outcome": "won", "score": 1.0, "end": "terminated"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The tiny model under the chat template of every family."""
    folders = {}
    for name, template in TEMPLATES.items():
        tokenizer = tokenizer_with(template)
        model, _ = tiny_model("llama", vocab_size=len(tokenizer))
        folders[name] = tmp_path_factory.mktemp(name)
        model.save_pretrained(folders[name])
        tokenizer.save_pretrained(folders[name])
    return folders


Learn = Callable[..., tuple[Pupil, Lessons]]


@pytest.fixture
def learn(models: dict[str, Path], tmp_path: Path) -> Learn:
    """A pupil, and the lessons it makes of some lines; all of them are learnt."""

    def make(template: str, *lines: Any, **changes: Any) -> tuple[Pupil, Lessons]:
        path = tmp_path / "data.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        fixed = {"dtype": "fp32", "device": "cpu", "threads": 1, "eval_share": 0.0, "evaluate_every": 0, "rank": 2}
        config = SFTConfig(**{"model": str(models[template]), "data": str(path), **fixed, **changes})
        studio = Studio(config, lambda text: None)
        player, reference = studio.learner(config)
        pupil = Pupil.create(config, player, reference)
        draw = torch.Generator().manual_seed(5)  # B is no longer zero
        pupil.adapter.restore(pupil.adapter.flat + 0.1 * torch.randn(pupil.adapter.flat.shape, generator=draw))
        return pupil, prepare(config, player)

    return make


def spelled(pupil: Pupil, tokens: tuple[int, ...]) -> list[str]:
    """One text per token."""
    return [str(pupil.player.chat.tokenizer.decode([token])) for token in tokens]


def seen_by_the_loss(pupil: Pupil, items: list[Item], monkeypatch: pytest.MonkeyPatch) -> tuple[Tensor, Tensor, Tensor]:
    """Logits and targets as they reach the loss over the vocabulary, and its values."""
    given: list[tuple[Tensor, Tensor]] = []
    real = torch.nn.functional.cross_entropy

    def spy(logits: Tensor, targets: Tensor, **options: Any) -> Tensor:
        given.append((logits.detach().clone(), targets.clone()))
        return real(logits, targets, **options)

    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.functional, "cross_entropy", spy)
        values = pupil.losses(items).values
    logits, targets = (torch.cat(parts) for parts in zip(*given, strict=True))
    return logits, targets, values.detach()


# What is read before the answer to the last user message of CHAT, and the answer: as templates lay it out.
BEFORE = {
    "chatml": ["<|im_start|>", *"system\nR", "<|im_end|>", "\n", "<|im_start|>", *"user\nhi", "<|im_end|>", "\n",
               "<|im_start|>", *"assistant\nyes", "<|im_end|>", "\n", "<|im_start|>", *"user\nno", "<|im_end|>", "\n",
               "<|im_start|>", *"assistant\n"],
    "gemma": ["<bos>", "<start_of_turn>", *"user\nR\n\nhi", "<end_of_turn>", "\n", "<start_of_turn>", *"model\nyes",
              "<end_of_turn>", "\n", "<start_of_turn>", *"user\nno", "<end_of_turn>", "\n", "<start_of_turn>", *"model\n"],
    "llama3": ["<bos>", "<|start_header_id|>", *"system", "<|end_header_id|>", *"\n\nR", "<|eot_id|>",
               "<|start_header_id|>", *"user", "<|end_header_id|>", *"\n\nhi", "<|eot_id|>",
               "<|start_header_id|>", *"assistant", "<|end_header_id|>", *"\n\nyes", "<|eot_id|>",
               "<|start_header_id|>", *"user", "<|end_header_id|>", *"\n\nno", "<|eot_id|>",
               "<|start_header_id|>", *"assistant", "<|end_header_id|>", *"\n\n"],
    "mistral": ["<bos>", "[INST]", " R", *"\n\nhi", "[/INST]", " y", *"es", "</s>", "[INST]", " n", "o", "[/INST]"],
    "plain": [*"R\n\n###", " U", *"ser\nhi\n\n###", " A", *"ssistant\nyes\n\n###", " U", *"ser\nno\n\n###", " A",
              *"ssistant\n"],
}  # fmt: skip
BEFORE["qwen3"] = BEFORE["chatml"]
ANSWER = {name: ["o", "k", end] for name, end in END.items()} | {"mistral": [" o", "k", "</s>"]}


@pytest.mark.parametrize("name", TEMPLATES)
def test_conversations_token_by_token(learn: Learn, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    pupil, lessons = learn(name, CHAT)
    [lesson] = lessons.learnt
    text = lesson.item
    assert isinstance(text, Text)
    assert spelled(pupil, text.row.tokens) == [*BEFORE[name], *ANSWER[name][:-1]]  # the end is said, and never read
    assert text.reads == tuple(range(len(BEFORE[name]) - 1, len(text.row.tokens)))
    _, targets, values = seen_by_the_loss(pupil, [text], monkeypatch)
    assert spelled(pupil, tuple(targets.tolist())) == ANSWER[name]
    assert len(values) == units(text) == len(ANSWER[name])


@pytest.mark.parametrize("name", [name for name in TEMPLATES if name != "plain"])
def test_the_loss_is_that_of_plain_transformers(
    learn: Learn, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """transformers renders the whole chat, and labels say -100 wherever the last answer is not."""
    pupil, lessons = learn(name, CHAT)
    pupil.adapter.reset(0)  # as it is without an adapter
    tokenizer = pupil.player.chat.tokenizer
    raw = pupil.player.chat._adapted([type("M", (), m)() for m in CHAT["messages"]])
    whole = tokenizer.apply_chat_template([{"role": m.role, "content": m.content} for m in raw], tokenize=False)
    start = whole.rindex(" ok" if name == "mistral" else "ok")
    stop = start + whole[start:].index(END[name]) + len(END[name])
    encoded = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
    inside = [start <= a and b <= stop for a, b in encoded["offset_mapping"]]
    labels = [t if kept else -100 for t, kept in zip(encoded["input_ids"], inside, strict=True)]
    plain = AutoModelForCausalLM.from_pretrained(models[name])
    wanted = plain(input_ids=torch.tensor([encoded["input_ids"]]), labels=torch.tensor([labels])).loss
    values = pupil.losses([lesson.item for lesson in lessons.learnt]).values
    assert float(values.mean().detach()) == pytest.approx(float(wanted.detach()), rel=1e-4)


ALL = {
    "chatml": ["y", "e", "s", "<|im_end|>", "o", "k", "<|im_end|>"],
    "gemma": ["y", "e", "s", "<end_of_turn>", "o", "k", "<end_of_turn>"],
    "llama3": ["y", "e", "s", "<|eot_id|>", "o", "k", "<|eot_id|>"],
    "mistral": [" y", "e", "s", "</s>", " o", "k", "</s>"],
    "plain": ["y", "e", "s", "<|im_end|>", "o", "k", "<|im_end|>"],
}
ALL["qwen3"] = ALL["chatml"]


@pytest.mark.parametrize("name", TEMPLATES)
def test_all_answers_of_a_conversation(learn: Learn, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """In one row where a template appends; in a row each where it rewrites what was said (qwen3)."""
    pupil, lessons = learn(name, CHAT, assistant="all")
    items = [lesson.item for lesson in lessons.learnt]
    assert len(items) == (2 if name == "qwen3" else 1)
    _, targets, values = seen_by_the_loss(pupil, items, monkeypatch)
    assert spelled(pupil, tuple(targets.tolist())) == ALL[name] and len(values) == len(ALL[name])
    one_by_one = [{"messages": CHAT["messages"][:3]}, CHAT]
    apart, single = learn(name, *one_by_one)
    apart.adapter.restore(pupil.adapter.flat)
    wanted = apart.losses([lesson.item for lesson in single.learnt]).values
    assert torch.allclose(values, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["chatml", "qwen3"])
def test_a_greeting_is_heard_and_not_learnt(learn: Learn, name: str) -> None:
    greeted = [{"role": "assistant", "content": "hi"}, *CHAT["messages"][3:]]
    pupil, lessons = learn(name, {"messages": greeted}, assistant="all")
    (lesson,) = lessons.learnt
    assert isinstance(lesson.item, Text) and spelled(pupil, lesson.item.targets) == ["o", "k", "<|im_end|>"]
    assert "hi" in "".join(spelled(pupil, lesson.item.row.tokens))


PROMPT = ["<|im_start|>", *"system\nR", "<|im_end|>", "\n", "<|im_start|>", *"user\nS\nOptions:"]
ASSISTANT = ["<|im_end|>", "\n", "<|im_start|>", *"assistant\n"]
THINK = "\nThink briefly, then end with 'Move: ' and your option."
LETTERS = [" A", " u", "p", ",", " B", " g", "o"]
NAMES = [" u", "p", ",", " g", "o"]


def words(text: str) -> list[str]:
    """The tiny tokenizer's way: a space goes with the letter or digit behind it."""
    out: list[str] = []
    for char in text:
        if out and out[-1] == " " and char.isalnum():
            out[-1] += char
        else:
            out.append(char)
    return out


@pytest.mark.parametrize(
    ("changes", "prompt", "answer"),
    [
        ({"act": "say"}, [*PROMPT, *LETTERS, *ASSISTANT, *"Move:"], [" B", "<|im_end|>"]),
        ({"loss": "tokens", "labels": "names"}, [*PROMPT, *NAMES, *ASSISTANT, *"Move:"], [" g", "o", "<|im_end|>"]),
        (
            {"answer": "reasoning"},
            [*PROMPT, *LETTERS, *words(THINK), *ASSISTANT],
            [*"ok\nMove:", " B", "<|im_end|>"],
        ),
        (
            {"answer": "reasoning", "labels": "names"},
            [*PROMPT, *NAMES, *words(THINK), *ASSISTANT],
            [*"ok\nMove:", " g", "o", "<|im_end|>"],
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_moves_as_text_token_by_token(
    learn: Learn, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], prompt: list[str], answer: list[str]
) -> None:
    retries = {} if "loss" in changes else {"retries": 0}
    pupil, lessons = learn("chatml", game(TURN), **changes, **retries)
    text = lessons.learnt[0].item
    assert isinstance(text, Text) and spelled(pupil, text.row.tokens) == [*prompt, *answer[:-1]]
    logits, targets, _ = seen_by_the_loss(pupil, [text], monkeypatch)
    assert spelled(pupil, tuple(targets.tolist())) == answer and logits.shape == (
        len(answer),
        pupil.player.policy.engine.base.model.config.vocab_size,
    )
    turn = lessons.learnt[0].turn
    assert turn is not None
    if pupil.config.act == "say":  # the prompt that the player reads when it is asked
        read = pupil.player.act([turn])[0].prompt
        assert spelled(pupil, read) == prompt
        assert pupil.player._read(turn, Move("", text.targets)).text == "go"


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("labels", ["letters", "names"])
def test_a_choice_is_the_player_s_own(learn: Learn, models: dict[str, Path], name: str, labels: str) -> None:
    """The same prompt and paths as when the player acts; the loss is -log of the probability it acts by, and that is
    a softmax over the legal labels' first tokens alone.
    """
    pupil, lessons = learn(name, game(TURN), labels=labels)
    [lesson] = lessons.learnt
    choice = lesson.item
    assert isinstance(choice, Choice) and lesson.turn is not None and choice.index == 1
    move = pupil.player.act([lesson.turn])[0]
    assert (move.prompt, move.choices) == (choice.query.prompt, choice.query.choices)
    assert spelled(pupil, choice.query.prompt)[-5:] == [*"Move:"] or name == "mistral"
    assert [spelled(pupil, path)[0] for path in choice.query.choices] == (
        [" A", " B"] if labels == "letters" else [" u", " g"]
    )
    loss = float(pupil.losses([choice]).values.detach()[0])
    assert loss == pytest.approx(-float(pupil.player.log_probs([choice.query])[0][1]), rel=1e-6)
    pupil.adapter.reset(0)
    plain = AutoModelForCausalLM.from_pretrained(models[name])
    last = plain(input_ids=torch.tensor([choice.query.prompt])).logits[0, -1]
    wanted = last[[path[0] for path in choice.query.choices]].log_softmax(-1)[1]
    assert float(pupil.losses([choice]).values.detach()[0]) == pytest.approx(-float(wanted.detach()), rel=1e-4)


def test_a_game_with_history_is_one_row(learn: Learn, monkeypatch: pytest.MonkeyPatch) -> None:
    pupil, lessons = learn("chatml", game(TURN, NEXT), act="say", history=True)
    [lesson] = lessons.learnt
    text = lesson.item
    assert isinstance(text, Text)
    second = ["<|im_start|>", *"user\nT\nOptions:", *LETTERS, *ASSISTANT, *"Move:"]
    first = [*PROMPT, *LETTERS, *ASSISTANT, *"Move:"]
    assert spelled(pupil, text.row.tokens) == [*first, " B", "<|im_end|>", "\n", *second, " A"]
    _, targets, _ = seen_by_the_loss(pupil, [text], monkeypatch)
    assert spelled(pupil, tuple(targets.tolist())) == [" B", "<|im_end|>", " A", "<|im_end|>"]
    assert [spelled(pupil, (text.row.tokens[at],))[0] for at in text.reads] == [":", " B", ":", " A"]
    assert [lesson.index for lesson in lessons.opening_turns] == []  # nothing is held out


def test_free_text_and_its_reasoning(learn: Learn, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where any text is a move, reasoning stands in <think>, which the player takes away."""
    free = {**TURN, "legal": None, "move": "ls -l"}
    pupil, lessons = learn("chatml", game(free), answer="reasoning")
    _, targets, _ = seen_by_the_loss(pupil, [lessons.learnt[0].item], monkeypatch)
    said = "".join(spelled(pupil, tuple(targets.tolist())))
    assert said == "<think>\nok\n</think>\n\nls -l<|im_end|>"
    turn = lessons.learnt[0].turn
    assert turn is not None
    assert pupil.player._read(turn, Move("", tuple(targets.tolist()))).text == "ls -l"
    _, bare = learn("chatml", game(free))
    assert isinstance(bare.learnt[0].item, Text) and len(bare.learnt[0].item.targets) == len(words("ls -l")) + 1


def test_forced_moves_teach_nothing(learn: Learn) -> None:
    forced = {**TURN, "legal": ["go"]}
    _, lessons = learn("chatml", game(forced, TURN))
    assert len(lessons.learnt) == 1


def test_halves_are_cut_by_game(learn: Learn) -> None:
    lines = [game({**TURN, "messages": [{"role": "user", "content": f"{n}"}]}, TURN) for n in range(10)]
    _, lessons = learn("chatml", *lines, eval_share=0.3, evaluate_every=1)
    assert (len(lessons.learnt), len(lessons.held_out)) == (14, 6)
    texts = [
        {m.content for le in part if le.turn for m in le.turn.messages} for part in (lessons.learnt, lessons.held_out)
    ]
    assert texts[0] & texts[1] == {"R", "S"}
    again = learn("chatml", *lines, eval_share=0.3, evaluate_every=1)[1]
    assert again == lessons
    other = learn("chatml", *lines, eval_share=0.3, evaluate_every=1, seed=1)[1]
    assert other != lessons and len(other.held_out) == 6


@pytest.mark.parametrize(
    ("lines", "changes", "message"),
    [
        (
            [game({**TURN, "reasoning": "<think> lost"})],
            {"answer": "reasoning"},
            ":1: with its reasoning",
        ),
        ([game({**TURN, "legal": ["go", "go "]})], {"labels": "names"}, ":1: two actions have the same"),
        ([CHAT, {"prompt": "x" * 600, "completion": "y"}], {}, "tokens, and the model takes 512 at most"),
        ([CHAT], {"answer": "reasoning"}, "answer has no effect: the data holds no games"),
        ([game(TURN)], {"assistant": "all"}, "assistant has no effect: the data holds no conversations"),
        ([game()], {}, "the data holds nothing to learn from"),
        ([CHAT], {"eval_share": 0.5, "evaluate_every": 1}, "the data holds nothing to measure on"),
    ],
)
def test_what_cannot_be_taught_is_refused(learn: Learn, lines: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        learn("chatml", *lines, **changes)
    assert message in error.value.message and error.value.hint


def test_bad_lines_can_be_skipped(learn: Learn) -> None:
    _, lessons = learn("chatml", CHAT, {}, game(TURN), {"prompt": "x" * 600, "completion": "y"}, bad_lines="skip")
    assert len(lessons.learnt) == 2 and lessons.task == "kuhn_poker"
    assert [bad.place.number for bad in lessons.bad] == [2, 4]
