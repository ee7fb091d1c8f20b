"""Learning from examples, top to bottom: resume or start, batch, step, log, evaluate, save.

A step's batch is a function of (seed, step), its dropout masks of (seed, masks drawn), so a checkpoint holds the
adapter, its optimiser and a handful of numbers, and gives every later bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor

from ludora.data.batches import Homes, Order, digest, units
from ludora.data.lines import ranges
from ludora.envs.build import num_players, task_spec
from ludora.errors import InputError
from ludora.evals.report import write_report
from ludora.learn import maths
from ludora.learn.conclude import Ground, check_ending, check_start, conclude, ended_as, started_from
from ludora.learn.lessons import Lesson, Lessons, prepare
from ludora.learn.pupil import Pupil, chunks
from ludora.learn.sums import Sums
from ludora.models.checkpoint import pack, unpack
from ludora.models.engine import Counters
from ludora.models.storage import adapter_files
from ludora.players.base import Player, check_plays
from ludora.players.build import fixed_player
from ludora.players.studio import Studio
from ludora.rng import generator
from ludora.runs.log import RunLog
from ludora.runs.store import Run
from ludora.settings import SFTConfig
from ludora.types import Spec

SHOWN = {  # metric -> what it is called on the terminal
    "loss": "Loss",
    "accuracy": "Accuracy",
    "eval_loss": "Held-out loss",
    "move_accuracy": "Moves found",
    "parse_rate": "Readable",
}


@dataclass(slots=True)
class Progress:
    """Where training stands; all of it is in the checkpoint."""

    step: int = 0
    seconds: float = 0.0  # of training, evaluation left out
    best: float | None = None  # held-out loss
    best_step: int | None = None
    stale: int = 0  # evaluations since the best
    examples: int = 0
    units: int = 0
    before: dict[str, float] = field(default_factory=dict)  # what was measured at the start, and at the best step
    after: dict[str, float] = field(default_factory=dict)


@dataclass
class Setup:
    """What a run works with."""

    studio: Studio
    pupil: Pupil
    lessons: Lessons
    measured: list[Lesson]  # of those held out
    asked: list[Lesson]  # held-out turns to answer by sampling
    order: Order
    homes: Homes
    spec: Spec | None  # the game to play at the end
    steps: int  # at most
    unsaved: dict[str, Tensor] = field(default_factory=dict)  # the best adapter, where the disk had no room for it

    @cached_property
    def digest(self) -> str:
        """A hash of all examples, by which a resumed run knows its own."""
        return digest([lesson.item for lesson in (*self.lessons.learnt, *self.measured)])


def train(
    config: SFTConfig, run: Run, log: RunLog, *, step: int | None = None, stop: Callable[[], bool] = bool
) -> dict[str, Any]:
    """Train an adapter on examples into `run`, resuming if it has checkpoints.

    Args:
        step: resume from this checkpoint rather than the last.
        stop: asked after every step; True ends training with a checkpoint.

    Raises:
        InputError: the data cannot be used, or is not what the run began with.
        TrainingFailed: numbers are no longer finite.
    """
    it = _begin(config, log)
    sums, pace = Sums(), Sums()
    at = _resume(run, it, sums, step, log)
    _announce(config, it, log)
    if not run.steps:
        if config.evaluate_every:
            log.metrics(0, _evaluate(config, it, at, log) | {"time": 0.0})
        _save(run, config, it, sums, at)

    while not (over := _over(config, it, at)) and not stop():
        started = time.monotonic()
        batch = [it.lessons.learnt[i].item for i in it.order.at(at.step)]
        rate = maths.scheduled(config.learning_rate, config.schedule, _progress(config, it, at), config.warmup)
        it.homes.prepare(batch)
        it.pupil.learn(batch, rate, sums)

        spent = time.monotonic() - started
        at.step += 1
        at.seconds = run.clock(at.step, at.seconds + spent)  # a step that is repeated takes as long as the first time
        at.examples += len(batch)
        at.units += sum(map(units, batch))
        _pace(it, pace, len(batch), spent)
        due = config.evaluate_every and (at.step % config.evaluate_every == 0 or _over(config, it, at))
        measured = _evaluate(config, it, at, log) if due else {}
        if due or at.step % config.log_every == 0 or _over(config, it, at):
            log.metrics(at.step, _metrics(it, at, sums, pace, rate) | measured)
            sums.values.clear()
            pace.values.clear()
        if at.step % config.save_every == 0 or at.best_step == at.step:
            _save(run, config, it, sums, at)
    if at.step not in run.steps:
        _save(run, config, it, sums, at)
    return _finish(run, config, it, at, log, over)


# ---- metrics -------------------------------------------------------------------------------------------------------


def _pace(it: Setup, pace: Sums, examples: int, seconds: float) -> None:
    """Count what a step computed, per second; the engine's counters start again."""
    counters, it.studio.engine.counters = it.studio.engine.counters, Counters()
    pace.add("tokens_per_second", counters.tokens, seconds)
    pace.add("examples_per_second", examples, seconds)
    pace.add("seconds_step", seconds, 1.0)


