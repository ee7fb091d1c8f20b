"""The model player: choosing, saying, remembering; and the strings that name it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ludora.envs.openspiel import OpenSpielEnv
from ludora.errors import InputError, TrainingFailed
from ludora.grammar import parse
from ludora.models.adapters import Adapter
from ludora.models.families import LoraSettings
from ludora.models.generate import Sampler
from ludora.models.policy import Answer
from ludora.models.storage import adapter_files
from ludora.models.tiny import tiny_model
from ludora.players import model as players
from ludora.players import studio as studios
from ludora.players.base import Explicit, Player
from ludora.players.build import build_player
from ludora.players.model import ModelPlayer, ask, labels_of, pick
from ludora.players.studio import Studio, studio
from ludora.rng import stream
from ludora.rollout import Game, collect
from ludora.settings import ModelSettings, PPOConfig
from ludora.types import Message, Outcome, Stop, Task, Turn

RULES = Message("system", "You play a game. Answer with the letter of your option.")


def quiet(line: str) -> None:
    """Nobody listens."""


def opened(**values: Any) -> Studio:
    return Studio(ModelSettings(**{"model": "tiny", "dtype": "fp32", "device": "cpu", "threads": 1, **values}), quiet)


def awake(made: Studio, name: str = "one", seed: int = 1) -> Adapter:
    adapter = made.pack.add(name, LoraSettings(rank=2), seed)
    draw = torch.Generator().manual_seed(seed)
    adapter.restore(adapter.flat + 0.1 * torch.randn(adapter.flat.shape, generator=draw))
    return adapter


def turn(state: str, legal: Sequence[str] | None = ("Pass", "Bet", "Fold"), **values: Any) -> Turn:
    given = {"seat": 0, "seed": stream("test", state), **values}
    return Turn(messages=(RULES, Message("user", state)), legal=None if legal is None else tuple(legal), **given)


# ---- choose --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", ["letters", "names", "ids"])
def test_what_is_recorded_is_what_training_computes(labels: str) -> None:
    made = opened(labels=labels, temperature=1.3)
    player = made.player("learner", awake(made))
    turns = [turn(f"state {i}", ("1", "10", "12", "fold")[: 2 + i % 3]) for i in range(6)]
    moves = player.act(turns)
    queries = [player.query(t) for t in turns]
    with torch.no_grad():
        table = made.policy.action_log_probs(queries, [player.adapter] * 6)
    for i, (t, move, query) in enumerate(zip(turns, moves, queries, strict=True)):
        assert t.legal is not None
        assert (move.text, move.stop) == (t.legal[move.index], Stop.CHOSEN)
        assert (move.prompt, move.choices, move.tokens) == (query.prompt, query.choices, query.choices[move.index])
        assert sum(move.logprobs) == pytest.approx(float(table[i, move.index]), abs=1e-5)
        shown = made.chat.tokenizer.decode(move.prompt)
        assert shown.endswith("Move:") and RULES.content in shown
        for label, path in zip(labels_of(t.legal, labels), move.choices, strict=True):
            assert made.chat.tokenizer.decode(path) == f" {label}"


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 7), min_size=1, max_size=8))
def test_the_same_turn_gets_the_same_move_in_any_batch(which: list[int]) -> None:
    player = _shared()
    turns = [turn(f"state {i % 4}", seed=stream("same", i)) for i in range(8)]
    player._known.clear()
    alone = [player.act([turns[i]])[0] for i in which]
    player._known.clear()
    together = player.act([turns[i] for i in which])
    for one, other in zip(alone, together, strict=True):
        assert (one.text, one.index, one.prompt) == (other.text, other.index, other.prompt)
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)


_MADE: list[ModelPlayer] = []


def _shared() -> ModelPlayer:
    if not _MADE:
        made = opened()
        _MADE.append(made.player("one", awake(made)))
    return _MADE[0]


def test_moves_come_with_their_probabilities() -> None:
    player = _shared()
    assert isinstance(player, Player) and isinstance(player, Explicit)
    t = turn("a state", [f"action {i}" for i in range(6)])
    p = player.probabilities([t])[0]
    assert math.fsum(p) == pytest.approx(1.0, abs=1e-5)
    n = 3000
    moves = player.act([replace(t, seed=stream("draw", i)) for i in range(n)])
    seen = Counter(move.index for move in moves)
    for i, share in enumerate(p):
        assert abs(seen[i] / n - share) < 4.5 * math.sqrt(share * (1 - share) / n) + 1e-9


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=8).filter(lambda p: sum(p) > 1e-3), st.floats(0, 1, exclude_max=True)
)
def test_pick_is_the_quantile_and_never_an_impossible_action(weights: list[float], u: float) -> None:
    p = np.array(weights) / sum(weights)
    i = pick(p, u)
    assert p[i] > 0 or u * p.sum() >= p.cumsum()[-1]
    assert p[:i].sum() <= u + 1e-9 and u <= p[: i + 1].sum() + 1e-9


def test_what_older_weights_said_is_forgotten_and_answers_are_kept_otherwise() -> None:
    made = opened()
    adapter = awake(made)
    player, base = made.player("one", adapter), made.player("base", None)
    turns = [turn(f"state {i}") for i in range(3)]
    first, plain = player.probabilities(turns), base.probabilities(turns)
    counted = made.engine.counters.tokens
    assert player.probabilities(turns) == first and made.engine.counters.tokens == counted
    adapter.restore(adapter.flat * 2)
    assert player.probabilities(turns) != first
    counted = made.engine.counters.tokens
    assert base.probabilities(turns) == plain and made.engine.counters.tokens == counted
    adapter.restore(adapter.flat / 2)
    assert np.allclose(player.probabilities(turns), first, atol=1e-6)


def test_answers_are_kept_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    made = opened()
    monkeypatch.setattr(players, "KNOWN_BYTES", 10_000)
    player = made.player("base", None)
    turns = [turn(f"state {i}") for i in range(30)]
    want = player.probabilities(turns)
    assert 0 < player._known.size <= 10_000
    assert np.allclose(player.probabilities(turns), want, atol=1e-6)


@pytest.mark.parametrize("game", ["leduc_poker", "goofspiel(num_cards=5)", "hex(board_size=3)"])
def test_it_plays_real_games(game: str) -> None:
    made = opened(labels="names")
    player, base = made.player("one", awake(made)), made.player("base", None)
    games = [Game(Task(parse(game), seed=i), (player, base)) for i in range(6)]
    for finished in collect(games, OpenSpielEnv):
        assert not finished.error
        for seat, trajectory in enumerate(finished.trajectories):
            assert trajectory.outcome in (Outcome.WON, Outcome.DREW, Outcome.LOST)
            owner = (player, base)[seat]
            queries = [owner.query(step.turn) for step in trajectory.steps]
            for query, step, known in zip(queries, trajectory.steps, owner.log_probs(queries), strict=True):
                assert query.prompt == step.move.prompt
                assert step.move.logprobs == (pytest.approx(known[step.move.index], abs=1e-6),)


def test_numbers_that_are_not_finite_are_no_move() -> None:
    made = opened()
    adapter = awake(made)
    adapter.restore(torch.full_like(adapter.flat, float("nan")))
    with pytest.raises(TrainingFailed, match="of one are not finite"):
        made.player("one", adapter).act([turn("state")])
    assert made.player("base", None).act([turn("state")])[0].index >= 0


def test_labels_and_options() -> None:
    many = [f"move {i}" for i in range(27)]
    assert labels_of(["x", "y"], "letters") == ("A", "B")
    assert labels_of(many[:26], "letters")[-1] == "Z"
    assert labels_of(many, "letters") == tuple(many)
    assert labels_of(["x", "y"], "names") == ("x", "y") and labels_of(["x", "y"], "ids") == ("0", "1")
    messages = (RULES, Message("user", "state"))
    assert ask(messages, None, "letters") == messages
    assert ask(messages, ("x", "y"), "letters")[-1].content == "state\nOptions: A x, B y"
    assert ask(messages, ("x", "y"), "names")[-1].content == "state\nOptions: x, y"
    assert "Think" in ask(messages, ("x", "y"), "names", reasoning=True)[-1].content
    made = opened(labels="names")
    with pytest.raises(InputError):
        made.player("base", None).act([turn("state", ("same", " same"))])


# ---- say -----------------------------------------------------------------------------------------------------------


class Scripted(Sampler):
    """Says what it is told, answer by answer; log-probabilities and caches are the model's own."""

    def __init__(self, made: Studio, answers: Sequence[str]) -> None:
        super().__init__(made.policy, made.chat.stop_ids)
        self.chat = made.chat
        self.tokens = [self._spell(answer) for answer in answers]
        self.said: list[int] = []

    def _spell(self, answer: str) -> list[int]:
        end = [] if answer.endswith("...") else [self.chat.stop_ids[0]]
        return [*self.chat.tokenizer.encode(answer.removesuffix("..."), add_special_tokens=False), *end]

    def _draw(self, logits: Tensor, quantiles: Sequence[float]) -> tuple[list[int], list[float]]:
        tokens = [self._next() for _ in quantiles]
        return tokens, [float(row[token]) for row, token in zip(logits.log_softmax(-1), tokens, strict=True)]

    def _next(self) -> int:
        token = self.tokens[0].pop(0)
        if not self.tokens[0]:
            self.tokens.pop(0)
        return token


