# The commands of the project. Each sets up what it needs; `make` alone lists them.
# Needs Python 3.11 or later and make. ARGS="..." is passed on, as in: make test ARGS="tests/unit -x"

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# `dg` reports what it is used for before it reads the project, unless a file says no. That is named
# to every Python of .venv, for nobody should have to set anything first.
QUIET_DG := import pathlib, sys, sysconfig; \
    config = pathlib.Path(sys.prefix, "dg.toml"); \
    config.write_text("[cli.telemetry]\nenabled = false\n"); \
    line = "import os; os.environ.setdefault({!r}, {!r})\n".format("DG_CLI_CONFIG", str(config)); \
    pathlib.Path(sysconfig.get_path("purelib"), "tallykeeper_dg.pth").write_text(line)

# Four at a time, a file by one of them: many tests wait for others. ARGS="-n 0" is one by one.
PARALLEL := -n 4 --dist loadfile --no-loadscope-reorder
PYTEST := $(BIN)/pytest $(PARALLEL)

export PIP_DISABLE_PIP_VERSION_CHECK := 1
COMPILE := $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 \
    --generate-hashes --no-strip-extras --no-emit-index-url --no-emit-find-links --no-header

# Tests start hundreds of processes, and each would compile the project's modules for itself.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup spark demo up down test test-unit test-engine test-systems test-slow coverage golden lint format bench docs screenshots lock clean

help: ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

setup: $(READY) ## virtual environment .venv with the locked dependencies
	@echo "Ready: .venv"

spark: $(READY) ## PySpark too, for the tests that need it: half a gigabyte; they need Java 17 as well
	@$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements-spark.lock

demo: $(READY) ## demo data for every system, all tallies built and checked; ends by itself
	@$(BIN)/tally demo $(ARGS)

up: $(READY) ## the Dagster UI and daemon, hourly schedules on; Ctrl-C ends it
	@$(BIN)/tally up $(ARGS)

down: $(READY) ## stop what still runs
	@$(BIN)/tally stop $(ARGS)

test: $(READY) ## all tests: half an hour on two cores
	@$(PYTEST) --durations 30 $(ARGS)

test-unit: $(READY) ## tests that need no database: a minute
	@$(PYTEST) tests/unit $(ARGS)

test-engine: $(READY) ## tests of the engine on schemas of its own: 3 minutes
	@$(PYTEST) tests/engine tests/golden $(ARGS)

test-systems: $(READY) ## tests of the four systems: 6 minutes; SYSTEM=gallery for one
	@$(PYTEST) tests/systems/$(SYSTEM) $(ARGS)

test-slow: $(READY) ## tests that take more than about ten seconds each, with all snapshots and kills: 20 minutes
	@TALLY_TEST_LONG=1 $(PYTEST) -m slow $(ARGS)

coverage: $(READY) ## all tests, and which lines none of them ran: half as long again as `test`
	@rm -f .coverage .coverage.*
	@$(BIN)/coverage run -m pytest $(PARALLEL) $(ARGS); ran=$$?; \
	    $(BIN)/coverage combine --quiet && $(BIN)/coverage report && exit $$ran

golden: $(READY) ## write the generated statements of tests/golden and the picture of the layers anew, for review
	@$(BIN)/python -m tests.layers_picture
	@TALLY_TEST_GOLDEN=write $(BIN)/pytest -q -n 0 tests/golden

lint: $(READY) ## style, formatting and types, nothing changed
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(READY) ## repair style and formatting where a machine can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(READY) ## measure every claim anew, into docs/reference/benchmarks.md (hours; ARGS="--only NAME" for one table)
	@$(BIN)/python -m benchmarks --output docs/reference/benchmarks.md $(ARGS)

# The theme announces the end of mkdocs 1 at each build; mkdocs.yml says how to go on then.
docs: $(READY) ## the documentation as a site, in build/docs; ARGS=serve shows it on 127.0.0.1:8000
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs $(or $(ARGS),build --quiet) --strict

screenshots: $(READY) ## take the pictures of the documentation anew from the running UI
	@$(BIN)/python -m tests.browser.screenshots $(ARGS)

# Not after $(READY): a dependency that pyproject.toml names and the lock does not would stop that first.
lock: ## write the locks from pyproject.toml; ARGS=--upgrade for the latest versions
	@test -x $(BIN)/uv || $(MAKE) --no-print-directory setup
	@$(COMPILE) --extra all --group reference --group dev --group docs \
	    --output-file requirements.lock $(ARGS)
	@{ echo '# Every package that Tallykeeper is run and tested with, by version and hash.'; \
	   echo '# Written by `make lock`; not for editing.'; cat requirements.lock; } > requirements.lock.part
	@mv requirements.lock.part requirements.lock
	@$(COMPILE) --extra spark --constraints requirements.lock --output-file requirements-spark.lock $(ARGS)
	@{ echo '# What `make spark` installs besides, by version and hash: half a gigabyte.'; \
	   echo '# Written by `make lock`; not for editing.'; cat requirements-spark.lock; } > requirements.lock.part
	@mv requirements.lock.part requirements-spark.lock

clean: ## remove .venv and what tests and builds left; the data in .tally stays
	@rm -rf .venv .coverage* build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Complete or absent: the stamp comes last, so an interrupted set-up continues.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null || { \
	    echo "Tallykeeper needs Python 3.11 to 3.14, but '$(PYTHON)' is" \
	        "$$($(PYTHON) --version 2>/dev/null || echo 'not there');" \
	        "name another, as in: make setup PYTHON=python3.12" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
	    echo "Creating the virtual environment .venv ..."; $(PYTHON) -m venv --clear .venv; }
	@echo "Installing the locked dependencies (about 1 GB; a minute or two the first time) ..."
	@$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@$(BIN)/python -m pip check --quiet
	@$(BIN)/python -c '$(QUIET_DG)'
	@touch $(READY)
