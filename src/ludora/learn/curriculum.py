"""What is played next: stages of games and opponents, and how the games of a stage share an update.

A stage is left for the next one when its window is full of results and enough of them are wins; there is no way back.
Results are games the learner has lost or won: fresh ones, against others, of this stage. Replays of failures are
harder than the stage, and a game against oneself is always won by somebody, so neither counts.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ludora.envs.build import num_players
from ludora.envs.figures import figures
from ludora.envs.sources import Source, sources
from ludora.errors import ConfigError
from ludora.grammar import parse
from ludora.learn.replay import SELF
from ludora.rng import generator
from ludora.settings import PPOConfig
from ludora.types import Outcome, Spec, Task, Trajectory

FAST, SLOW = 0.5, 0.9  # decay per update of the two means of a game's score whose distance is its progress
EXPLORE = 0.25  # share of the draws that learning progress does not decide
UNKNOWN_TOKENS = 2000.0  # of one game nobody has measured, until it is
OF_OPTIONS = ("labels", "retries", "invalid_penalty")  # keys about options to choose from


@dataclass(frozen=True, slots=True)
class Stage:
    """Games, each with its share of the draws, opponents with their weights, and the success rate that ends it."""

    name: str
    games: Mapping[Source, float]
    opponents: Mapping[str, float]
    threshold: float


@dataclass(frozen=True, slots=True)
class Advance:
    """A stage was left: which one for which, and the success rate of the full window."""

    number: int
    of: int
    before: Stage
    now: Stage
    success: float

    def to_json(self) -> dict[str, Any]:
        """For `events.jsonl`."""
        return {
            "stage": self.now.name,
            "number": self.number,
            "of": self.of,
            "opponent": ", ".join(self.now.opponents),
            "games": [source.game for source in self.now.games],
            "left": self.before.name,
            "success": self.success,
        }

    @property
    def sentence(self) -> str:
        """The announcement."""
        return (
            f"curriculum: stage {self.number}/{self.of}, {self.now.name}, against {' and '.join(self.now.opponents)} "
            f"({self.before.name} was won {self.success:.2%} of the time)"
        )


def stages(config: PPOConfig) -> tuple[Stage, ...]:
    """The stages of a config; one, without end, where it names none.

    Raises:
        InputError: a TASK or range of ids cannot be read.
        ConfigError: learning progress has only one game to choose from, replay nothing to keep, or all tasks are of a
            shell and something is said about the choice of an option.
    """
    found = tuple(
        Stage(
            given.name,
            _games(given.tasks or config.tasks),
            given.opponents or config.opponents,
            given.threshold or config.threshold,
        )
        for given in config.stages
    ) or (Stage("all", _games(config.tasks), config.opponents, config.threshold),)
    if config.sampler == "progress" and all(len(stage.games) == 1 for stage in found):
        raise ConfigError("sampler = progress has no effect with one game", "name several tasks, or leave it out")
    if config.replay and not any(_can_be_lost(stage) for stage in found):
        raise ConfigError(
            f"replay = {config.replay:g} has no effect: all games are against oneself, and those are not kept",
            "set replay=0, or add another opponent",
        )
    if all(source.example.name == "shell" for stage in found for source in stage.games):
        if config.act == "choose":
            raise ConfigError("act = choose: a shell lists no actions to choose from", "set act=say")
        for key in OF_OPTIONS:
            if (value := getattr(config, key)) != type(config).model_fields[key].default:
                raise ConfigError(
                    f"{key} = {value} has no effect in a shell: any text is an answer", f"leave {key} out"
                )
    return found


def _can_be_lost(stage: Stage) -> bool:
    """Whether a stage has games that are not against oneself: somebody else's, or games for one."""
    others = {parse(player).name for player in stage.opponents} - {SELF}
    return bool(others) or any(num_players(source.example) == 1 for source in stage.games)


def _games(tasks: Sequence[str]) -> dict[Source, float]:
    """Every task as likely as any other; a range of ids is one."""
    shares: dict[Source, float] = {}
    for task in tasks:
        for source, share in sources(task):
            shares[source] = shares.get(source, 0.0) + share / len(tasks)
    return shares