def speaker(answers: Sequence[str], **values: Any) -> tuple[Studio, ModelPlayer]:
    made = opened(**{"act": "say", "max_new_tokens": 40, **values})
    made.sampler = Scripted(made, answers)
    return made, made.player("speaker", awake(made))


def test_an_answer_is_read_and_recorded_as_it_was_sampled() -> None:
    made, player = speaker([" B"])
    t = turn("state")
    move = player.act([t])[0]
    assert (move.text, move.index, move.attempts, move.stop) == ("Bet", 1, 1, Stop.END)
    assert made.chat.tokenizer.decode(move.tokens) == " B<|im_end|>"
    assert move.prompt == made.chat.opening(ask(t.messages, t.legal, "letters"), "Move:")
    assert move.choices == () and len(move.logprobs) == len(move.tokens)
    with torch.no_grad():
        chosen, _ = made.policy.token_log_probs([Answer(move.prompt, 0, move.tokens)], [player.adapter])
    assert list(move.logprobs) == pytest.approx(chosen[0].tolist(), abs=1e-4)
    assert not isinstance(player, Explicit)  # nobody could add up the probabilities of all texts that name an action


def test_it_is_asked_again_and_the_last_answer_counts() -> None:
    made, player = speaker([" Q", " perhaps", " C"])
    move = player.act([turn("state")])[0]
    assert (move.text, move.index, move.attempts, move.stop) == ("Fold", 2, 3, Stop.END)
    shown = made.chat.tokenizer.decode(move.prompt)
    assert shown.count("That is not one of the options.") == 2 and shown.endswith("assistant\nMove:")
    assert "Move: Q<|im_end|>\n<|im_start|>user\nThat" in shown  # the answer's end stands there once
    assert "<|im_end|><|im_end|>" not in shown
    with torch.no_grad():
        chosen, _ = made.policy.token_log_probs([Answer(move.prompt, 0, move.tokens)], [player.adapter])
    assert list(move.logprobs) == pytest.approx(chosen[0].tolist(), abs=1e-4)


