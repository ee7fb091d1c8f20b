"""Every benchmark still runs, in its quick form: what is run by hand breaks unseen otherwise."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
ELSEWHERE = {"serve_load"}  # tests/serve/test_load.py
QUICK = [path.stem for path in sorted(BENCHMARKS.glob("*.py")) if "--quick" in path.read_text(encoding="utf-8")]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(QUICK) - ELSEWHERE))
def test_quick(name: str) -> None:
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=BENCHMARKS.parent)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["benchmark"] == name and result["quick"] is True
