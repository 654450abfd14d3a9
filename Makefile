# The few commands of the house. CI runs these and nothing else.
# A bare machine with Python 3.11 to 3.13 is enough: no Redis, no Docker.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup demo up test check bench chaos format clean

VENV   := .venv
BIN    := $(VENV)/bin
ASK    ?=
DOCS   ?=
# Another interpreter: make setup PYTHON=python3.12
PYTHON ?=
# One test, or one folder: make test T=tests/unit/test_retry.py
T      ?=

# The stamp's name carries a checksum of what is installed from, so that a pull
# which changes a dependency installs it before anything runs.
STAMP := $(VENV)/.installed-$(shell cat setup.cfg pyproject.toml constraints.txt | cksum | tr ' ' '-')
MYPY_ROOT := .mypy_root/runyard

PYTEST = PYTHONHASHSEED=0 $(BIN)/python -m pytest -q -m "not chaos"
SPREAD = -n 3 --dist loadfile --no-loadscope-reorder
AGAIN = $(PYTEST) --last-failed --last-failed-no-failures none

define FIND_PYTHON
for p in $(if $(PYTHON),$(PYTHON),python3 python3.13 python3.12 python3.11); do \
  if "$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' >/dev/null 2>&1; then \
    command -v "$$p"; break; fi; done
endef

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make .venv and install the locked dependencies

$(STAMP):
	@python=$$($(FIND_PYTHON)); \
	if [ -z "$$python" ]; then \
	  echo "Runyard needs Python 3.11, 3.12 or 3.13, and none was found$(if $(PYTHON), as $(PYTHON)). Install one, or name it: make setup PYTHON=/path/to/python3.12" >&2; exit 1; fi; \
	if ! "$$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then \
	  echo "$$python cannot make virtual environments. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; fi; \
	if [ -z "$(PYTHON)" ] && $(BIN)/python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' >/dev/null 2>&1; \
	then :; else "$$python" -m venv --clear $(VENV); fi
	@echo "Installing into $(VENV) ..."
	@# The warning is setuptools' advice for editable installs in general.
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[models,test,dev]'
	@rm -f $(VENV)/.installed-*
	@touch $@

demo: $(STAMP) ## Answer a question about DOCS=folder (default: this README and docs) with ASK="...", live
	@$(BIN)/runyard demo $(if $(DOCS),--docs "$(DOCS)") $(if $(ASK),--ask "$(ASK)")

up: $(STAMP) ## Run the store, web, workers and Flower until Ctrl-C
	@$(BIN)/runyard up

test: $(STAMP) ## Run the tests (one file or folder: T=path)
	@# Three processes on two cores, since most of the tests of whole stacks wait, and those first: the short ones fill what
	@# is left at the end. Sets must come in the same order for all of them to collect the same tests. A test that fails is
	@# given a second chance alone: a busy machine is no bug, and what fails twice is.
	@$(if $(T),$(PYTEST) $(T),$(PYTEST) $(SPREAD) tests/acceptance tests/integration tests/unit || $(AGAIN))

chaos: $(STAMP) ## Run the tests that kill processes and servers
	@$(BIN)/python -m pytest -q -m chaos $(T)

check: $(STAMP) $(MYPY_ROOT) ## Lint, formatting, types, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(STAMP) ## Put the code in the house's format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(STAMP) ## Measure Runyard beside plain LangGraph and plain Celery
	@$(BIN)/python bench/run.py

clean: ## Remove what make made (not the data in .runyard)
	@rm -rf $(VENV) .mypy_root .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist *.egg-info .coverage .coverage.*
	@find app tasks graphs engine tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

# mypy knows packages by folder names, and ours are called engine, not runyard/engine.
$(MYPY_ROOT):
	@mkdir -p $(dir $@) && ln -sfn .. $@