def test_what_names_no_action_stays_invalid_and_is_never_replaced() -> None:
    made, player = speaker([" Q", " Z", " nothing"], retries=2)
    t = turn("state")
    move = player.act([t])[0]
    assert (move.text, move.index, move.attempts, move.stop) == ("nothing", -1, 3, Stop.INVALID)
    game = Game(Task(parse("kuhn_poker"), seed=1), (made.player("mute", None), made.player("mute", None)))
    made.sampler.tokens = [made.sampler._spell("...x") for _ in range(9)]  # type: ignore[attr-defined]
    finished = collect([game], OpenSpielEnv)[0]
    outcomes = [trajectory.outcome for trajectory in finished.trajectories]
    assert sorted(outcomes) == [Outcome.FORFEITED, Outcome.WON]


def test_retries_are_counted_per_turn() -> None:
    _, player = speaker([" A"], retries=0)
    player.sampler.tokens += [player.sampler._spell(" Q")]  # type: ignore[attr-defined]
    first, second = player.act([turn("one")])[0], player.act([turn("two")])[0]
    assert (first.attempts, first.stop) == (1, Stop.END)
    assert (second.attempts, second.stop, second.text) == (1, Stop.INVALID, "Q")


def test_an_answer_cut_off_by_its_budget_may_still_name_an_action() -> None:
    _, player = speaker([" B or maybe not..."], max_new_tokens=2)
    move = player.act([turn("state", ("Pass", "Bet"))])[0]
    assert (move.text, move.stop, len(move.tokens)) == ("Bet", Stop.LENGTH, 2)


