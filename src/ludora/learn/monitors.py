"""Early warnings: what a run that is about to collapse shows first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

LEAST_ENTROPY = 0.02  # share of the largest possible: the policy is sure of nearly everything
MOST_KL = 0.3  # nats per decision moved by one update: far beyond what a clipped objective means to allow
LEAST_SPREAD = 0.1  # of the largest spread of returns seen: games end alike, so nothing tells good from bad


@dataclass(slots=True)
class Monitors:
    """Watches an update's metrics; each trouble is told once, and again if it went away and came back."""

    told: set[str] = field(default_factory=set)
    widest: float = 0.0  # the largest spread of returns so far

    def observe(self, metrics: Mapping[str, float]) -> list[str]:
        """One sentence for every trouble that is new."""
        spread = metrics.get("return_spread")
        if spread is not None:
            self.widest = max(self.widest, spread)
        found = {}
        if metrics.get("entropy_share", 1.0) < LEAST_ENTROPY:
            found["entropy"] = (
                f"the policy has hardly any entropy left ({metrics['entropy_share']:.2%} of the largest possible): it "
                "no longer tries anything; raise entropy_coef, or resume earlier"
            )
        if metrics.get("kl_old", 0.0) > MOST_KL:
            found["kl"] = (
                f"one update moved the policy by {metrics['kl_old']:.2f} nats per decision: lower learning_rate, or "
                "set target_kl"
            )
        if spread is not None and self.widest > 0 and spread < LEAST_SPREAD * self.widest:
            found["spread"] = (
                f"games end nearly alike (returns spread by {spread:.3g}, once by {self.widest:.3g}), which teaches "
                "nothing: mix other opponents in"
            )
        new = [text for name, text in found.items() if name not in self.told]
        self.told = set(found)
        return new

    def calm(self) -> None:
        """Forget the widest spread: other games and opponents have another one."""
        self.widest = 0.0

    # ---- checkpoint ------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        return {"told": sorted(self.told), "widest": self.widest}

    def load(self, state: Mapping[str, Any]) -> None:
        self.told, self.widest = set(state["told"]), state["widest"]