def _metrics(it: Setup, at: Progress, sums: Sums, pace: Sums, rate: float) -> dict[str, float]:
    """Means since the last line of metrics, and where training stands."""
    return {
        **sums.means(),
        **pace.means(),
        "learning_rate": rate,
        "skipped_steps": float(it.pupil.optimizer.skipped),
        "epoch": at.step / it.order.per_epoch,
        "examples": float(at.examples),
        "time": at.seconds,
    }


def _evaluate(config: SFTConfig, it: Setup, at: Progress, log: RunLog) -> dict[str, float]:
    """Measure on the held-out examples, and remember the best."""
    metrics = it.pupil.measure(it.measured, it.homes) | it.pupil.answer(it.asked)
    it.studio.engine.counters = Counters()  # evaluation is not training
    loss = metrics["eval_loss"]
    at.stale += 1
    at.before = at.before or metrics
    if math.isfinite(loss) and (at.best is None or loss < at.best):
        at.best, at.best_step, at.stale, at.after = loss, at.step, 0, metrics
        log.event("best", step=at.step, eval_loss=loss)
    return metrics


# ---- beginning, end, checkpoints -----------------------------------------------------------------------------------


def _begin(config: SFTConfig, log: RunLog) -> Setup:
    """Everything a run works with, at its start."""
    studio = Studio(config, log.say)
    player, reference = studio.learner(config)
    pupil = Pupil.create(config, player, reference)
    lessons = prepare(config, player)
    draw = generator("measured", config.seed)
    measured = draw.sample(lessons.held_out, min(len(lessons.held_out), config.evaluate_examples))
    answered = min(len(lessons.opening_turns), config.evaluate_answers) if config.act == "say" else 0
    asked = draw.sample(lessons.opening_turns, answered)
    items, held = ([lesson.item for lesson in part] for part in (lessons.learnt, measured))
    order = Order(len(items), config.batch, config.seed)
    first = [[items[i] for i in order.at(step)] for step in range(order.per_epoch)]
    homes = Homes(studio.engine, player.policy, [*first, *chunks(held, config.batch)])
    steps = min(config.steps or math.inf, order.per_epoch * config.epochs)
    it = Setup(studio, pupil, lessons, measured, asked, order, homes, _game(config, lessons), int(steps))
    log.updates = it.steps
    _check_ground(config, it)
    return it


def _announce(config: SFTConfig, it: Setup, log: RunLog) -> None:
    """Say and record what the run works with: after a resume, which takes the logs back to the checkpoint."""
    for note in it.lessons.notes:
        log.warn(note)
    base, trainable, learnt = it.studio.base, it.pupil.adapter.parameters, len(it.lessons.learnt)
    total = base.parameters
    log.say(
        f"{learnt} examples to learn, {len(it.lessons.held_out)} held out; {it.steps} steps at most; "
        f"{trainable:,} trainable parameters ({trainable / total:.2%} of {total:,})"
    )
    log.event(
        "start",
        dtype=str(base.dtype).removeprefix("torch."),
        device=str(base.device),
        threads=it.studio.threads,
        base=base.fingerprint,
        trainable=trainable,
        examples=learnt,
        held_out=len(it.lessons.held_out),
        skipped_lines=len(it.lessons.bad),
        skipped=ranges(it.lessons.bad),
        trunk_rows=len(it.homes),
        game=str(it.spec or ""),
        **started_from(config, log),
    )


def _game(config: SFTConfig, lessons: Lessons) -> Spec | None:
    """The game to play when training is over: the one that is asked for, or that of the data if it is to be had."""
    if config.task:
        return None if config.task == "none" else task_spec(config.task)
    if not lessons.task:
        return None
    try:
        spec = task_spec(lessons.task)
        num_players(spec)
    except InputError as error:
        lessons.notes.append(f"no games will be played: the data's task {lessons.task!r} cannot be: {error.message}")
        return None
    return spec


