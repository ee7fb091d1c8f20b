"""Metrics as weighted sums, so that means of parts can be joined."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Sums:
    """Weighted sums of metrics; `means` divides."""

    values: dict[str, list[float]] = field(default_factory=dict)
    steps: int = 0

    def add(self, name: str, value: float, weight: float) -> None:
        entry = self.values.setdefault(name, [0.0, 0.0])
        entry[0] += value
        entry[1] += weight

    def merge(self, other: Sums) -> None:
        self.steps += 1
        for name, (value, weight) in other.values.items():
            self.add(name, value, weight)

    def means(self) -> dict[str, float]:
        return {name: value / weight for name, (value, weight) in self.values.items() if weight}
