"""For all tests."""

import os
from pathlib import Path

import ludora

# Tests that start `python -m ludora` elsewhere must find the same sources, installed or not.
os.environ["PYTHONPATH"] = str(Path(ludora.__file__).parents[1])
