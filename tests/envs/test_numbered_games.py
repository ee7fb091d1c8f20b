"""The numbered games as tasks: ids, figures, promises, and that nothing but the task decides a game."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest

from ludora.envs.build import make_env, task_spec
from ludora.envs.catalogue import BLOCK, CATALOGUE, decode, encode
from ludora.envs.check import check_env
from ludora.envs.figures import CONFIGS, FILE, checked, figures, further, kind, page, search_players
from ludora.envs.openspiel_games import game_types, load
from ludora.envs.openspiel_tree import why_not_exact
from ludora.errors import InputError
from ludora.players.base import Player
from ludora.players.bots import Epsilon, FirstLegal, RandomPlayer
from ludora.players.search import ISMCTS, MCTS
from ludora.rng import stream
from ludora.rollout import Finished, Game, collect
from ludora.types import Step, Task

ROOT = FILE.parents[3]


def variants() -> list[str]:
    """Every variant of the numbered games, each once."""
    ids = (index * BLOCK + config for index in range(len(CATALOGUE)) for config in CONFIGS)
    return list(dict.fromkeys(str(task_spec(str(i).zfill(12))) for i in ids))


def broken(text: str, games: int) -> list[str]:
    return [f"{f.name}: {f.detail}" for f in check_env(task_spec(text), games=games) if not f.passed]


def test_there_are_as_many_variants_as_the_figures_say() -> None:
    assert len(variants()) == sum(f.variants for f in figures().values()) == 62
    for index, entry in enumerate(CATALOGUE):
        assert len({decode(index * BLOCK + config) for config in range(100)}) == figures()[entry.name].variants
    assert len(further()) == len(set(further())) == 30
    assert not {task_spec(text).name for text in further()} & {entry.name for entry in CATALOGUE}
    assert all(load(task_spec(text)).text for text in variants())  # all of them are told in our own words


@pytest.mark.parametrize("text", [*variants()[::7], *further()[::6]])
def test_a_sample_keeps_its_promises(text: str) -> None:
    assert not broken(text, 1)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("text", [*variants(), *further()])
def test_all_keep_their_promises(text: str) -> None:
    assert not broken(text, 1 if text.startswith("bridge") else 3)  # a deal of bridge takes seconds to work out


def test_the_page_and_the_figures_belong_together() -> None:
    assert (ROOT / "docs" / "games.md").read_text(encoding="utf-8") == page()
    assert set(figures()) == {entry.name for entry in CATALOGUE}
    assert set(checked()) == {*variants(), *further()} and set(checked().values()) == {"ok"}
    assert max(f.tokens_max for f in figures().values()) <= 2048


@pytest.mark.parametrize(
    "name", ["goofspiel", "leduc_poker", "liars_dice", "phantom_ttt", "2048", "solitaire", "hearts", "oware"]
)
def test_the_figures_say_who_can_play(name: str) -> None:
    spec = decode(encode(name))
    assert figures()[name].search == search_players(spec)
    if name not in ("oware",):  # takes long to find out
        assert figures()[name].exact == (why_not_exact(spec) is None)


def test_kinds_say_what_the_payoffs_add_up_to() -> None:
    alike = {name for name in game_types() if kind(name).endswith("common-payoff")}
    assert {"hanabi", "tiny_hanabi", "tiny_bridge_2p", "matrix_coordination"} <= alike
    assert [kind(name).split(", ")[-1] for name in ("chess", "matrix_pd", "2048")] == [
        "zero-sum",
        "general-sum",
        "alone",
    ]


def test_what_the_search_players_refuse() -> None:
    assert {name for name, f in figures().items() if "mcts" not in f.search} == {"goofspiel", "2048", "solitaire"}
    hidden = {"liars_dice", "leduc_poker", "gin_rummy", "hearts", "euchre", "blackjack", "phantom_ttt", "bridge"}
    assert {name for name, f in figures().items() if "ismcts" in f.search} == hidden


def test_ids_are_made_and_read() -> None:
    assert encode("hex", 3) == 600_000_003 and str(decode(encode("hex", 3))) == "hex(board_size=11)"
    for name, config in (("hexx", 0), ("hex", -1), ("hex", BLOCK)):
        with pytest.raises(InputError):
            encode(name, config)


def test_ids_wrap_only_when_asked() -> None:
    assert task_spec("wrap(2200000000)") == task_spec("000000000000") and task_spec("wrap(2800000001)") == task_spec(
        "600000001"
    )
    with pytest.raises(InputError) as caught:
        task_spec("2200000000")
    assert "wrap(2200000000)" in caught.value.hint
    for text in ("wrap", "wrap(-1)", "wrap(hex)", "wrap(1, 2)", "wrap(id=3)"):
        with pytest.raises(InputError, match="one task id"):
            task_spec(text)
    with pytest.raises(InputError, match="out of range"):
        decode(-1, wrap=True)


def random_tasks(count: int, indices: Sequence[int]) -> list[Task]:
    random, tasks = Random(7), []
    while len(tasks) < count:
        spec = decode(random.choice(indices) * BLOCK + random.randrange(BLOCK))
        tasks.append(Task(spec, random.randrange(2**31), random.randrange(load(spec).seats)))
    return tasks


def seats(task: Task, players: dict[str, Player]) -> list[Player]:
    """The seat of the task is played by chance, the others by whoever the seed says and can play the game."""
    able = [p for name, p in players.items() if name in ("random", "first") or name in search_players(task.env)]
    other = able[task.seed % len(able)]
    return [players["random"] if seat == task.seat else other for seat in range(load(task.env).seats)]


def shown(finished: Finished) -> object:
    """All that a game showed, and what came of it, without the handles of the engine and the game's place."""
    assert not finished.error
    return [
        (t.seat, t.player, t.outcome, t.score, t.end, t.unclaimed, [_step(step) for step in t.steps])
        for t in finished.trajectories
    ]


def _step(step: Step) -> tuple[object, ...]:
    return step.turn.messages, step.turn.legal, step.turn.seed, step.move, step.reward


def play_twice(tasks: list[Task]) -> None:
    """In one order and few at a time, then in another order and all at once, beside other games."""
    games = []
    for slots, order in ((5, range(len(tasks))), (1024, sorted(range(len(tasks)), key=lambda i: stream("order", i)))):
        players: dict[str, Player] = {"random": RandomPlayer(), "first": FirstLegal()}
        players |= {"mcts": Epsilon(0.5, MCTS(simulations=3)), "ismcts": ISMCTS(simulations=3)}
        played = collect([Game(tasks[i], seats(tasks[i], players)) for i in order], make_env, slots=slots, max_turns=40)
        games.append({i: shown(finished) for i, finished in zip(order, played, strict=True)})
    assert games[0] == games[1]


def test_a_task_is_the_same_game_in_any_batch() -> None:
    play_twice(
        random_tasks(
            40,
            [
                i
                for i in range(len(CATALOGUE))
                if CATALOGUE[i].name not in ("chess", "bridge", "backgammon", "quoridor")
            ],
        )
    )


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_thousand_tasks_are_the_same_games_in_any_batch() -> None:
    play_twice(random_tasks(1000, range(len(CATALOGUE))))
