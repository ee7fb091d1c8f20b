"""Evolution, top to bottom: breed, train through the rungs, score, select; then the finals and the one test.

Every phase asks the history whether it is done already, so the loop goes on wherever a checkpoint left it. The history
is the event log (`evolve.history`); what a checkpoint adds is the weights of those who are in training or live on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ludora.errors import InputError, TrainingFailed
from ludora.evolve import finals
from ludora.evolve.breeding import breed
from ludora.evolve.estimates import apart_from_difficulty
from ludora.evolve.fitness import Fitness, make_fitness
from ludora.evolve.genome import Genome, Space
from ludora.evolve.history import BASE, History, Score, Variant
from ludora.evolve.news import log_birth, log_generation
from ludora.evolve.selection import conclude_generation, is_converged, keep_after_rung
from ludora.evolve.settings import EvolveConfig
from ludora.evolve.spaces import largest, space_on, targets_of
from ludora.learn.cohort import Cohort, Plan, Recipe, Trial
from ludora.learn.conclude import check_start
from ludora.learn.inherit import inherited
from ludora.models.checkpoint import pack_tensors, unpack_tensors
from ludora.models.families import LoraSettings
from ludora.models.machine import enough_memory, release_memory
from ludora.players.studio import Studio
from ludora.rng import stream
from ludora.runs.log import RunLog
from ludora.runs.store import Run

SHOWN = {"best_fitness": "Best", "mean_fitness": "Mean", "hypervolume": "Hypervolume"}  # on the terminal
RUNG = "rung"  # the block of questions that rungs are decided on


@dataclass
class Search:
    """What a run works with, and where it stands."""

    config: EvolveConfig
    run: Run
    log: RunLog
    studio: Studio
    space: Space
    fitness: Fitness
    history: History
    cohort: Cohort
    stop: Callable[[], bool]
    steps: int  # of a whole training
    trials: dict[str, Trial] = field(default_factory=dict)  # those whose weights are kept
    seconds: dict[str, float] = field(default_factory=dict)  # spent training and scoring, this process
    since_saved: int = 0

    # ---- variants and trials -----------------------------------------------------------------------------------------

    def lora(self, genome: Genome) -> LoraSettings:
        """What an adapter with this genome looks like."""
        alpha = genome.rank * genome.alpha
        targets = targets_of(genome.targets)
        return LoraSettings(genome.rank, alpha, genome.dropout, genome.rslora, targets, genome.layers)

    def trial(self, name: str, genome: Genome, seed: int, order: int) -> Trial:
        """A learner at its start. Equal genomes and seeds give equal learners."""
        recipe = Recipe(self.lora(genome), genome.learning_rate, genome.weight_decay, genome.warmup)
        own = stream("variant", self.config.seed, genome.digest, seed)
        return Trial(name, recipe, own >> 1, stream("order", self.config.seed, order) >> 1)

    def trial_of(self, name: str) -> Trial:
        """The learner of a variant, or of a finalist, at its start."""
        if name in self.history.finals:
            final = self.history.finals[name]
            again = 1 + final["seed"]  # other first weights, and another order of the data
            return self.trial(name, self.history.variants[final["variant"]].genome, again, again)
        variant = self.history.variants[name]
        trial = self.trial(name, variant.genome, 0, 0)
        if variant.heir_of:
            self._inherit(trial, variant)
        return trial

    def _inherit(self, trial: Trial, variant: Variant) -> None:
        parent = self.trials.get(self.history.original(self.history.variants[variant.heir_of]).id)
        if parent is None or "adapter" not in parent.tensors:
            return
        with self.cohort.seated([parent, trial]) as (elder, child):
            weights = inherited(parent.tensors["adapter"], elder.scales, child)
        trial.tensors = {"adapter": weights}

    # ---- saving ------------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """A checkpoint: the weights of all trials that are kept, and where each stands."""
        self.cohort.park()
        self.since_saved = 0
        files: dict[str, bytes] = {}
        for name, trial in self.trials.items():
            flat = {f"{part}/{key}": value for part, values in trial.tensors.items() for key, value in values.items()}
            files[f"{name}.safetensors"] = pack_tensors(flat)
        state = {"data": self.fitness.digest, "trials": {name: t.state() for name, t in self.trials.items()}}
        files["state.json"] = json.dumps(state, sort_keys=True).encode()
        steps = self.run.steps
        self.run.save_checkpoint(steps[-1] + 1 if steps else 0, files)
        self.run.prune(self.config.keep)

    def after_step(self) -> bool:
        """Asked by the cohort after every step: save now and then; True to leave."""
        self.since_saved += 1
        if self.stop():
            return True
        if self.since_saved >= self.config.save_every:
            self.save()
        return False

    # ---- what all phases do ------------------------------------------------------------------------------------------

    def train(self, names: Sequence[str], until: int) -> bool:
        """Train these up to a step. False: somebody asked to stop; what there is was saved."""
        started = time.monotonic()
        done = self.cohort.train([self.trials[name] for name in names], until, self.after_step)
        self._spend("train", started)
        for name in names:
            trial = self.trials[name]
            if trial.failed and not self._failed(name):
                row = {"steps": trial.step, "tokens": trial.tokens, "reason": trial.failed}
                self.history.record("failed", id=name, **row)
                self.log.say(f"  {name} is given up: {trial.failed}")
        self.save()
        return done

    def _failed(self, name: str) -> bool:
        if name in self.history.variants:
            return bool(self.history.variants[name].failed)
        return bool(self.history.finals[name]["failed"])

    def score(self, names: Sequence[str], block: str, *, base: bool = False) -> dict[str, Score]:
        """Answers of these to a block of questions, as many at a time as sit in the pack; with `base`, its own, too."""
        started = time.monotonic()
        found: dict[str, Score] = {}
        if base:
            with enough_memory():
                found[BASE] = self.fitness.measure([None], block)[0]
        for tier in self.cohort.tiers([self.trials[name] for name in names]):
            for start in range(0, len(tier), self.cohort.capacity or len(tier)):
                part = tier[start : start + (self.cohort.capacity or len(tier))]
                found |= {t.name: s for t, s in zip(part, self._measured(part, block), strict=True)}
        self._spend("score", started)
        return found

    def _measured(self, part: Sequence[Trial], block: str) -> list[Score]:
        """Their answers at once; where memory runs out, those of one half and then of the other."""
        try:
            with enough_memory(), self.cohort.seated(part) as adapters:
                return self.fitness.measure(adapters, block)
        except TrainingFailed:
            if len(part) == 1:
                raise
        release_memory(self.studio.base.device)
        half = len(part) // 2
        return [*self._measured(part[:half], block), *self._measured(part[half:], block)]

    def record_scores(self, scores: dict[str, Score], block: str) -> None:
        """Write scores down, their variances without the difficulty of the questions."""
        rest = apart_from_difficulty({name: s.values for name, s in scores.items() if name != BASE and s.values})
        scores = {name: replace(s, variance=rest.get(name, s.variance)) for name, s in scores.items()}
        for name, score in scores.items():
            trial = self.trials.get(name)
            row = {"n": score.n, "mean": score.mean, "variance": score.variance, "measures": score.measures}
            stands = {"steps": trial.step, "tokens": trial.tokens} if trial else {"steps": 0, "tokens": 0}
            self.history.record("scored", id=name, block=block, **row, **stands)

    def _spend(self, what: str, started: float) -> None:
        self.seconds[what] = self.seconds.get(what, 0.0) + time.monotonic() - started


def evolve(config: EvolveConfig, run: Run, log: RunLog, *, stop: Callable[[], bool] = bool) -> dict[str, Any]:
    """Evolve adapters into `run`, going on where its last checkpoint is.

    Args:
        stop: asked after every step; True ends with a checkpoint.

    Raises:
        InputError: the data or the game cannot be used, or is not what the run began with.
        TrainingFailed: no variant came through, or memory ran out.
    """
    began = time.monotonic()
    it = _begin(config, run, log, stop)
    while not (over := _over(it)):
        if not _generation(it):
            log.event("end", reason="interrupted", generation=it.history.number)
            return finals.interrupted(it)
    if not finals.prepare(it):
        log.event("end", reason="interrupted", generation=it.history.number)
        return finals.interrupted(it)
    return finals.conclude(it, over, time.monotonic() - began)


def _over(it: Search) -> str:
    """Why no further generation begins, or nothing."""
    if it.history.number >= it.config.generations:
        return "generations"
    if it.history.number and it.config.tokens and it.history.tokens >= it.config.tokens:
        return "tokens"
    if it.config.stop_converged and it.history.converged:
        return "converged"
    return ""


# ---- one generation --------------------------------------------------------------------------------------------------


def _generation(it: Search) -> bool:
    """Breed, train, score, select. False: somebody asked to stop on the way."""
    config, history = it.config, it.history
    number = history.number
    if not history.born_in(number):
        breed(config, it.space, history, _sobol(config.seed), lambda g: it.studio.pack.size(it.lora(g))[0])
        for variant in history.born_in(number):
            if not variant.clone_of:
                it.trials[variant.id] = it.trial_of(variant.id)
            log_birth(it.log, variant)
        it.save()
    new = [variant.id for variant in history.born_in(number) if not variant.clone_of]
    going = _through_rungs(it, number, new)
    if going is None or not it.train(going, it.steps):
        return False
    block = str(number)
    known = (*map(history.original, history.survivors), *(history.variants[name] for name in going))
    asked = list(dict.fromkeys(variant.id for variant in known if _to_ask(it, variant, block)))
    if not all(_known(it, name, block) for name in asked) or block not in history.base:
        it.record_scores(it.score(asked, block, base=block not in history.base), block)
    row = conclude_generation(config, history)
    history.record("generation", **row, tokens=history.tokens)
    if not history.converged and is_converged(config, history):
        history.record("converged", generation=number)
        it.log.say("the best fitness has hardly grown over the last generations")
    kept = history.kept
    it.trials = {name: trial for name, trial in it.trials.items() if name in kept}
    for trial in it.trials.values():
        trial.tensors = {"adapter": trial.tensors["adapter"]}
    _write_answers(it, history.original(history.variants[row["best"]]))
    log_generation(it.log, history, row, it.seconds)
    it.seconds.clear()
    it.save()
    return True


def _write_answers(it: Search, best: Variant) -> None:
    """Where likelihoods are selected by the best alone writes answers, to the latest block it was asked, once.

    So accuracy is known in every generation, at the cost of one variant.
    """
    block = list(best.scores)[-1]
    if it.config.fitness != "nll" or "accuracy" in best.scores[block].measures:
        return
    started = time.monotonic()
    with enough_memory(), it.cohort.seated([it.trials[best.id]]) as adapters:
        [answers] = it.fitness.examine(adapters, block)
    it.history.record("written", id=best.id, block=block, measures=answers.score.measures)
    it._spend("score", started)


def _sobol(seed: int) -> Callable[[int, int], list[list[float]]]:
    """Scrambled Sobol points."""

    def points(count: int, dimensions: int) -> list[list[float]]:
        make: Any = torch.quasirandom.SobolEngine
        engine = make(dimensions, scramble=True, seed=stream("sobol", seed) >> 33)
        return [[min(float(u), 1 - 1e-6) for u in row] for row in engine.draw(count)]

    return points


def _through_rungs(it: Search, number: int, new: list[str]) -> list[str] | None:
    """Train the new ones share by share; after each the worst stop. Returns who goes on; None when interrupted."""
    going = [name for name in new if not it.history.variants[name].failed]
    for rung, share in enumerate(it.config.rungs):
        if (number, rung) not in it.history.rungs:
            if not it.train(going, max(1, round(share * it.steps))):
                return None
            sound = [name for name in going if not it.trials[name].failed]
            scores = it.score(sound, RUNG)
            values = {name: scores[name].mean for name in sound}
            kept = keep_after_rung(values, it.config.rung_keep) if values else []
            stopped = [name for name in sound if name not in kept]
            facts = {
                name: {"value": values[name], "steps": it.trials[name].step, "tokens": it.trials[name].tokens}
                for name in sound
            }
            it.history.record("rung", generation=number, rung=rung, share=share, kept=kept, stopped=stopped, at=facts)
            it.log.say(f"  after {share:.0%} of the training {len(kept)} of {len(sound)} go on")
            for name in [*stopped, *(name for name in going if it.trials[name].failed)]:
                del it.trials[name]
            it.save()
        going = it.history.rungs[number, rung]
    return going


def _to_ask(it: Search, variant: Variant, block: str) -> bool:
    """Whether a variant has to answer a block: not one that failed, and not twice the same questions."""
    new = it.config.fresh_questions and not it.fitness.exact
    return not variant.failed and variant.id in it.trials and (new or not variant.scores)


def _known(it: Search, name: str, block: str) -> bool:
    return block in it.history.variants[name].scores


# ---- beginning -------------------------------------------------------------------------------------------------------


def _begin(config: EvolveConfig, run: Run, log: RunLog, stop: Callable[[], bool]) -> Search:
    """Everything a run works with, at its start or where its last checkpoint left it."""
    studio = Studio(config, log.say)
    fitness = make_fitness(config, studio)
    plan = Plan(
        steps=config.epochs * Cohort.epoch_steps(len(fitness.items), config.batch),
        batch=config.batch,
        part_tokens=config.part_tokens,
        accumulation=config.accumulation,
        schedule=config.schedule,
        betas=(config.beta1, config.beta2),
        max_grad_norm=config.max_grad_norm,
    )
    if run.steps:
        check_start(run, studio.base)
        begun = json.loads(run.load_checkpoint().files["state.json"])
        if begun["data"] != fitness.digest:
            raise InputError(
                "the questions are not those that this run began with, so it cannot go on exactly",
                "bring back the old data and settings, or start a new run",
            )
    space = space_on(config, studio)
    found = run.resume()
    history = History.read(run.rows("events.jsonl"), log.event)
    cohort = Cohort(
        studio.policy,
        fitness.items,
        plan,
        capacity=min(filter(None, (history.capacity, 0 if config.pack == "auto" else config.pack)), default=0),
        pass_tokens=history.pass_tokens,
        most=largest(space, studio),
        note=lambda capacity, tokens, why: history.record("pack", capacity=capacity, pass_tokens=tokens, reason=why),
    )
    it = Search(config, run, log, studio, space, fitness, history, cohort, stop, plan.steps)
    log.updates = config.generations
    if found:
        state = json.loads(found.files["state.json"])
        for name, where in state["trials"].items():
            flat = unpack_tensors(found.files[f"{name}.safetensors"])
            parts: dict[str, dict[str, torch.Tensor]] = {}
            for key, value in flat.items():
                part, _, inner = key.partition("/")
                parts.setdefault(part, {})[inner] = value
            it.trials[name] = it.trial_of(name)
            it.trials[name].load(where, parts)
        log.say(f"resumed in generation {history.number}, checkpoint {found.step}")
    else:
        _announce(it)
    return it


def _announce(it: Search) -> None:
    """Say and record what the run works with."""
    base, fitness = it.studio.base, it.fitness
    it.log.say(f"{len(fitness.items)} examples to learn, {it.steps} steps of {it.config.batch}; {fitness.about}")
    it.log.event(
        "start",
        dtype=str(base.dtype).removeprefix("torch."),
        device=str(base.device),
        threads=it.studio.threads,
        base=base.fingerprint,
        examples=len(fitness.items),
        steps=it.steps,
        data=fitness.digest,
    )
