"""Every error a user can cause or meet. Each is one line, and says what to do about it.

LudoraError
├── InputError          the input was wrong            exit code 2
│   ├── ConfigError     a config key or value is wrong
│   └── BadLines        lines of a file cannot be used; all are named, however many
├── MissingExtra        an optional package is needed   exit code 2
├── RunInUse            another process holds the run   exit code 2
├── EnvBroken           an environment failed; its episode is dropped or retried, and counted
├── DamagedCheckpoint   a checkpoint's hashes do not match its manifest
└── TrainingFailed      training cannot go on (numbers are no longer finite, ...)  exit code 1
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class LudoraError(Exception):
    """Base of all errors that are reported without a traceback. `hint` says what to do."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class InputError(LudoraError):
    """Something the user gave is wrong. Nothing was written."""

    exit_code = 2


class ConfigError(InputError):
    """A config file or override has an unknown key or a value out of range."""


class BadLines(InputError):
    """Lines of a file cannot be used. The message names each by its number, so nobody may cut it."""


class MissingExtra(InputError):
    """An optional package is needed; the hint is the command that installs it."""


class RunInUse(InputError):
    """Another process is writing to this run folder."""


class EnvBroken(LudoraError):
    """An environment failed for reasons that are not the player's."""


class DamagedCheckpoint(LudoraError):
    """A checkpoint does not match its manifest."""


class TrainingFailed(LudoraError):
    """Training cannot continue."""


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint that names the known word nearest to `word`, or lists a few."""
    known = sorted(set(known))
    close = get_close_matches(word, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return "known: " + ", ".join(known[:12]) + (" ..." if len(known) > 12 else "")
