"""Multi-turn PPO, top to bottom: resume or start, play, credit, improve, log, evaluate, save.

An update's randomness is a function of (seed, update), so the checkpoint of an update holds no generator: its number,
the learner's tensors and a handful of numbers give every later bit.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from ludora.data.trajectories import to_line
from ludora.envs.build import make_env, setting
from ludora.errors import TrainingFailed
from ludora.evals.progress import Measures
from ludora.learn import maths
from ludora.learn.conclude import Ground, check_ending, check_start, conclude, started_from
from ludora.learn.credit import Decision, assign, normalise
from ludora.learn.curriculum import Advance, Curriculum, Stage
from ludora.learn.learner import Learner
from ludora.learn.metrics import explained_variance, rollout_metrics, speed_metrics
from ludora.learn.monitors import Monitors
from ludora.learn.opponents import Opponents
from ludora.learn.progress import Progress
from ludora.learn.replay import Replay
from ludora.models.checkpoint import pack, unpack
from ludora.models.engine import Counters
from ludora.models.policy import Answer, Query
from ludora.players.base import forget
from ludora.players.build import check_opponents
from ludora.players.model import ModelPlayer
from ludora.players.studio import Studio
from ludora.rng import stream
from ludora.rollout import MAX_TURNS, Finished, Game, collect
from ludora.runs.log import RunLog
from ludora.runs.store import Run
from ludora.settings import ACTING, PPOConfig
from ludora.types import Move, Trajectory, Turn

CACHE_BYTES = 64 << 20  # caches up to this size are kept in checkpoints
BROKEN_LIMIT = 0.5  # an update most of whose games broke is not learned from


def train(
    config: PPOConfig, run: Run, log: RunLog, *, step: int | None = None, stop: Callable[[], bool] = bool
) -> dict[str, Any]:
    """Train an adapter by PPO into `run`, resuming if it has checkpoints.

    Args:
        step: resume from this checkpoint rather than the last.
        stop: asked after every update; True ends training with a checkpoint.

    Raises:
        TrainingFailed: numbers are no longer finite, or environments keep breaking.
    """
    it, at = _begin(config, run, log, step)
    learner, player = it.learner, it.learner.player
    if not run.steps:
        if config.evaluate_every:
            log.metrics(0, _evaluate(it, at, log) | {"time": 0.0})
        _save(run, it, at)

    while not (over := _over(config, at)) and not stop():
        started = time.monotonic()
        it.opponents.begin(at.update, learner, it.replay.named)

        games = _games(config, it, at.update)
        finished = _play(config, games)
        mine = _mine(finished, player)
        played = time.monotonic()

        decisions = _credit(config, it, mine)
        metrics = rollout_metrics(finished, mine, decisions, it.curriculum.game)
        metrics |= _learn(config, learner, at, decisions)

        advance = it.curriculum.observe(mine, [game.task for game in games if not game.attempt])
        it.replay.observe(mine, at.update)
        metrics |= it.curriculum.metrics() | it.replay.metrics(at.update)

        ended = time.monotonic()
        at.take(finished, mine, decisions)
        at.seconds = run.clock(at.update, at.seconds + ended - started)  # what is repeated takes as long as at first
        metrics |= speed_metrics(it.studio, decisions, played - started, ended - played)
        metrics |= {"games": float(at.games), "time": at.seconds}
        _tell(it, at, metrics, advance, log)
        if config.evaluate_every and (at.update % config.evaluate_every == 0 or _over(config, at)):
            metrics |= _evaluate(it, at, log)
            _keep_episodes(run, config, at, finished, player)
        log.metrics(at.update, metrics)
        if at.update % config.save_every == 0 or at.best_update == at.update:
            _save(run, it, at)
    if at.update not in run.steps:
        _save(run, it, at)
    return _finish(run, it, at, log, over)


# ---- one update ----------------------------------------------------------------------------------------------------


def _games(config: PPOConfig, it: Work, update: int) -> list[Game]:
    """The games of an update, replays of failures among them: as many as its budgets of games and tokens allow."""
    games: list[Game] = []
    spent = 0.0
    for i in range(config.games_per_update):
        seed = stream("game", config.seed, update, i)
        again = it.replay.choose(seed, update)
        task = again or it.curriculum.choose(seed)
        spent += it.curriculum.cost(task)
        if games and config.tokens_per_update and spent > config.tokens_per_update:
            break
        (it.replay if again else it.curriculum).deal(task)
        games.append(it.opponents.seat(task, it.curriculum.stage.opponents, attempt=seed if again else 0))
    return games


def _play(config: PPOConfig, games: Sequence[Game]) -> list[Finished]:
    """Play an update's games to their ends, or to the bounds on turns and tokens."""
    return collect(games, make_env, max_turns=config.max_turns or MAX_TURNS, max_tokens=config.max_tokens)


