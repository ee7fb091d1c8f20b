"""Who the learner plays against: any players, mixtures of them, itself, and earlier selves."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from ludora.envs.build import num_players
from ludora.grammar import parse
from ludora.learn.learner import Learner
from ludora.learn.replay import SELF
from ludora.models.adapters import Adapter
from ludora.players.base import Player
from ludora.players.build import fixed_player, player_spec, snapshots_of
from ludora.players.model import ModelPlayer
from ludora.players.studio import Studio
from ludora.rng import generator
from ludora.rollout import Game
from ludora.settings import PPOConfig
from ludora.types import Spec, Task

Mixture = Mapping[str, float]  # PLAYER -> weight


class Opponents:
    """The opponents of a run, with the snapshots of the learner they need.

    A snapshot is one more adapter of the pack. `snapshots(last=K)` plays one of the last K; until the first is taken it
    is the learner itself. The magnet is a snapshot too: the self that self-play is held near to.
    """

    def __init__(self, config: PPOConfig, mixtures: Collection[Mixture], studio: Studio, learner: ModelPlayer) -> None:
        self.config, self.studio, self.learner = config, studio, learner
        specs = [player_spec(text, training=True) for mixture in mixtures for text in mixture]
        self.last = max((snapshots_of(spec) for spec in specs if spec.name == "snapshots"), default=0)
        self.players: dict[str, Player] = {}  # by name, all that do not change
        for spec in specs:
            self._fixed(spec)
        self.snapshots: dict[int, ModelPlayer] = {}
        self.magnet_update = -1

    def _fixed(self, spec: Spec) -> Player | None:
        """The player of a spec, made once; None for the learner and its snapshots."""
        if spec.name in (SELF, "snapshots"):
            return None
        if str(spec) not in self.players:
            self.players[str(spec)] = fixed_player(str(spec), self.studio)
        return self.players[str(spec)]

    def fixed(self, mixture: Mixture) -> list[tuple[Player, float]]:
        """The opponents of a mixture that do not change, with their weights: what the learner is measured against."""
        found = [(self._fixed(player_spec(text, training=True)), weight) for text, weight in mixture.items()]
        return [(player, weight) for player, weight in found if player is not None]

    def begin(self, update: int, learner: Learner, named: Collection[str] = ()) -> None:
        """Take the snapshots that are due before this update, and let go of those nobody will play.

        Args:
            named: opponents that must stay, whatever their age.
        """
        config = self.config
        if config.snapshot_every and update % config.snapshot_every == 0 and update not in self.snapshots:
            self._keep(update, learner.adapter)
        for old in sorted(self.snapshots)[: -max(1, self.last)]:
            if (name := snapshot_name(old)) not in named:
                self.studio.pack.remove(name)
                del self.snapshots[old]
        if config.magnet_weight and (learner.magnet is None or update - self.magnet_update >= config.magnet_every):
            self._set_magnet(learner, learner.adapter, update)

    def _keep(self, update: int, source: Adapter) -> None:
        name = snapshot_name(update)
        self.snapshots[update] = self.studio.player(name, self.studio.pack.copy(source, name))

    def _set_magnet(self, learner: Learner, source: Adapter, update: int) -> None:
        if learner.magnet is None:
            learner.magnet = self.studio.player("magnet", self.studio.pack.copy(source, "magnet"))
        else:
            assert learner.magnet.adapter is not None
            learner.magnet.adapter.copy_from(source)
        self.magnet_update = update

    def seat(self, task: Task, mixture: Mixture, attempt: int = 0) -> Game:
        """The game of a task: the learner at its seat, and at the others those the task names or one of the mixture.

        Args:
            attempt: not 0 for a task that was played before.
        """
        seats = num_players(task.env)
        if seats == 1:
            return Game(task, [self.learner], attempt)
        if task.opponent:
            others = [self.named(name) for name in task.opponent]
        else:
            others = [self.draw(task.seed, mixture)] * (seats - 1)
        sitting = [*others[: task.seat], self.learner, *others[task.seat :]]
        return Game(Task(task.env, task.seed, task.seat, tuple(o.name for o in others)), sitting, attempt)

    def named(self, name: str) -> Player:
        """The opponent that a task names: the learner, a snapshot that was kept, or one that never changes."""
        spec = parse(name)
        if spec.name == "snapshot":
            return self.snapshots[spec.get("step")]
        return self._fixed(spec) or self.learner

    def draw(self, seed: int, mixture: Mixture) -> Player:
        """The opponent of one game, by the game's own seed."""
        random = generator("opponent", seed)
        spec = player_spec(random.choices(list(mixture), list(mixture.values()))[0], training=True)
        if spec.name == "snapshots" and self.snapshots:
            return self.snapshots[random.choice(sorted(self.snapshots)[-snapshots_of(spec) :])]
        return self._fixed(spec) or self.learner

    # ---- checkpoint ------------------------------------------------------------------------------------------------

    def tensors(self, learner: Learner) -> dict[str, dict[str, Tensor]]:
        out = {f"snapshot-{u}": {"flat": _flat(p)} for u, p in self.snapshots.items()}
        if learner.magnet is not None:
            out["magnet"] = {"flat": _flat(learner.magnet)}
        return out

    def state(self) -> dict[str, Any]:
        return {"snapshots": sorted(self.snapshots), "magnet_update": self.magnet_update}

    def load(self, state: dict[str, Any], tensors: dict[str, dict[str, Tensor]], learner: Learner) -> None:
        now = learner.adapter.flat.detach().clone()
        for update in state["snapshots"]:
            learner.adapter.restore(tensors[f"snapshot-{update}"]["flat"])
            self._keep(update, learner.adapter)
        if "magnet" in tensors and self.config.magnet_weight:
            learner.adapter.restore(tensors["magnet"]["flat"])
            self._set_magnet(learner, learner.adapter, state["magnet_update"])
        learner.adapter.restore(now)


def snapshot_name(update: int) -> str:
    """The PLAYER string of a snapshot, which a task names as its opponent."""
    return str(Spec("snapshot", params=(("step", update),)))


def _flat(player: ModelPlayer) -> Tensor:
    assert player.adapter is not None
    return player.adapter.flat.detach().cpu().clone()