def test_reasoning_is_sampled_and_not_read_as_an_answer() -> None:
    made, player = speaker(["<think>A looks good</think>\nMove: C"], reasoning=True, max_new_tokens=60)
    move = player.act([turn("state")])[0]
    assert (move.text, move.index) == ("Fold", 2)
    assert made.chat.tokenizer.decode(move.prompt).endswith("assistant\n")  # no stem: it thinks first


def test_free_text_is_taken_as_it_is_whatever_the_setting() -> None:
    for act in ("say", "choose"):
        made = opened(act=act)
        made.sampler = Scripted(made, [" ls -l "])
        player = made.player("one", None)
        move = player.act([turn("a shell", None)])[0]
        assert (move.text, move.index, move.stop) == ("ls -l", -1, Stop.END)
        assert not made.chat.tokenizer.decode(move.prompt).endswith("Move:")
    made = opened(act="say", reasoning=True, max_new_tokens=60)
    made.sampler = Scripted(made, ["<think>hm</think> ls"])
    assert made.player("one", None).act([turn("a shell", None)])[0].text == "ls"


def test_a_batch_may_mix_choices_and_free_text() -> None:
    made = opened()
    made.sampler = Scripted(made, ["", ""])
    player = made.player("one", None)
    turns = [turn("a", None), turn("b"), turn("c", None), turn("d")]
    moves = player.act(turns)
    assert [(moves[i].text, moves[i].stop, moves[i].choices) for i in (0, 2)] == [("", Stop.END, ())] * 2
    for i in (1, 3):
        assert moves[i] == made.player("one", None).act([turns[i]])[0]
    with pytest.raises(InputError, match="free text"):
        assert isinstance(player, Explicit)
        player.probabilities(turns)


# ---- history -------------------------------------------------------------------------------------------------------


def test_a_history_is_the_whole_chat_and_costs_only_what_is_new() -> None:
    made, player = speaker([" A", " Q", " B", " C"], history=True)
    chat: list[Message] = []
    spoken = iter(["A", None, "C"])
    for number in range(3):
        t = turn(f"state {number}", number=number, game=7)
        move = player.act([t])[0]
        asked = ask(t.messages, t.legal, "letters")
        chat += asked if number == 0 else asked[1:]
        if number != 1:
            assert move.prompt == made.chat.opening(chat, "Move:")
            chat.append(Message("assistant", f"Move: {next(spoken)}"))
        else:  # one failed attempt stands in between
            chat += [Message("assistant", "Move: Q"), Message("user", players._AGAIN)]
            assert move.prompt == made.chat.opening(chat, "Move:") and move.attempts == 2
            chat.append(Message("assistant", "Move: B"))
            next(spoken)
    talk = player._talks[7, 0]
    assert talk.history.length >= len(move.prompt)
    assert player.act([]) == []