def _mine(finished: Sequence[Finished], player: ModelPlayer) -> list[Trajectory]:
    """The learner's trajectories of all games. Broken games teach nothing."""
    broken = sum(bool(f.error) for f in finished)
    if broken > BROKEN_LIMIT * len(finished):
        first = next(f.error for f in finished if f.error)
        raise TrainingFailed(
            f"{broken} of {len(finished)} games broke, the first with: {first}", "ludora check-env TASK"
        )
    return [t for f in finished for t in _seen(f, player)]


def _credit(config: PPOConfig, it: Work, mine: Sequence[Trajectory]) -> list[Decision]:
    """What is learned from: every answer of the learner with its advantage, by game and seat."""
    decisions = assign(
        mine,
        lambda turn, move: _key(it.learner, turn, move),
        it.learner.values,
        gamma=config.gamma,
        lam=config.lam,
        baselines=it.learner.baselines,
        game=it.curriculum.game,
        penalty=config.invalid_penalty,
    )
    if config.normalize_advantages:
        normalise(decisions)
    return decisions


def _learn(config: PPOConfig, learner: Learner, at: Progress, decisions: Sequence[Decision]) -> dict[str, float]:
    """Make the critic and the adapter better; where nobody of ours had a move, there is nothing to learn."""
    metrics, progress = {}, _progress(config, at)
    warm = min(1.0, (at.update + 1) / max(1, config.warmup_updates))
    metrics["learning_rate"] = rate = warm * maths.scheduled(config.learning_rate, config.schedule, progress)
    if not config.entropy_target:  # which moves the coefficient itself
        learner.entropy_coef = maths.scheduled(config.entropy_coef, config.entropy_schedule, progress)
    if decisions and config.baseline == "critic":
        metrics["explained_variance"] = explained_variance(decisions)
        metrics["loss_value"] = learner.fit_critic(decisions)
    if decisions and at.update >= config.value_warmup:
        metrics |= learner.improve(decisions, at.update, rate)
    return metrics


def _keep_episodes(
    run: Run, config: PPOConfig, at: Progress, finished: Sequence[Finished], player: ModelPlayer
) -> None:
    """The update's first games as the learner saw them; an update that is repeated writes the same file again."""
    games = [_seen(f, player) for f in finished[: config.episodes] if not f.error]
    if config.episodes:
        run.write_episodes(at.update, "".join(to_line(t) + "\n" for seen in games for t in seen))


def _seen(finished: Finished, player: ModelPlayer) -> list[Trajectory]:
    """The learner's trajectories of a game: of its own seat, or of every seat in self-play."""
    return [t for t in finished.trajectories if finished.game.seats[t.seat] is player]


def _key(learner: Learner, turn: Turn, move: Move) -> Query | Answer:
    """What the learner answered there: a choice among actions, or free text."""
    if move.choices:
        return learner.player.query(turn)
    return Answer(move.prompt, len(learner.player.chat.prefix(turn.messages)), move.tokens)


def _tell(it: Work, at: Progress, metrics: dict[str, float], advance: Advance | None, log: RunLog) -> None:
    """Say what an update changed: a new stage, where the best so far was in another game; and early warnings."""
    for text in it.monitors.observe(metrics):
        log.warn(text)
    if advance:
        at.forget_best()
        it.monitors.calm()
        log.say(advance.sentence)
        log.event("stage", update=at.update, **advance.to_json())