def _opponent(config: SFTConfig, it: Setup) -> Player | None:
    """Who sits at the other seats of the games at the end; nobody in a game for one.

    Raises:
        InputError: a game for one was given an opponent, or this one cannot play.
    """
    if it.spec is None:
        return None
    if num_players(it.spec) == 1:
        if config.opponent != type(config).model_fields["opponent"].default:
            raise InputError(f"{it.spec} is a game for one: nobody can be {config.opponent}", "leave opponent out")
        return None
    player = fixed_player(config.opponent, it.studio)
    check_plays(player, it.spec)
    return player


def _ground(config: SFTConfig, it: Setup, spec: Spec) -> Ground:
    """The game at the end, and who sits there."""
    opponent = _opponent(config, it)
    return Ground("", spec, [(opponent, 1.0)] if opponent else [])


def _check_ground(config: SFTConfig, it: Setup) -> None:
    """Build it once now, so that a mistake is not found after hours; an adapter leaves the pack again."""
    before = set(it.studio.pack.adapters)
    if it.spec:
        check_ending(config, it.studio, [_ground(config, it, it.spec)])
    for name in set(it.studio.pack.adapters) - before:
        it.studio.pack.remove(name)


def _over(config: SFTConfig, it: Setup, at: Progress) -> str:
    """Why training is over, or nothing."""
    if at.step >= it.steps:
        return "steps" if config.steps == it.steps else "epochs"
    if config.minutes and at.seconds >= config.minutes * 60:
        return "minutes"
    if config.patience and at.stale >= config.patience:
        return "patience"
    return ""


def _progress(config: SFTConfig, it: Setup, at: Progress) -> float:
    """In (0, 1], for the schedule: of the steps, this one included, or of the time if that runs out first."""
    timed = at.seconds / (config.minutes * 60) if config.minutes else 0.0
    return min(1.0, max((at.step + 1) / it.steps, timed))


def _save(run: Run, config: SFTConfig, it: Setup, sums: Sums, at: Progress) -> None:
    """A checkpoint of everything, and the best one kept aside."""
    state = {"progress": asdict(at), "pupil": it.pupil.state(), "sums": sums.values, "examples": it.digest}
    tensors = it.pupil.tensors()
    saved = run.save_checkpoint(at.step, pack(tensors, state))
    if at.best_step == at.step:
        it.unsaved = {} if saved else tensors["adapter"]
    run.mark_best(at.best_step)
    run.prune(config.keep)


def _resume(run: Run, it: Setup, sums: Sums, step: int | None, log: RunLog) -> Progress:
    """The state of the newest sound checkpoint (or of the one asked for); a new start if there is none."""
    check_start(run, it.studio.base, it.pupil.config.adapter)
    if run.steps:  # before the run is taken back to anything
        _, begun = unpack(run.load_checkpoint(step).files)
        if begun["examples"] != it.digest:
            raise InputError(
                "the examples are not those that this run began with, so it cannot go on exactly",
                "bring back the old files and settings, or start a new run with adapter=RUN/adapter",
            )
    found = run.resume(step)
    if found is None:
        return Progress()
    tensors, state = unpack(found.files)
    it.pupil.load_tensors(tensors)
    it.pupil.load_state(state["pupil"])
    sums.values.update(state["sums"])
    log.say(f"resumed from step {found.step}")
    at = Progress(**state["progress"])
    if at.best_step not in (None, *run.steps):
        log.warn(f"the best so far, of step {at.best_step}, is no longer there; it is sought anew from here")
        at.best, at.best_step, at.stale, at.after = None, None, 0, {}
    run.mark_best(at.best_step)
    return at


def _finish(run: Run, config: SFTConfig, it: Setup, at: Progress, log: RunLog, reason: str) -> dict[str, Any]:
    """Take the best measured adapter, and conclude the run with it. An interrupted run just says where it stands."""
    log.event("end", reason=reason or "interrupted", step=at.step, best_step=at.best_step)
    summary = {
        "run": str(run.path),
        "ended": reason or "interrupted",
        "steps": at.step,
        "epochs": round(at.step / it.order.per_epoch, 3),
        "train_seconds": round(at.seconds, 1),
        "examples": at.examples,
        "skipped_lines": len(it.lessons.bad),
        "best_step": at.best_step,
        "before": at.before,
        "after": at.after,
    }
    if not reason:
        return summary
    if at.best_step not in (None, at.step):
        best = it.unsaved or unpack(run.load_checkpoint(at.best_step).files)[0]["adapter"]
        it.pupil.adapter.load_tensors(best)
    it.homes.leave()
    if it.spec is None:
        run.write_adapter(adapter_files(it.pupil.adapter, it.studio.base))
        return summary | ended_as(run) | {"report": str(write_report(run.path))}
    return summary | conclude(run, it.studio, it.pupil, [_ground(config, it, it.spec)], config.evaluate_games)
