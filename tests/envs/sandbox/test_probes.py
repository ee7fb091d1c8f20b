"""Every probe of the table, as root and as an ordinary user: nothing leaves, no verdict is forged, the host is as it was."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.envs.sandbox import rig

from ludora.envs.sandbox.base import Done
from ludora.envs.sandbox.build import open_sandbox
from ludora.envs.sandbox.forgeries import FORGERIES, Forgery
from ludora.envs.sandbox.probes import PROBES
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
    """Otherwise that they do not work on a trusted one would say nothing. A daemon among them may lose its race."""
    if shutil.which(forgery.needs, path="/usr/bin") is None:
        pytest.skip(f"{forgery.needs} is not installed")
    used = writable if forgery.works == "/usr" else root
    tries = (forge(forgery, lambda limits: open_sandbox(limits, root=used), trusted=False) for _ in range(10))
    assert not all(found.contained for found in tries)


ON_AN_OVERLAY = """
import os, subprocess, sys
from ludora.envs.sandbox.build import open_sandbox
from ludora.envs.sandbox.forgeries import FORGERIES, PREPARED, SOLUTION, VERDICT
from ludora.envs.sandbox.roots import setup
folder, archive = sys.argv[1:]
subprocess.run(["mount", "-t", "tmpfs", "none", folder], check=True)
os.chmod(folder, 0o755)
for name in ("lower", "upper", "work", "cache"): os.mkdir(f"{folder}/{name}")
options = f"lowerdir={folder}/lower,upperdir={folder}/upper,workdir={folder}/work"
subprocess.run(["mount", "-t", "overlay", "none", "-o", options, f"{folder}/cache"], check=True)
os.environ["LUDORA_CACHE"] = f"{folder}/cache"
root = setup(archive, lambda text: None)
replaced = [f.script for f in FORGERIES if f.works == "/usr" and f.language == "bash" and f.verdict == VERDICT]
for script in (SOLUTION, *replaced):
    sandbox = open_sandbox(root=root)
    sandbox.run(PREPARED)
    sandbox.run(script)
    print(sandbox.run(VERDICT, trusted=True).code == 0)
    sandbox.close()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_verdicts_on_a_root_that_lies_on_an_overlay(writable: Root) -> None:
    """As everything in a container does: one more layer than the kernel takes, so that a trusted view is laid out otherwise."""
    with rig.open_folder() as folder:
        archive = writable.folder.parents[2] / "writable.tar"
        words = ["unshare", "--mount", sys.executable, "-c", ON_AN_OVERLAY, str(folder), str(archive)]
        done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(rig.SOURCE)})
    assert done.stdout.split() == ["True"] + ["False"] * 4, done


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
