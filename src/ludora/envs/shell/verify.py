"""Are tasks sound? With the reference solution the check must succeed, and untouched it must not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ludora.envs.sandbox.base import Done
from ludora.envs.shell.entries import Entry
from ludora.envs.shell.env import Verdict, machine
from ludora.envs.shell.options import Options, instance
from ludora.envs.shell.templates.all import TEMPLATES
from ludora.envs.shell.templates.base import EVAL, HELD_OUT, TRAIN
from ludora.errors import EnvBroken

SHOWN = 200  # characters of an output in a reason


@dataclass(frozen=True, slots=True)
class Proof:
    """What the check said of one entry, and why where that is not as it must be."""

    key: str
    reference: Verdict
    untouched: Verdict
    why: str = ""

    @property
    def sound(self) -> bool:
        return self.reference is Verdict.CORRECT and self.untouched is Verdict.INCORRECT


def built_in(number: int = 0) -> Iterator[Entry]:
    """Instance `number` of every built-in template, in every split that has it."""
    for template in TEMPLATES.values():
        for split in (HELD_OUT,) if template.held_out else (TRAIN, EVAL):
            yield instance(template, split, number)


def prove(
    entries: Iterable[Entry], options: Options, *, threads: int = 4, progress: Callable[[], None] = lambda: None
) -> list[Proof]:
    """A proof of every entry, in order, several at a time.

    Raises:
        InputError: this machine cannot have a sandbox.
    """

    def one(entry: Entry) -> Proof:
        proof = prove_one(entry, options)
        progress()
        return proof

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(one, entries))


def prove_one(entry: Entry, options: Options) -> Proof:
    """Check an entry in two fresh sandboxes, one untouched and one in which the reference has run.

    A sandbox that fails, or a set-up that does, leaves the verdict unset.
    """
    untouched, _ = _judged(entry, options, solve=False)
    reference, why = _judged(entry, options, solve=True)
    if reference is Verdict.CORRECT:
        why = "the check succeeds on the untouched machine" if untouched is not Verdict.INCORRECT else ""
    return Proof(entry.key, reference, untouched, why)


def _judged(entry: Entry, options: Options, *, solve: bool) -> tuple[Verdict, str]:
    """The verdict, and what is to be said where it is not that of a solved task."""
    with_it = machine(entry, options)
    try:
        said = _ending("the solution", with_it.run(entry.solution)) if solve else ""
        done = with_it.check()
        verdict = with_it.judge(done)
    except EnvBroken as error:
        return Verdict.UNSET, error.message
    finally:
        with_it.close()
    return verdict, ", ".join(filter(None, (said, _ending("the check", done))))


def _ending(what: str, done: Done) -> str:
    """How a script ended, in words; nothing where it did with status 0."""
    if done.code == 0:
        return ""
    how = "was stopped for its time" if done.timed_out else f"ended with status {done.code}"
    shown = " ".join(done.output.split())[-SHOWN:]
    return f"{what} {how}" + (f" ({shown})" if shown else "")


def unsound(proofs: Sequence[Proof]) -> list[Proof]:
    """Those that are not as they must be."""
    return [proof for proof in proofs if not proof.sound]
