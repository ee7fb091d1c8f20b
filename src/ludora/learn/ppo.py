"""Multi-turn PPO, top to bottom: resume or start, play, credit, improve, log, evaluate, save.

An update's randomness is a function of (seed, update), so the checkpoint of an update holds no generator: its number,
the learner's tensors and a handful of numbers give every later bit.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from ludora.data.trajectories import to_line
from ludora.envs.build import make_env, num_players, task_spec
from ludora.errors import TrainingFailed
from ludora.evals.progress import Measure
from ludora.learn import maths
from ludora.learn.conclude import check_ending, conclude, started_from
from ludora.learn.credit import Decision, assign
from ludora.learn.learner import Learner
from ludora.learn.opponents import Opponents
from ludora.models.checkpoint import pack, unpack
from ludora.models.engine import Counters
from ludora.models.policy import Answer, Query
from ludora.players.model import ModelPlayer
from ludora.players.studio import Studio
from ludora.rng import stream
from ludora.rollout import MAX_TURNS, Finished, Game, collect
from ludora.runs.log import RunLog
from ludora.runs.store import Run
from ludora.settings import PPOConfig
from ludora.types import Outcome, Spec, Step, Task, Trajectory

CACHE_BYTES = 64 << 20  # caches up to this size are kept in checkpoints
BROKEN_LIMIT = 0.5  # an update most of whose games broke is not learned from


@dataclass(slots=True)
class Progress:
    """Where training stands; all of it is in the checkpoint."""

    update: int = 0
    seconds: float = 0.0  # of training, evaluation left out
    best: float | None = None
    best_update: int | None = None
    stale: int = 0  # evaluations since the best
    games: int = 0
    decisions: int = 0


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
    spec, studio, learner, opponents, measure, at = _begin(config, run, log, step)
    player = learner.player
    if not run.steps:
        if config.evaluate_every:
            log.metrics(0, _evaluate(measure, at, log) | {"time": 0.0})
        _save(run, learner, opponents, at)

    while not (over := _over(config, at)) and not stop():
        started = time.monotonic()
        opponents.begin(at.update, learner)

        games = _games(config, spec, opponents, player, at.update)
        finished = collect(games, make_env, max_turns=config.max_turns or MAX_TURNS)
        mine = _mine(finished, player)
        played = time.monotonic()

        decisions = assign(
            mine,
            lambda step: _key(learner, step),
            learner.values,
            gamma=config.gamma,
            lam=config.lam,
            baselines=learner.baselines,
            normalise=config.normalize_advantages,
        )
        metrics = _rollout_metrics(finished, mine, decisions)
        metrics["loss_value"] = learner.fit_critic(decisions)
        warm, progress = config.warmup_updates / config.updates, _progress(config, at)
        metrics["learning_rate"] = maths.scheduled(config.learning_rate, config.schedule, progress, warm)
        if not config.entropy_target:  # which moves the coefficient itself
            learner.entropy_coef = maths.scheduled(config.entropy_coef, config.entropy_schedule, progress)
        if at.update >= config.value_warmup:
            metrics |= learner.improve(decisions, at.update, metrics["learning_rate"])

        ended = time.monotonic()
        at.update += 1
        at.seconds = run.clock(at.update, at.seconds + ended - started)  # what is repeated takes as long as at first
        at.games += len(finished)
        at.decisions += len(decisions)
        metrics |= _speed_metrics(studio, decisions, played - started, ended - played, at)
        if config.evaluate_every and (at.update % config.evaluate_every == 0 or _over(config, at)):
            metrics |= _evaluate(measure, at, log)
            _keep_episodes(run, config, at, finished, player)
        log.metrics(at.update, metrics)
        if at.update % config.save_every == 0 or at.best_update == at.update:
            _save(run, learner, opponents, at)
    if run.steps[-1] != at.update:
        _save(run, learner, opponents, at)
    return _finish(run, studio, learner, opponents, at, log, over)


# ---- one update ----------------------------------------------------------------------------------------------------


def _games(config: PPOConfig, spec: Spec, opponents: Opponents, player: Any, update: int) -> list[Game]:
    """The games of an update: fresh seeds, every seat equally often."""
    seats = num_players(spec)
    games = []
    for i in range(config.games_per_update):
        seed = stream("game", config.seed, update, i)
        opponent = opponents.draw(seed)
        sitting = [player if seat == i % seats else opponent for seat in range(seats)]
        games.append(Game(Task(spec, seed, i % seats, (opponent.name,) * (seats - 1)), sitting))
    return games


def _mine(finished: Sequence[Finished], player: ModelPlayer) -> list[Trajectory]:
    """The learner's trajectories of all games. Broken games teach nothing."""
    broken = sum(bool(f.error) for f in finished)
    if broken > BROKEN_LIMIT * len(finished):
        first = next(f.error for f in finished if f.error)
        raise TrainingFailed(
            f"{broken} of {len(finished)} games broke, the first with: {first}", "ludora check-env TASK"
        )
    return [t for f in finished for t in _seen(f, player)]


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