# ---- beginning, end, checkpoints -----------------------------------------------------------------------------------


@dataclass(slots=True)
class Work:
    """Everything a run works with."""

    studio: Studio
    learner: Learner
    opponents: Opponents
    curriculum: Curriculum
    replay: Replay
    monitors: Monitors
    measures: dict[int, Measures]  # by stage, made when it is reached
    unsaved: dict[str, Tensor] = field(default_factory=dict)  # the best adapter, where the disk had no room for it

    @property
    def measure(self) -> Measures:
        """How the learner is measured in this stage."""
        number, stage = self.curriculum.number, self.curriculum.stage
        if number not in self.measures:
            config, fixed = self.learner.config, self.opponents.fixed(stage.opponents)
            seed = stream("evaluation", config.seed)
            player = self.studio.player("self", self.learner.adapter, config.evaluate_temperature)
            self.measures[number] = Measures(list(stage.games), player, fixed, config.evaluate_games, seed)
        return self.measures[number]


def _begin(config: PPOConfig, run: Run, log: RunLog, step: int | None) -> tuple[Work, Progress]:
    """Everything a run works with, at the state of its checkpoint if it has one."""
    curriculum = Curriculum(config)
    check_opponents(curriculum.stages)
    studio = Studio(config, log.say)
    player, reference = studio.learner(config)
    learner = Learner.create(config, player, reference)
    opponents = Opponents(config, [stage.opponents for stage in curriculum.stages], studio, player)
    grounds = _grounds(curriculum.stages, opponents)
    check_ending(config, studio, grounds)
    check_start(run, studio.base, config.adapter)
    replay = Replay(config.replay, config.replay_size, config.replay_decay)
    it = Work(studio, learner, opponents, curriculum, replay, Monitors(), {})
    at = _resume(run, it, step, log)
    trainable, total = learner.adapter.parameters, studio.base.model.num_parameters()
    log.say(f"adapter: {trainable:,} parameters, {trainable / total:.2%} of the model's {total:,}")
    log.event(
        "start",
        dtype=str(studio.base.dtype).removeprefix("torch."),
        device=str(studio.base.device),
        threads=studio.threads,
        base=studio.base.fingerprint,
        trainable=trainable,
        settings={str(ground.spec): told for ground in grounds if (told := setting(ground.spec))},
        **started_from(config, log),
    )
    return it, at


def _grounds(stages: Sequence[Stage], opponents: Opponents) -> list[Ground]:
    """Where learners of these stages are evaluated."""
    return [
        Ground(stage.name, source.example, opponents.fixed(stage.opponents))
        for stage in stages
        for source in stage.games
    ]


def _over(config: PPOConfig, at: Progress) -> str:
    """Why training is over, or nothing."""
    if at.update >= config.updates:
        return "updates"
    if config.minutes and at.seconds >= config.minutes * 60:
        return "minutes"
    if config.patience and at.stale >= config.patience:
        return "patience"
    return ""


def _progress(config: PPOConfig, at: Progress) -> float:
    """In [0, 1], for the schedule: of the updates, or of the time if that runs out first."""
    timed = at.seconds / (config.minutes * 60) if config.minutes else 0.0
    return min(1.0, max(at.update / config.updates, timed))


def _evaluate(it: Work, at: Progress, log: RunLog) -> dict[str, float]:
    """Measure, and remember the best."""
    metrics = it.measure.take()
    it.studio.engine.counters = Counters()  # evaluation is not training
    score = metrics.pop("score")
    at.stale += 1
    at.measured = _measured(it)
    if at.best is None or score > at.best:
        at.best, at.best_update, at.stale = score, at.update, 0
        log.event("best", update=at.update, score=score)
    return metrics


