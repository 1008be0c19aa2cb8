# The commands of the README. Needed: Linux with glibc >= 2.28, make, Python 3.11-3.14 with venv and pip, a package index.

VENV := .venv
PY := $(VENV)/bin/python
# The interpreter that makes the environment; set PYTHON to choose another.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; done)
INSTALL := $(PY) -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all:
# Two processes more than a small machine has cores: tests that wait for servers leave room. They are forks
# (tests/workers.py), except where coverage is measured, which needs xdist: there, each process costs its own start.
# Linear algebra in threads of its own would only wait for the cores.
PYTEST := OPENBLAS_NUM_THREADS=1 $(PY) -m pytest -q
# Where this is set, each of the hundred processes of a run would compile the same modules again: half of a server's start.
export PYTHONDONTWRITEBYTECODE :=
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo serve test check bench soak format lock clean

help: ## Show what there is
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-14s %s\n", $$1, $$2}'

demo: $(VENV)/demo.stamp ## Run the main job end to end on SQLite in ./var, then exit
	$(PY) -m ledger demo $(ARGS)

serve: $(VENV)/demo.stamp ## Keep a server running on SQLite in ./var
	@test -e var/keys || $(PY) -m ledger keys init
	$(PY) -m ledger serve $(ARGS)

test: $(VENV)/test.stamp ## Run all tests, on SQLite and on a real PostgreSQL (COVERAGE=1 measures branches too)
	$(PYTEST) $(if $(COVERAGE),-n 3 --dist worksteal --cov --cov-report=term,--workers 4) $(ARGS)

check: $(VENV)/test.stamp ## Lint, format, types, import contracts, house rules, migration drift
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-cache
	CHECKS=1 $(PYTEST) --workers 2 -m checks_code

bench: $(VENV)/test.stamp ## Print the benchmark table and write var/bench.json
	$(PY) -m tests.bench $(ARGS)

soak: $(VENV)/test.stamp ## The long fault run: servers killed again and again under load
	$(PY) -m tests.soak $(ARGS)

format: $(VENV)/test.stamp ## Put imports and layout in order
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

# Needs `uv` on the PATH. The files name no index: pip takes whichever it is configured for. Extras stay in the pins, or an
# old pip (23.2) looks for the newest `coverage[toml]` beside the pinned `coverage`, and finds it without a hash.
SERVER := distributions/server/pyproject.toml
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --only-binary :all: \
	--no-header --no-strip-extras --no-emit-index-url --no-emit-find-links
lock: ## Pin the requirements again (UPGRADE=1 takes newer versions)
	$(LOCK) $(if $(UPGRADE),--upgrade) pyproject.toml --all-extras --group $(SERVER):server -o requirements/demo.txt
	$(LOCK) $(if $(UPGRADE),--upgrade) pyproject.toml --all-extras --group $(SERVER):server --group $(SERVER):replay \
		requirements/test.in -c requirements/demo.txt -o requirements/test.txt

clean: ## Delete the environment and caches (not ./var, where keys and ledger are)
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage htmlcov

$(PY):
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed. Install it, or run: make PYTHON=/path/to/python3 ..." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed, and $(PYTHON) is not that. Run: make PYTHON=/path/to/python3 ..." >&2; exit 1; }
	@"$(PYTHON)" -m venv --clear $(VENV) || { \
		echo "$(PYTHON) cannot make an environment: its venv module is missing (on Debian: the package python3-venv)." >&2; \
		rm -rf $(VENV); exit 1; }

# The checkout is not installed: the command runs from it, whatever the current folder is.
$(VENV)/bin/refund-ledger: | $(PY)
	@printf '%s\n' '#!/bin/sh' 'root=$$(cd "$$(dirname -- "$$0")/../.." && pwd)' \
		'PYTHONPATH="$$root$${PYTHONPATH:+:$$PYTHONPATH}" exec "$$root/$(PY)" -P -m ledger "$$@"' > $@
	@chmod +x $@

$(VENV)/%.stamp: requirements/%.txt | $(PY) $(VENV)/bin/refund-ledger
	@echo "Installing $< into $(VENV) ..."
	@$(INSTALL) -r $<
	@touch $@
