# `make demo` and `make test` each work alone on a fresh machine with Python 3.11 or newer: they create the
# environment, install the package with the tested versions, and run.
#   VENV=DIR     another environment (default .venv)
#   PYTHON=EXE   the Python that creates it (default: the first 3.11+ found)

VENV ?= .venv
PYTHON ?= $(shell for exe in python3 python3.13 python3.12 python3.11 python3.14 python; do \
    $$exe -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$exe && break; done)
BIN := $(VENV)/bin
STAMP := $(VENV)/.frz-installed
NAME ?= stage2

.PHONY: demo test check bench install clean

demo: $(STAMP)
	$(BIN)/frz demo

test: $(STAMP)
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: $(STAMP)
	$(BIN)/python -m benchmarks $(NAME) --json

install: $(STAMP)

# The stamp comes last: an install that was broken off is done again.
$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or newer found; install one or give PYTHON=..." >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo 'installing frz and the tested versions of its dependencies into $(VENV) (a few minutes the first time)'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage htmlcov build dist
	find pipeline cli tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