def _measured(it: Work) -> list[Any]:
    """All that a resumed run may change and that decides what a score means; as JSON reads it back."""
    config, opponents = it.learner.config, it.curriculum.stage.opponents
    temperature = config.evaluate_temperature or config.temperature
    told = [bool(config.evaluate_every), config.evaluate_games, temperature, dict(opponents)]
    return [*told, *(getattr(config, key) for key in ACTING)]


def _save(run: Run, it: Work, at: Progress) -> None:
    """A checkpoint of everything, and the best one kept aside."""
    learner = it.learner
    keys, caches = _kept(it)
    tensors = learner.tensors() | it.opponents.tensors(learner) | {"caches": caches}
    state = {
        "progress": asdict(at),
        "learner": learner.state(),
        "opponents": it.opponents.state(),
        "curriculum": it.curriculum.state(),
        "replay": it.replay.state(),
        "monitors": it.monitors.state(),
        "caches": keys,
    }
    stats = {"training_stats.json": json.dumps(at.stats, indent=2).encode()} if at.stats else {}
    saved = run.save_checkpoint(at.update, pack(tensors, state) | stats)
    if at.best_update == at.update:
        it.unsaved = {} if saved else tensors["adapter"]
    run.mark_best(at.best_update)
    run.prune(learner.config.keep)


def _kept(it: Work) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What the caches hold, for the checkpoint.

    In 16 bits a row's last bits depend on the batch that it was computed in, so a resumed run must go on with the very
    same caches. The distributions that players keep are computed anew quickly, and caches beyond CACHE_BYTES are not
    worth the disk: those end here, in the run that goes on just as in one that is resumed.
    """
    learner, opponents = it.learner, it.opponents
    for player in (learner.player, learner.magnet, *opponents.snapshots.values(), *opponents.players.values()):
        if player is not None:
            forget(player, learner.policy)
    for measures in it.measures.values():
        measures.forget(learner.policy)
    if learner.policy.cached_bytes > CACHE_BYTES:
        learner.policy.forget()
    return learner.policy.cached(learner.reference)


def _resume(run: Run, it: Work, step: int | None, log: RunLog) -> Progress:
    """The state of the newest sound checkpoint (or of the one asked for); a new start if there is none."""
    found = run.resume(step)
    if found is None:
        return Progress()
    tensors, state = unpack(found.files)
    learner = it.learner
    learner.load_tensors(tensors)
    learner.load_state(state["learner"])
    it.opponents.load(state["opponents"], tensors, learner)
    it.curriculum.load(state["curriculum"])
    it.replay.load(state["replay"])
    it.monitors.load(state["monitors"])
    learner.policy.restore_cached(state["caches"], tensors.get("caches", {}), learner.reference)
    log.say(f"resumed from update {found.step}")
    at = Progress(**state["progress"])
    if at.best_update not in (None, *run.steps):
        log.warn(f"the best so far, of update {at.best_update}, is no longer there; it is sought anew from here")
        at.forget_best()
    if at.measured and at.measured != _measured(it):
        log.warn("evaluations are no longer what they were, so the best is sought anew from here")
        at.forget_best()
    run.mark_best(at.best_update)
    return at


def _finish(run: Run, it: Work, at: Progress, log: RunLog, reason: str) -> dict[str, Any]:
    """Take the best measured adapter, and conclude the run with it. An interrupted run just says where it stands."""
    log.event("end", reason=reason or "interrupted", update=at.update, best_update=at.best_update)
    summary = {
        "run": str(run.path),
        "ended": reason or "interrupted",
        "updates": at.update,
        "train_seconds": round(at.seconds, 1),
        "games": at.games,
        "decisions": at.decisions,
        "best_update": at.best_update,
        "best_score": at.best,
    }
    if not reason:
        return summary
    if at.best_update not in (None, at.update):
        best = it.unsaved or unpack(run.load_checkpoint(at.best_update).files)[0]["adapter"]
        it.learner.adapter.load_tensors(best)
    reached = it.curriculum.stages[: it.curriculum.number + 1]
    grounds = _grounds(list(reversed(reached)), it.opponents)
    return summary | conclude(run, it.studio, it.learner, grounds, it.learner.config.evaluate_games)
