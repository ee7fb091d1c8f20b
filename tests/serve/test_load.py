"""The load benchmark in its quick form: nothing lost, nothing mixed up, nothing left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ludora.envs.sandbox.build import open_sandbox
from ludora.errors import InputError

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "serve_load.py"


def test_quick() -> None:
    try:
        open_sandbox().close()
    except InputError as error:
        pytest.skip(f"no sandbox here: {error.message}")
    done = subprocess.run([sys.executable, str(BENCHMARK), "--quick"], capture_output=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["lost"], found["mixed"], found["wrong"], found["processes_left"]) == (0, 0, 0, 0), done.stderr
    assert found["episodes_fewest"] >= 1 and found["exit_code"] == 0 and len(found["rss_mb"]) == 9