def _key(learner: Learner, step: Step) -> Query | Answer:
    """What the learner answered there: a choice among actions, or free text."""
    if step.move.choices:
        return learner.player.query(step.turn)
    prefix = len(learner.player.chat.prefix(step.turn.messages))
    return Answer(step.move.prompt, prefix, step.move.tokens)


# ---- metrics -------------------------------------------------------------------------------------------------------


def _rollout_metrics(
    finished: Sequence[Finished], mine: Sequence[Trajectory], decisions: Sequence[Decision]
) -> dict[str, float]:
    """Returns and outcomes of the learner, overall and by opponent and seat."""
    n = max(1, len(mine))
    steps = [step for t in mine for step in t.steps]
    counts = Counter(t.outcome for t in mine)
    metrics = {
        "return": math.fsum(t.total for t in mine) / n,
        "score": math.fsum(t.score for t in mine) / n,
        "win_rate": counts[Outcome.WON] / n,
        "draw_rate": counts[Outcome.DREW] / n,
        "loss_rate": (counts[Outcome.LOST] + counts[Outcome.FORFEITED]) / n,
        "truncated_rate": counts[Outcome.TRUNCATED] / n,
        "broken_games": float(sum(bool(f.error) for f in finished)),
        "invalid_rate": sum(step.move.stop == "invalid" for step in steps) / max(1, len(steps)),
        "attempts": sum(step.move.attempts for step in steps) / max(1, len(steps)),
        "turns": len(steps) / n,
        "distinct_prompts": float(len({d.key for d in decisions})),
        "explained_variance": maths.explained_variance([d.value for d in decisions], [d.target for d in decisions]),
    }
    groups: dict[str, list[Trajectory]] = {}
    for t in mine:
        groups.setdefault(f"{(t.task.opponent or ('self',))[0]}/seat{t.seat}", []).append(t)
    for name, group in groups.items():
        metrics[f"return/{name}"] = math.fsum(t.total for t in group) / len(group)
        metrics[f"win_rate/{name}"] = sum(t.outcome is Outcome.WON for t in group) / len(group)
    return metrics


def _speed_metrics(
    studio: Studio, decisions: Sequence[Decision], rollout: float, update: float, at: Progress
) -> dict[str, float]:
    """Seconds and tokens; counters of the engine start again."""
    counters, studio.engine.counters = studio.engine.counters, Counters()
    distinct = sum(len(key.prompt) - key.prefix for key in {d.key: None for d in decisions})
    return {
        "seconds_rollout": rollout,
        "seconds_update": update,
        "tokens_per_second": counters.tokens / max(1e-9, rollout + update),
        "tokens_per_distinct_token": counters.tokens / max(1, distinct),
        "decisions_per_second": len(decisions) / max(1e-9, rollout + update),
        "games": float(at.games),
        "time": at.seconds,
    }