def test_a_turn_that_shows_the_whole_talk_adds_only_what_is_new() -> None:
    """As a shell does: the same prompts with a history and without, and with it nothing is read twice."""
    told = [Message("system", "rules"), Message("user", "one")]
    made, keeping = speaker(["ls", "pwd"], history=True)
    _, fresh = speaker(["ls", "pwd"])
    for number, output in enumerate(("bin", "/")):
        open_turn = replace(turn("", number=number, game=3), messages=tuple(told), legal=None)
        moves = [player.act([open_turn])[0] for player in (keeping, fresh)]
        assert moves[0].prompt == moves[1].prompt == made.chat.opening(told) and moves[0].text == moves[1].text
        told += [Message("assistant", moves[0].text), Message("user", output)]


def test_what_has_outgrown_the_context_is_no_answer_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    made, player = speaker([" A"] * 4, history=True)
    first = player.act([turn("state", game=1), turn("state", game=2)])
    monkeypatch.setattr(made.engine, "context", len(first[0].prompt) + 60)
    later = [turn("word " * 30, number=1, game=1), turn("state", game=3)]
    full, fresh = player.act(later)
    assert (full.text, full.tokens, full.stop) == ("", (), Stop.CONTEXT) and fresh.stop is Stop.END
    monkeypatch.setattr(made.engine, "context", 8)
    with pytest.raises(InputError, match="takes 8 at most"):
        player.act([turn("state", game=4)])  # the first turn has to fit: no game could be played
    chooser = opened().player("chooser", None)
    monkeypatch.setattr(chooser.policy.engine, "context", 8)
    assert chooser.act([turn("state", number=1)])[0].stop is Stop.CONTEXT


def test_nobody_is_asked_again_beyond_the_context(monkeypatch: pytest.MonkeyPatch) -> None:
    _, player = speaker([" A"])
    prompt = player.act([turn("state")])[0].prompt
    made, player = speaker([" Q", " A"])
    monkeypatch.setattr(made.engine, "context", len(prompt) + 60)
    move = player.act([turn("state")])[0]
    assert (move.attempts, move.stop) == (1, Stop.INVALID)


def test_games_and_seats_do_not_hear_each_other_and_a_new_game_starts_afresh() -> None:
    made, player = speaker([" A"] * 8, history=True)
    turns = [turn(f"g{g} s{s}", game=g, seat=s) for g in range(2) for s in range(2)]
    for one in turns:
        player.act([one])
    again = [turn(f"later {t.game} {t.seat}", game=t.game, seat=t.seat, number=1) for t in turns[:2]]
    for old, new in zip(turns, again, strict=False):
        shown = made.chat.tokenizer.decode(player.act([new])[0].prompt)
        assert f"g{old.game} s{old.seat}" in shown and sum(f"g{t.game} s{t.seat}" in shown for t in turns) == 1
    fresh = player.act([turn("another game", game=0, seat=0)])[0]
    assert "g0 s0" not in made.chat.tokenizer.decode(fresh.prompt)


def test_without_history_every_prompt_stands_alone() -> None:
    made, player = speaker([" A", " B"])
    player.act([turn("first")])
    shown = made.chat.tokenizer.decode(player.act([turn("second", number=1)])[0].prompt)
    assert "first" not in shown and not player._talks


