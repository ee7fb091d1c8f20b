"""For all tests."""

import os
from pathlib import Path

import ludora

# Two processes share the tests, and two cores; what needs more threads says so itself.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tests that start `python -m ludora` elsewhere must find the same sources, installed or not.
os.environ["PYTHONPATH"] = str(Path(ludora.__file__).parents[1])
