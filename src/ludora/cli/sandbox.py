"""`ludora shell setup` and `ludora shell probe`: the file system that sandboxes start from, and whether they hold."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ludora.cli.common import Shown, prints, say, table

if TYPE_CHECKING:
    from rich.console import Console

    from ludora.envs.sandbox.probing import Finding


@prints
def setup(
    source: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="SOURCE",
            help="debian (needs mmdebstrap and a network), host (this machine's programs), or a tar archive, such as "
            "docker export writes.",
        ),
    ] = "debian",
    package: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="With debian: a further package; may be repeated.")
    ] = None,
) -> Shown:
    """Make the root file system that sandboxes start from, once; the one made last is used."""
    from ludora.envs.sandbox import roots
    from ludora.errors import InputError

    if package and source != "debian":
        raise InputError(f"--package {package[0]}: {source} is taken as it is", "leave --package out, or --from")
    root = roots.setup(source, say, (*roots.PACKAGES, *(package or ())))
    data = {"source": root.source, "folder": str(root.folder), "digest": root.digest, "python": root.python}
    return Shown(data, table("", ("", "sandboxes start from"), [(key, value) for key, value in data.items()]))


@prints
def probe(
    threads: Annotated[int, typer.Option(min=1, max=64, help="Sandboxes at once.")] = 4,
    backend: Annotated[str, typer.Option(help="namespaces, docker or podman.")] = "namespaces",
    image: Annotated[str, typer.Option(help="With docker or podman: the image.")] = "",
) -> Shown:
    """Try to break out of sandboxes, to use more than their limits, and to forge verdicts, and say what was contained.

    Exit code 1 if anything was not.
    """
    from ludora.envs.sandbox.build import open_sandbox
    from ludora.envs.sandbox.probing import probe_all

    sandbox = open_sandbox(backend=backend, image=image)  # what cannot be had is refused before anything is tried
    facts = sandbox.facts
    sandbox.close()
    found = probe_all(lambda limits: open_sandbox(limits, backend=backend, image=image), threads, _heard)
    bad = [finding for finding in found if not finding.contained]
    data = {
        **facts,
        "probes": len(found),
        "contained": len(found) - len(bad),
        "findings": [asdict(finding) for finding in found],
    }

    def show(console: Console) -> None:
        tried, held = Counter(f.group for f in found), Counter(f.group for f in found if f.contained)
        rows = [(group, str(tried[group]), str(held[group])) for group in tried]
        table("", ("", "tried", "contained"), [*rows, ("all", str(len(found)), str(len(found) - len(bad)))])(console)
        if bad:
            table("", ("NOT contained", "", "seen"), [(f.group, f.name, f.seen) for f in bad])(console)

    return Shown(data, show, exit_code=1 if bad else 0)


def _heard(finding: Finding) -> None:
    """On a terminal, each finding as it comes."""
    if sys.stderr.isatty():
        say(f"{'contained' if finding.contained else 'NOT CONTAINED'}  {finding.group}: {finding.name}")
