"""What a run folder has to tell, read once and leniently: a missing or damaged part is named, never a crash."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

from ludora.errors import InputError
from ludora.evals.record import BEST, Evaluation, Row
from ludora.evals.replay import ReplayedGame
from ludora.evals.stages import ALL, StageRow, from_json
from ludora.runs.log import duration

T = TypeVar("T")
FILES = ("config.json", "metrics.jsonl", "events.jsonl", "evaluation.json", "replays.json")


@dataclass(frozen=True, slots=True)
class Headline:
    """One figure before and after training, and the best possible one. `way` is the share of the way between
    them, 0..1, where all three are known.
    """

    label: str
    before: float | None
    after: float
    best: float | None

    @property
    def way(self) -> float | None:
        if self.before is None or self.best is None or math.isclose(self.before, self.best):
            return None
        return max(0.0, min(1.0, (self.after - self.before) / (self.best - self.before)))


@dataclass(slots=True)
class Story:
    """Everything the report says, whatever its format. `problems` maps a file to what is wrong with it."""

    path: Path
    config: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    evaluation: Evaluation | None = None
    replays: list[ReplayedGame] = field(default_factory=list)
    stages: list[StageRow] = field(default_factory=list)  # of a run of several games or stages
    adapter: dict[str, Any] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    def setting(self, name: str) -> str:
        """A config value as text; where it says auto, what an event says was settled on."""
        found = (source.get(name) for source in (self.config, *self.events))
        return next((str(value) for value in found if value not in (None, "", "auto")), "")

    def series(self, key: str) -> list[tuple[float, float]]:
        """(step, value) of one metric, where it was logged as a finite number."""
        return [
            (float(line["step"]), float(line[key]))
            for line in self.metrics
            if is_number(line.get("step")) and is_number(line.get(key))
        ]

    @property
    def kind(self) -> str:
        """Which `ludora train` made this run."""
        return self.setting("kind") or "ppo"

    @property
    def task(self) -> str:
        if len(games := list(dict.fromkeys(row.game for row in self.stages if row.game != ALL))) > 1:
            return ", ".join(games[:-1]) + f" and {games[-1]}" if len(games) < 6 else f"{len(games)} games"
        named = self.setting("task")
        played = self.setting("game") or (self.evaluation.task if self.evaluation else "")  # sft takes it from the data
        return named if named not in ("", "none") else played

    @property
    def unit(self) -> str:
        """What a line of the metrics counts."""
        return "step" if self.kind == "sft" else "update"

    @property
    def plays_nothing(self) -> bool:
        """Whether there was no game to play when training was over."""
        return self.kind == "sft" and not self.task

    @property
    def data(self) -> str:
        """The files that examples came from, without their folders."""
        given = self.config.get("data")
        paths = given if isinstance(given, list) else [given]
        return ", ".join(Path(path).name for path in paths if isinstance(path, str) and path)

    @property
    def opponent(self) -> str:
        """The PLAYER trained against, or the mixture in words."""
        if self.kind == "sft":
            return ""  # examples are learnt, nobody is played against
        if stages := self.config.get("stages"):
            return f"{len(stages)} stages of opponents"
        if self.evaluation and not self.evaluation.against and not self.stages:
            return ""  # a game for one, whatever the config's default says
        given = self.config.get("opponent")
        if isinstance(given, dict):
            return ", ".join(f"{player} (weight {weight})" for player, weight in given.items())
        return self.setting("opponent") or (self.evaluation.against if self.evaluation else "")

    @property
    def model(self) -> str:
        return self.setting("model") or str(self.adapter.get("base_model_name_or_path") or "")

    @property
    def title(self) -> str:
        return f"{self.model or 'A language model'} learns {self.task or self.data or 'a game'}"

    @property
    def summary(self) -> str:
        """What was trained, in two or three sentences; says only what the files say."""
        how = f"Trained by {self.kind.upper()}"
        if self.kind == "sft":
            count = next((e["examples"] for e in self.events if is_number(e.get("examples"))), None)
            how += f" on {count:,} examples" if count else ""
            how += f" of {self.data}" if self.data else ""
        if self.opponent:
            how += " against itself" if self.opponent == "self" else f" against {self.opponent}"
        if size := self.adapter.get("parameters"):
            rank = self.adapter.get("r")
            how += f" with a LoRA adapter of {size:,} numbers" + (f" (rank {rank})" if rank else "")
        elif self.setting("rank"):
            how += f" with a LoRA adapter of rank {self.setting('rank')}"
        last = self.metrics[-1] if self.metrics else {}
        length = f"{last['step']} {self.unit}s" if is_number(last.get("step")) else ""
        if is_number(last.get("time")):
            length += f" in {duration(last['time'])}" if length else duration(last["time"])
        machine = [f"{self.setting('threads')} threads"] if self.setting("threads") else []
        machine += [self.setting("dtype")] if self.setting("dtype") else []
        said = [how, length + (", " if length and machine else "") + " and ".join(machine)]
        return " ".join(f"{s[0].upper()}{s[1:]}." for s in said if s)

    @property
    def contenders(self) -> tuple[Row | None, Row | None]:
        """(before, after) of the evaluation."""
        if self.evaluation is None:
            return None, None
        rows = [row for row in self.evaluation.rows if row.player != BEST]
        return (rows[1] if len(rows) > 1 else None), rows[0]

    @property
    def best(self) -> Row | None:
        rows = self.evaluation.rows if self.evaluation else ()
        return next((row for row in rows if row.player == BEST), None)

    @property
    def by_nash_conv(self) -> bool:
        """Whether NashConv tells this run, as it told training which adapter is the best: nobody but itself and its
        earlier selves was met, so there is no opponent whose chips could be counted; and one small game was played.
        """
        after = self.contenders[1]
        known = bool(self.series("nash_conv")) or (after is not None and after.nash_conv is not None)
        last = [row for row in self.stages if row.stage == self.stages[0].stage]
        return known and len(last) < 2 and self._met_itself_alone

    @property
    def _met_itself_alone(self) -> bool:
        """Whether all opponents, in the stage reached at last, were the learner or snapshots of it."""
        given, stages = self.config.get("opponent"), self.config.get("stages")
        if isinstance(stages, list) and stages:
            reached = stages[min(sum(e.get("event") == "stage" for e in self.events), len(stages) - 1)]
            given = (isinstance(reached, dict) and reached.get("opponent")) or given
        names = list(given) if isinstance(given, dict) else [given]
        return self.kind == "ppo" and all(re.match(r"(self|snapshots)\b", str(name)) for name in names)

    @property
    def zero(self) -> str:
        """What a NashConv of 0 means: nobody beats it, where one seat wins what the other loses."""
        after = self.contenders[1]
        return "unbeatable" if after is None or after.exploitability is not None else "an equilibrium"

    @property
    def headline(self) -> Headline | None:
        """The figure that matters most: NashConv after self-play, else exact value, mean return or win rate."""
        before, after = self.contenders
        if after is None or self.evaluation is None:
            return self._held_out
        if self.by_nash_conv and after.nash_conv is not None:
            return Headline(f"NashConv (0 = {self.zero})", before.nash_conv if before else None, after.nash_conv, 0.0)
        if self.stages:
            last = [row for row in self.stages if row.stage == self.stages[0].stage][-1]  # of all its games
            label = f"Games won against {last.opponent}, share" if last.opponent else "Games won, share"
            return Headline(label, last.base_success, last.success, None)  # nobody can win every hand of poker
        unit = self.evaluation.unit
        if after.expected_value is not None:
            best = self.best.expected_value if self.best else None
            return Headline(
                f"Expected value, {unit}", before.expected_value if before else None, after.expected_value, best
            )
        fact = self.evaluation.fact
        if fact in after.facts:
            start = before.facts[fact].mean if before and fact in before.facts else None
            return Headline(f"Mean {fact} per game", start, after.facts[fact].mean, None)
        if after.mean_return is not None:
            return Headline(f"Mean return, {unit}", before.mean_return if before else None, after.mean_return, None)
        return None

    @property
    def _held_out(self) -> Headline | None:
        """Of examples where no game is played: move accuracy, else perplexity, at the start and at the best step."""
        losses = self.series("eval_loss")
        if not losses:
            return None
        best = min(losses, key=lambda point: point[1])[0]
        for key, label in (
            ("move_accuracy", "Expert's move found, share of held-out turns"),
            ("eval_perplexity", "Perplexity of held-out answers"),
        ):
            if self.series(key):
                values = dict(self.series(key))
                return Headline(label, values.get(0.0), values[best], None)  # experts may draw lots, texts may vary
        return None


def read_story(path: Path) -> Story:
    """Read a run folder.

    Raises:
        InputError: the path is not a run folder.
    """
    if not any((path / name).is_file() for name in FILES):
        raise InputError(f"{path} is not a run folder", "ludora runs list shows the runs there are")
    story = Story(path)
    story.config = _part(story, "config.json", _object) or {}
    story.metrics = _part(story, "metrics.jsonl", lambda text: _lines(story, "metrics.jsonl", text)) or []
    story.events = _part(story, "events.jsonl", lambda text: _lines(story, "events.jsonl", text)) or []
    story.evaluation = _part(story, "evaluation.json", lambda text: Evaluation.from_json(_object(text)))
    story.replays = _part(story, "replays.json", _games) or []
    if (path / "stages.json").exists():
        story.stages = _part(story, "stages.json", lambda text: from_json(json.loads(text))) or []
    story.adapter = _adapter(path / "adapter")
    for name in ("evaluation.json", "replays.json") if story.plays_nothing or story.kind == "evolve" else ():
        story.problems.pop(name, None)
    return story


def _part(story: Story, name: str, read: Callable[[str], T]) -> T | None:
    """One file of the run, or None and a word about it in `problems`."""
    try:
        return read((story.path / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        story.problems[name] = "is not there"
    except (OSError, ValueError) as error:
        story.problems[name] = f"cannot be read ({error})"
    except InputError as error:
        story.problems[name] = f"cannot be read ({error.message})"
    return None


def _object(text: str) -> dict[str, Any]:
    data = json.loads(text)
    if not isinstance(data, dict):
        raise ValueError("not a JSON object")
    return data


def _games(text: str) -> list[ReplayedGame]:
    data = json.loads(text)
    if not isinstance(data, list):
        raise ValueError("not a JSON list")
    return [ReplayedGame.from_json(item) for item in data]


def _lines(story: Story, name: str, text: str) -> list[dict[str, Any]]:
    """JSON lines; torn ones (the process was killed while it wrote) are left out and counted."""
    good, bad = [], 0
    for line in filter(str.strip, text.splitlines()):
        try:
            good.append(_object(line))
        except ValueError:
            bad += 1
    if bad:
        story.problems[name] = f"has {bad} unreadable line{'s' if bad > 1 else ''}, left out"
    return good


def _adapter(folder: Path) -> dict[str, Any]:
    """`adapter_config.json` and the number of weights, which the header of a safetensors file tells."""
    try:
        facts = _object((folder / "adapter_config.json").read_text(encoding="utf-8"))
        with (folder / "adapter_model.safetensors").open("rb") as file:
            header = _object(file.read(int.from_bytes(file.read(8), "little")).decode())
        shapes = [entry["shape"] for name, entry in header.items() if name != "__metadata__"]
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return {}  # a run that has not finished has no adapter yet
    return {**facts, "parameters": sum(math.prod(shape) for shape in shapes)}


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether it is a finite number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def flat(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A config as (dotted key, value) pairs, in its own order."""
    found: list[tuple[str, str]] = []
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            found += flat(value, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)))
    return found