def test_caches_die_with_the_weights_and_under_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    def play(change: bool, bound: int) -> list[Any]:
        made = opened(act="say", history=True, max_new_tokens=5, retries=0)
        monkeypatch.setattr(players, "HISTORY_BYTES", bound)
        adapter = awake(made)
        player = made.player("one", adapter)
        moves = []
        for number in range(3):
            if change:  # the same weights, but nobody can know that
                adapter.restore(adapter.flat.detach().clone())
            moves += player.act([turn(f"{g} {number}", game=g, number=number) for g in range(3)])
            held = sum(talk.history.bytes for talk in player._talks.values())
            assert held <= bound and (bound == 0 or held > 0)
        return moves

    want = play(False, 1 << 30)
    for other in (play(True, 1 << 30), play(False, 500_000), play(False, 0)):
        for a, b in zip(want, other, strict=True):
            assert (a.tokens, a.prompt, a.text) == (b.tokens, b.prompt, b.text)
            assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)


def test_conversations_that_were_left_are_dropped_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(players, "MAX_TALKS", 3)
    _, player = speaker([" A"] * 9, history=True)
    for game in range(3):
        player.act([turn("x", game=game)])
    player.act([turn("y", game=0, number=1)])  # 0 goes on
    player.act([turn("z", game=3)])
    assert list(player._talks) == [(2, 0), (0, 0), (3, 0)]


def test_a_template_that_rewrites_history_is_refused(tmp_path: Path) -> None:
    model, tokenizer = tiny_model()
    strips = "{% set text = m['content'].split('</think>')[-1] %}"
    last = "{{ '<|im_start|>' + m['role'] + '\\n' + text + '<|im_end|>\\n' }}"
    loop = "{% for m in messages %}" + strips + last + "{% endfor %}"
    tokenizer.chat_template = loop + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="rewrites earlier turns") as caught:
        opened(model=str(tmp_path), act="say", history=True, reasoning=True)
    assert "history=false" in caught.value.hint
    made = opened(model=str(tmp_path), act="say", history=True)  # without reasoning there is nothing to strip
    made.sampler = Scripted(made, [" Q", " A", " B"])
    player = made.player("one", None)
    player.act([turn("one")])
    assert "one" in made.chat.tokenizer.decode(player.act([turn("two", number=1)])[0].prompt)
    made = opened(model=str(tmp_path), act="say", reasoning=True)  # and a retry belongs to the same turn
    made.sampler = Scripted(made, ["<think>x</think> Q", "Move: A"])
    assert made.player("one", None).act([turn("one")])[0].attempts == 2


# ---- PLAYER strings ------------------------------------------------------------------------------------------------

TINY = {"model": "tiny", "dtype": "fp32", "device": "cpu", "threads": 1}


