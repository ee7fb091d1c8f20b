"""What a player costs: seconds, tokens, memory."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ludora.evals.record import Cost
from ludora.players.base import Player
from ludora.types import Move, Turn

_PROCESS = Path("/proc/self")


class Meter:
    """Sits in front of a player, measures the time that its answers take, and passes them on.

    Memory is the process's, so what earlier players left in it counts, too: its peak is set back to what is held now.
    """

    def __init__(self, player: Player) -> None:
        self.player, self.name = player, player.name
        self.seconds, self.turns = 0.0, 0
        self._measured = _set_back()

    def act(self, turns: Sequence[Turn]) -> list[Move]:
        started = time.monotonic()
        moves = self.player.act(turns)
        self.seconds += time.monotonic() - started
        self.turns += len(turns)
        return moves

    def cost(self, moves: Sequence[Move]) -> Cost:
        """What these moves have cost until now."""
        tokens = sum(len(move.prompt) + len(move.tokens) for move in moves)
        return Cost(
            seconds_per_move=self.seconds / self.turns if self.turns else None,
            tokens_per_move=tokens / len(moves) if tokens else None,
            peak_bytes=_peak() if self._measured else None,
        )


def _set_back() -> bool:
    """Begin to measure peak memory; False where the system offers no way to."""
    if torch := _gpu():
        for device in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(device)
        return True
    try:
        (_PROCESS / "clear_refs").write_text("5")  # Linux: sets VmHWM to what is resident now
    except OSError:
        return False
    return True


def _peak() -> int | None:
    """Bytes held at most since `_set_back`."""
    if torch := _gpu():
        # of all GPUs: the model need not be on the current one, and nothing is held where there is none
        return sum(int(torch.cuda.max_memory_allocated(device)) for device in range(torch.cuda.device_count()))
    lines = (_PROCESS / "status").read_text().splitlines()
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)


def _gpu() -> Any:
    """torch, if a model is on a GPU; a player without a model never loads it."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and torch.cuda.is_initialized() else None
