"""Every probe of the table, as root and as an ordinary user: nothing leaves, no verdict is forged, the host is as it was."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.envs.sandbox import rig

from ludora.envs.sandbox.base import Done
from ludora.envs.sandbox.build import open_sandbox
from ludora.envs.sandbox.probes import FORGERIES, PROBES, Forgery
from ludora.envs.sandbox.probing import Finding, forge, probe_all
from ludora.envs.sandbox.roots import Root

AS_USER = """
import json, os
from dataclasses import asdict
from ludora.envs.sandbox.build import open_sandbox
from ludora.envs.sandbox.probing import probe_all
from ludora.envs.sandbox.roots import setup
setup("host", lambda text: None)
print(json.dumps({"user": os.geteuid(), "findings": [asdict(f) for f in probe_all(open_sandbox, 4, lambda finding: None)]}))
"""


def contained(findings: list[Finding]) -> None:
    assert [finding for finding in findings if not finding.contained] == []
    groups = Counter(finding.group for finding in findings)
    assert groups["verdict"] == len(FORGERIES) + 1 >= 10
    assert groups["host afterwards"] == 7
    assert len(findings) == len(PROBES) + len(FORGERIES) + 8


def test_the_table() -> None:
    names = Counter((probe.group, probe.name) for probe in PROBES)
    assert len(PROBES) >= 48 and set(names.values()) == {1}


def test_everything_is_contained(root: Root) -> None:
    contained(probe_all(lambda limits: open_sandbox(limits, root=root), 4, lambda finding: None))


@pytest.mark.skipif(os.geteuid() != 0, reason="the tests run as an ordinary user already")
def test_everything_is_contained_as_an_ordinary_user() -> None:
    rig.need("newuidmap", "newgidmap")
    said = json.loads(rig.as_ordinary_user(AS_USER))
    assert said["user"] == rig.USER
    contained([Finding(**finding) for finding in said["findings"]])


def test_no_verdict_is_forged_where_usr_can_be_written_to(writable: Root) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda f: forge(f, lambda limits: open_sandbox(limits, root=writable)), FORGERIES)
        assert [finding for finding in found if not finding.contained] == []


@pytest.mark.parametrize("forgery", [f for f in FORGERIES if f.works != "never"], ids=lambda f: f.name)
def test_these_forgeries_work_where_the_verdict_is_any_command(root: Root, writable: Root, forgery: Forgery) -> None:
    """Otherwise that they do not work on a trusted one would say nothing."""
    if shutil.which(forgery.needs, path="/usr/bin") is None:
        pytest.skip(f"{forgery.needs} is not installed")
    used = writable if forgery.works == "/usr" else root
    assert not forge(forgery, lambda limits: open_sandbox(limits, root=used), trusted=False).contained


class Leaky:
    """A sandbox from which everything gets out, and that judges everybody right."""

    def run(self, script: str, *, language: str = "bash", seconds: float | None = None, trusted: bool = False) -> Done:
        return Done(0, "ESCAPED 999999999\n")

    def close(self) -> None:
        pass


def test_what_gets_out_is_seen() -> None:
    """No condition of the table holds by itself."""
    found = probe_all(lambda limits: Leaky(), 4, lambda finding: None)
    assert {f.name for f in found if f.contained and f.group != "host afterwards"} == {"who did the work is right"}