def _saved(folder: Path, model: str = "tiny") -> Path:
    made = opened(model=model)
    folder.mkdir()
    for name, data in adapter_files(awake(made), made.base).items():
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("rnadom", "no player 'rnadom'", "'random'"),
        ("self", "opponent for training only", "adapter("),
        ("snapshots(last=5)", "opponent for training only", "adapter("),
        ("adapter", "needs the adapter's folder", "adapter(runs/NAME/adapter)"),
        ("adapter(a, b)", "needs the adapter's folder", "adapter(runs/NAME/adapter)"),
        ("adapter(path=a)", "needs the adapter's folder", "adapter(runs/NAME/adapter)"),
        ("adapter:big(a)", "needs the adapter's folder", "adapter(runs/NAME/adapter)"),
        ("adapter(no/such/folder)", "no adapter in no/such/folder", "adapter_config.json"),
        ("base(temperature=2)", "base takes no options", "base"),
        ("base:big", "base takes no options", "base"),
        ("random(3)", "random", ""),
        ("mcts(simulation=3)", "simulation", "simulations"),
        ("mcts(simulations=99999999999999999999)", "below 2^31", "simulations=1"),
    ],
)
def test_wrong_player_strings_are_one_line_with_a_hint(text: str, message: str, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        build_player(text, ModelSettings(**TINY), quiet)
    assert message in caught.value.message and hint in caught.value.hint and "\n" not in caught.value.message


def test_an_adapter_of_another_base_is_refused(tmp_path: Path) -> None:
    folder = _saved(tmp_path / "other", "tiny:qwen2")
    with pytest.raises(InputError, match="trained on tiny:qwen2, whose weights are not those of tiny") as caught:
        build_player(f"adapter({folder})", ModelSettings(**TINY), quiet)
    assert "tiny:qwen2" in caught.value.hint


def test_one_base_is_opened_for_all_its_players(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studios, "_opened", {})
    config = PPOConfig(**TINY, task="kuhn_poker")  # has more in it than what concerns the model
    folder = _saved(tmp_path / "adapter")
    base = build_player("base", config, quiet)
    one = build_player(f"adapter({folder})", config, lambda line: None)
    two = build_player(f"adapter({folder})", ModelSettings(**TINY), quiet)
    assert isinstance(base, ModelPlayer) and isinstance(one, ModelPlayer) and isinstance(two, ModelPlayer)
    assert base.policy is one.policy is two.policy
    assert one.adapter is two.adapter and one.adapter is not None and base.adapter is None
    assert one.name == f"adapter({folder})" and base.name == "base"
    assert list(studios._opened) == [ModelSettings(**TINY)]
    turns = [turn("state")]
    assert one.probabilities(turns) == two.probabilities(turns) != base.probabilities(turns)  # type: ignore[attr-defined]
    other = studio(ModelSettings(**{**TINY, "labels": "names"}), quiet)
    assert other.base is not base.policy.engine.base
    assert build_player("random", config, quiet).name == "random"


def test_a_learner_starts_fresh_or_from_an_adapter_with_its_frozen_original(tmp_path: Path) -> None:
    made = opened()
    player, reference = made.learner(PPOConfig(**TINY, task="kuhn_poker", rank=3, seed=4, layers="top:1"))
    assert reference is None and player.adapter is not None and player.name == "self"
    assert {shape[0] for shape in player.adapter.shapes.values()} == {3} and made.engine.depth == 3
    folder = _saved(tmp_path / "start")
    made = opened()
    config = PPOConfig(**TINY, task="kuhn_poker", adapter=str(folder), dropout=0.2)
    player, reference = made.learner(config)
    assert reference is not None and player.adapter is not None and player.adapter is not reference
    assert torch.equal(player.adapter.flat, reference.flat)
    assert (player.adapter.settings.dropout, reference.settings.dropout) == (0.2, 0.0)
    turns = [turn("state")]
    before = made.player("reference", reference).probabilities(turns)  # type: ignore[attr-defined]
    player.adapter.restore(player.adapter.flat + 0.1)
    assert made.player("reference", reference).probabilities(turns) == before  # type: ignore[attr-defined]


def test_what_is_said_of_a_starting_adapter_must_be_true_of_it(tmp_path: Path) -> None:
    folder, made = _saved(tmp_path / "start"), opened()
    own = made.load(str(folder)).settings

    def start(**said: Any) -> ModelPlayer:
        return opened().learner(PPOConfig(**TINY, task="kuhn_poker", adapter=str(folder), **said))[0]

    true = {"rank": own.rank, "alpha": own.alpha, "targets": own.targets, "layers": own.layers}
    for said in ({}, true, {"rank": own.rank}, {"targets": "all-linear", "layers": "all"}):
        assert start(**said).adapter is not None
    for key, value in (
        ("rank", own.rank + 1),
        ("alpha", own.alpha + 1),
        ("rslora", not own.rslora),
        ("targets", "mlp"),
        ("layers", "top:1"),
        ("rank_pattern", {"q_proj": own.rank + 1}),
    ):
        with pytest.raises(InputError) as caught:
            start(**{**true, key: value})
        assert f"{key} = " in caught.value.message and "is not what adapter = " in caught.value.message
        assert caught.value.hint == f"leave {key} out: an adapter brings its own"