# ---- beginning, end, checkpoints -----------------------------------------------------------------------------------


def _begin(
    config: PPOConfig, run: Run, log: RunLog, step: int | None
) -> tuple[Spec, Studio, Learner, Opponents, Measure, Progress]:
    """Everything a run works with, at the state of its checkpoint if it has one."""
    spec = task_spec(config.task)
    studio = Studio(config, log.say)
    player, reference = studio.learner(config)
    learner = Learner.create(config, player, reference)
    opponents = Opponents(config, spec, studio, player)
    check_ending(config, studio, spec)
    measured = studio.player("self", learner.adapter, config.evaluate_temperature)
    measure = Measure(spec, measured, opponents.fixed(), config.evaluate_games, stream("evaluation", config.seed))
    at = _resume(run, learner, opponents, step, log)
    trainable, total = learner.adapter.parameters, studio.base.model.num_parameters()
    log.say(f"adapter: {trainable:,} parameters, {trainable / total:.2%} of the model's {total:,}")
    log.event(
        "start",
        dtype=str(studio.base.dtype).removeprefix("torch."),
        device=str(studio.base.device),
        threads=studio.threads,
        base=studio.base.fingerprint,
        trainable=trainable,
        **started_from(config, log),
    )
    return spec, studio, learner, opponents, measure, at


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


def _evaluate(measure: Measure, at: Progress, log: RunLog) -> dict[str, float]:
    """Measure, and remember the best."""
    metrics = measure.take()
    score = metrics.pop("score")
    at.stale += 1
    if at.best is None or score > at.best:
        at.best, at.best_update, at.stale = score, at.update, 0
        log.event("best", update=at.update, score=score)
    return metrics


def _save(run: Run, learner: Learner, opponents: Opponents, at: Progress) -> None:
    """A checkpoint of everything, and the best one kept aside."""
    keys, caches = _kept(learner, opponents)
    tensors = learner.tensors() | opponents.tensors(learner) | {"caches": caches}
    state = {"progress": asdict(at), "learner": learner.state(), "opponents": opponents.state(), "caches": keys}
    run.save_checkpoint(at.update, pack(tensors, state))
    run.mark_best(at.best_update)
    run.prune(learner.config.keep)


def _kept(learner: Learner, opponents: Opponents) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What the caches hold, for the checkpoint.

    In 16 bits a row's last bits depend on the batch that it was computed in, so a resumed run must go on with the very
    same caches. Players' distributions die at the next update anyway, and caches beyond CACHE_BYTES are not worth the
    disk: those end here, in the run that goes on just as in one that is resumed.
    """
    for player in (learner.player, learner.magnet, *opponents.snapshots.values()):
        if player is not None:
            player.forget()
    if learner.policy.cached_bytes > CACHE_BYTES:
        learner.policy.forget()
    return learner.policy.cached(learner.reference)


def _resume(run: Run, learner: Learner, opponents: Opponents, step: int | None, log: RunLog) -> Progress:
    """The state of the newest sound checkpoint (or of the one asked for); a new start if there is none."""
    found = run.resume(step)
    if found is None:
        return Progress()
    tensors, state = unpack(found.files)
    learner.load_tensors(tensors)
    learner.load_state(state["learner"])
    opponents.load(state["opponents"], tensors, learner)
    learner.policy.restore_cached(state["caches"], tensors.get("caches", {}), learner.reference)
    log.say(f"resumed from update {found.step}")
    at = Progress(**state["progress"])
    run.mark_best(at.best_update)
    return at


def _finish(
    run: Run, studio: Studio, learner: Learner, opponents: Opponents, at: Progress, log: RunLog, reason: str
) -> dict[str, Any]:
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
        tensors, _ = unpack(run.load_checkpoint(at.best_update).files)
        learner.adapter.load_tensors(tensors["adapter"])
    ending = conclude(run, studio, learner, opponents.spec, opponents.fixed(), learner.config.evaluate_games)
    return summary | ending
