"""The commands under a report's "Do it again": they train, measure and play what the run did, by the run's settings."""

from __future__ import annotations

import re
import shlex

from ludora.evals.record import BEST, Evaluation
from ludora.evals.story import Story
from ludora.fields import DTYPE_NAMES
from ludora.settings import ACTING, ModelSettings
from ludora.types import Spec

_MODEL = re.compile(r"\b(base|adapter|merged)\b")  # in a PLAYER's name


def commands(story: Story) -> list[str]:
    """Command lines for a shell; none that `ludora` would refuse."""
    command = "evolve" if story.kind == "evolve" else f"train {story.kind}"
    found = [f"ludora {command} {shlex.quote(str(story.path / 'config.json'))}"] if story.config else []
    if not (story.path / "adapter").is_dir():
        return found
    adapter = shlex.quote(str(Spec("adapter", args=(str(story.path / "adapter"),))))
    if story.kind == "evolve" and not str(story.config.get("fitness")).startswith("game:"):
        return [*found, _ask(story, adapter)]
    if story.evaluation is None or _chooses_in_shells(story, story.evaluation.task):
        return found
    return [*found, *_evaluate(story, story.evaluation, adapter), _play(story, story.evaluation, adapter)]


def _ask(story: Story, adapter: str) -> str:
    """The test of an evolution on a data set."""
    config = story.config
    words = [f"ludora evaluate {adapter} {shlex.quote(str(config.get('data')))} --compare base"]
    words += [f"--games {config.get('test_size') or 200} --seed {config.get('seed', 0)}"]
    words += [_option(key, config[key]) for key in ("metric", "answer_tokens") if key in config]
    return " ".join((*words, *_model(story, without=(*ACTING, "temperature"))))


def _evaluate(story: Story, e: Evaluation, adapter: str) -> list[str]:
    """The evaluation at the end: the same players, deals and settings."""
    tasks = [e.task, *(more.task for more in e.further)]
    against = next((found.against for found in (e, *e.further) if found.against), "")
    words = ["ludora evaluate", adapter, *map(shlex.quote, tasks)]
    words += [f"--against {shlex.quote(against)}"] if against else []
    words += [f"--compare {shlex.quote(row.player)}" for row in e.rows[1:] if row.player != BEST]
    words += [f"--games {e.games} --seed {e.seed}"]
    words += ["--exact"] if e.rows[0].expected_value is not None else []
    line = " ".join((*words, *_model(story)))
    trained_at, measured_at = (story.config.get(key) for key in ("temperature", "evaluate_temperature"))
    if measured_at and measured_at != trained_at and _MODEL.search(against):
        return [f"# {against} played at temperature {trained_at}; here it plays at that of the others", line]
    return [line]


def _play(story: Story, e: Evaluation, adapter: str) -> str:
    """A game against the adapter, or one to look on where nobody else plays."""
    role = "--against" if e.against else "--watch"
    return " ".join(("ludora play", shlex.quote(e.task), role, adapter, *_model(story)))


def _model(story: Story, without: tuple[str, ...] = ()) -> list[str]:
    """The options of a model that are not as they are anyway."""
    given = dict(story.config)
    given["temperature"] = given.get("evaluate_temperature") or given.get("temperature", 1.0)
    if given.get("dtype") == "auto":  # what was measured to be faster then need not be so again
        given["dtype"] = DTYPE_NAMES.get(story.setting("dtype"), "auto")
    words = []
    for name, field in ModelSettings.model_fields.items():
        value = given.get(name, field.default)
        if value != field.default and name not in (*without, "gradient_checkpointing"):
            words.append(_option(name, value))
    return words


def _option(name: str, value: object) -> str:
    option = f"--{name.replace('_', '-')}"
    return option if value is True else f"{option} {shlex.quote(str(value))}"


def _chooses_in_shells(story: Story, task: str) -> bool:
    """Whether a shell is measured by a model that chooses, which `evaluate` and `play` refuse."""
    return task.startswith("shell") and story.config.get("act", "choose") == "choose"
