"""Who the learner plays against: any players, mixtures of them, itself, and earlier selves."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ludora.envs.build import num_players
from ludora.learn.learner import Learner
from ludora.models.adapters import Adapter
from ludora.players.base import Player, check_plays
from ludora.players.build import fixed_player, player_spec, snapshots_of
from ludora.players.model import ModelPlayer
from ludora.players.studio import Studio
from ludora.rng import generator
from ludora.settings import PPOConfig
from ludora.types import Spec


class Opponents:
    """The opponent mixture of a run, with the snapshots of the learner it needs.

    A snapshot is one more adapter of the pack. `snapshots(last=K)` plays one of the last K; until the first is taken it
    is the learner itself. The magnet is a snapshot too: the self that self-play is held near to.
    """

    def __init__(self, config: PPOConfig, spec: Spec, studio: Studio, learner: ModelPlayer) -> None:
        self.config, self.spec, self.studio, self.learner = config, spec, studio, learner
        self.seats = num_players(spec)
        self.specs = [(player_spec(text, training=True), weight) for text, weight in config.opponents.items()]
        self.last = max((snapshots_of(s) for s, _ in self.specs if s.name == "snapshots"), default=0)
        self.players: dict[str, Player] = {
            str(s): fixed_player(str(s), studio) for s, _ in self.specs if s.name not in ("self", "snapshots")
        }
        for player in self.players.values():
            check_plays(player, spec)
        self.snapshots: dict[int, ModelPlayer] = {}
        self.magnet_update = -1

    def fixed(self) -> list[tuple[Player, float]]:
        """The opponents that do not change, with their weights: what the learner is measured against."""
        return [(self.players[str(s)], weight) for s, weight in self.specs if str(s) in self.players]

    def begin(self, update: int, learner: Learner) -> None:
        """Take the snapshots that are due before this update."""
        config = self.config
        if config.snapshot_every and update % config.snapshot_every == 0 and update not in self.snapshots:
            self._keep(update, learner.adapter)
        if config.magnet_weight and (learner.magnet is None or update - self.magnet_update >= config.magnet_every):
            self._set_magnet(learner, learner.adapter, update)

    def _keep(self, update: int, source: Adapter) -> None:
        name = f"snapshot(step={update})"
        self.snapshots[update] = self.studio.player(name, self.studio.pack.copy(source, name))
        for old in sorted(self.snapshots)[: -max(1, self.last)]:
            self.studio.pack.remove(f"snapshot(step={old})")
            del self.snapshots[old]

    def _set_magnet(self, learner: Learner, source: Adapter, update: int) -> None:
        if learner.magnet is None:
            learner.magnet = self.studio.player("magnet", self.studio.pack.copy(source, "magnet"))
        else:
            assert learner.magnet.adapter is not None
            learner.magnet.adapter.copy_from(source)
        self.magnet_update = update

    def draw(self, seed: int) -> Player:
        """The opponent of one game, by the game's own seed."""
        random = generator("opponent", seed)
        spec = random.choices([s for s, _ in self.specs], [w for _, w in self.specs])[0]
        if spec.name == "self" or (spec.name == "snapshots" and not self.snapshots):
            return self.learner
        if spec.name == "snapshots":
            return self.snapshots[random.choice(sorted(self.snapshots)[-snapshots_of(spec) :])]
        return self.players[str(spec)]

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


def _flat(player: ModelPlayer) -> Tensor:
    assert player.adapter is not None
    return player.adapter.flat.detach().cpu().clone()