class Curriculum:
    """Chooses the games of a run and observes how they went. Its state is in the checkpoint."""

    def __init__(self, config: PPOConfig) -> None:
        self.config, self.stages = config, stages(config)
        self._tasks = {source.game for stage in self.stages for source in stage.games if source.spec}
        self.number = 0
        self.window: deque[bool] = deque(maxlen=config.window)
        self._dealt: dict[str, int] = {}  # fresh games by game: their seats go round
        self._tokens: dict[str, tuple[float, int]] = {}  # mean per game played, and how many those are
        self._means: dict[str, tuple[float, float]] = {}  # fast and slow mean of the score

    @property
    def stage(self) -> Stage:
        return self.stages[self.number]

    def game(self, spec: Spec) -> str:
        """What a game's results are kept under: its TASK if the config has it, or its name."""
        return str(spec) if str(spec) in self._tasks else spec.name

    def choose(self, seed: int) -> Task:
        """A fresh task of this stage, to be confirmed by `deal`; `seed` is the game's own.

        Nobody sits at the other seats yet.
        """
        games, random = list(self.stage.games), generator("task", seed)
        source = random.choices(games, self._weights(games))[0] if len(games) > 1 else games[0]
        spec = source.draw(random)
        return Task(spec, seed, self._dealt.get(self.game(spec), 0) % num_players(spec))

    def deal(self, task: Task) -> None:
        """A chosen task is played: the next game has the next seat."""
        game = self.game(task.env)
        self._dealt[game] = self._dealt.get(game, 0) + 1

    def _weights(self, games: Sequence[Source]) -> list[float]:
        """How likely each game of the stage is drawn next.

        With a budget in tokens, the games share tokens as they would share games: one that costs a hundred times as
        much is played a hundredth as often.
        """
        weights = [self.stage.games[source] for source in games]
        if self.config.sampler == "progress":
            gains = [share * self.progress(source.game) for source, share in self.stage.games.items()]
            if (total := math.fsum(gains)) > 0:
                weights = [
                    EXPLORE * weight + (1 - EXPLORE) * gain / total for weight, gain in zip(weights, gains, strict=True)
                ]
        if self.config.tokens_per_update:
            weights = [w / self._cost(source.example) for w, source in zip(weights, games, strict=True)]
        return weights

    def progress(self, game: str) -> float:
        """How fast the score of a game changes, up or down: what is forgotten is worth playing, too."""
        fast, slow = self._means.get(game, (0.0, 0.0))
        return abs(fast - slow)

    def cost(self, task: Task) -> float:
        """Tokens that the learner will probably read and write in a game: the mean so far, or what is known."""
        return self._cost(task.env)

    def _cost(self, spec: Spec) -> float:
        mean, count = self._tokens.get(self.game(spec), (0.0, 0))
        if count:
            return max(1.0, mean)
        known = figures().get(spec.name)
        return float(known.tokens * max(1, known.turns // num_players(spec))) if known else UNKNOWN_TOKENS

    def observe(self, trajectories: Sequence[Trajectory], fresh: Iterable[Task]) -> Advance | None:
        """Take in the learner's games of an update; says so if the stage is over.

        Args:
            trajectories: of the learner, in the order in which the games were dealt.
            fresh: the tasks among theirs that are no replays.
        """
        self._count_tokens(trajectories)
        new = set(fresh)
        counted = [t for t in trajectories if t.task in new and t.seat == t.task.seat and SELF not in t.task.opponent]
        scores: dict[str, list[float]] = {}
        for t in counted:
            scores.setdefault(self.game(t.task.env), []).append(t.score)
            self.window.append(t.outcome is Outcome.WON)
        for game, found in scores.items():
            mean = math.fsum(found) / len(found)
            fast, slow = self._means.get(game, (mean, mean))
            self._means[game] = FAST * fast + (1 - FAST) * mean, SLOW * slow + (1 - SLOW) * mean
        if self.number + 1 == len(self.stages) or not self.full or self.success < self.stage.threshold:
            return None
        before, success = self.stage, self.success
        self.number += 1
        self.window.clear()
        self._means = {}  # against other opponents, scores start anew
        return Advance(self.number + 1, len(self.stages), before, self.stage, success)

    def _count_tokens(self, trajectories: Sequence[Trajectory]) -> None:
        spent: dict[str, list[int]] = {}  # game -> [tokens, games]
        for t in trajectories:
            sums = spent.setdefault(self.game(t.task.env), [0, 0])
            sums[0] += sum(len(step.move.prompt) + len(step.move.tokens) for step in t.steps)
            sums[1] += t.seat == t.task.seat  # the learner may have several seats of a game
        for game, (tokens, games) in spent.items():
            mean, count = self._tokens.get(game, (0.0, 0))
            self._tokens[game] = (mean * count + tokens) / max(1, count + games), count + games

    @property
    def full(self) -> bool:
        """Whether the window holds as many results as it can."""
        return len(self.window) == self.window.maxlen

    @property
    def success(self) -> float:
        """Share of wins in the window."""
        return sum(self.window) / max(1, len(self.window))

    def metrics(self) -> dict[str, float]:
        """Where the curriculum stands after an update."""
        found = {"stage": float(self.number + 1)} if len(self.stages) > 1 else {}
        if self.window:
            found |= {"window_success": self.success, "window_results": float(len(self.window))}
        if self.config.sampler == "progress":
            found |= {f"progress/{game}": self.progress(game) for game in self._means}
        return found

    # ---- checkpoint ------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything but the config, for JSON."""
        return {
            "stage": self.number,
            "window": [int(won) for won in self.window],
            "dealt": dict(self._dealt),
            "tokens": {game: list(known) for game, known in self._tokens.items()},
            "means": {game: list(known) for game, known in self._means.items()},
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self.number = state["stage"]
        self.window = deque(map(bool, state["window"]), maxlen=self.config.window)
        self._dealt = dict(state["dealt"])
        self._tokens = {game: (mean, count) for game, (mean, count) in state["tokens"].items()}
        self._means = {game: (fast, slow) for game, (fast, slow) in state["means"].items()}
