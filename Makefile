# One command for a person and for CI. On a bare machine with Python 3.11+, git and make:
#   make demo    sets everything up and runs the whole path on a simulated experiment
#   make check   sets everything up and runs every check; CI calls the same, and make guides
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamps
PACKAGES := experiments analysis bandits reports app
SOURCES := $(PACKAGES) src tests benchmarks

.DEFAULT_GOAL := help
.PHONY: help setup demo check check-all format lint types imports test slow doctest lock clean

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

$(STAMP)/uv:
	@test -L src/klartext/app || { echo "src/klartext/app is not a symlink: clone with git config core.symlinks true" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed; found: $$($(PYTHON) --version). Set PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV) || { echo "python3 -m venv failed; on Debian or Ubuntu: apt-get install python3-venv" >&2; exit 2; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@mkdir -p $(STAMP) && touch $@

$(STAMP)/runtime: $(STAMP)/uv requirements/runtime.txt pyproject.toml
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements/runtime.txt
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --no-deps --editable .
	@touch $@

$(STAMP)/dev: $(STAMP)/runtime requirements/dev.txt
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements/dev.txt
	@touch $@

setup: $(STAMP)/dev  ## create .venv with everything a developer needs

demo: $(STAMP)/runtime  ## run the whole path on a simulated experiment, ending in a report
	$(BIN)/klartext demo klartext-demo --force

check: format lint types imports browser test doctest  ## every check that a change needs (10 to 14 minutes on two cores)

check-all: check slow  ## also the long simulations and Spark

format: $(STAMP)/dev  ## fail when a file is not formatted
	$(BIN)/ruff format --check .

lint: $(STAMP)/dev
	$(BIN)/ruff check .

types: $(STAMP)/dev
	$(BIN)/mypy

imports: $(STAMP)/dev  ## the import contracts
	$(BIN)/lint-imports --no-cache

.PHONY: browser
browser:  ## Chromium for the report tests: found, or installed where apt-get may
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || \
	  { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; } || \
	  echo "No Chromium: the browser tests will skip. Install one (Debian: apt-get install chromium)." >&2

test: $(STAMP)/dev
	$(BIN)/pytest -q -n 2 -m "not slow" --durations=10

.PHONY: guides
guides: $(STAMP)/dev  ## the commands of the README and the notebooks, as a new user runs them
	$(BIN)/pytest -q -n 2 -m slow tests/project

.PHONY: java
java:  ## Java 17 for Spark: found, or installed where apt-get may
	@command -v java >/dev/null || \
	  { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq openjdk-17-jre-headless >/dev/null; } || \
	  echo "No Java: the Spark tests will skip. Install one (Debian: apt-get install openjdk-17-jre-headless)." >&2

slow: java $(STAMP)/dev  ## the long simulations, and Spark in several processes
	$(BIN)/pytest -q -n 2 -m slow

.PHONY: calibrate bench-facts bench-units
calibrate: $(STAMP)/dev  ## coverage, false alarms and power of every method; writes docs/calibration.md
	$(BIN)/python -m benchmarks.calibrate

FOLDER ?= build/bench-facts
SIZES ?= 10m
ROUNDS ?= 5
bench-facts: $(STAMP)/dev  ## FOLDER= SIZES=10m,60m,100m ROUNDS=5: facts to readout against SQL by hand and other tools; writes docs/benchmarks.md
	$(BIN)/python -m benchmarks.facts --folder $(FOLDER) --sizes $(SIZES) --rounds $(ROUNDS) --discard

bench-units: $(STAMP)/dev  ## FOLDER=: a unit table of a million rows to a readout, against tea-tasting; writes docs/benchmark-units.md
	$(BIN)/python -m benchmarks.unit_table --folder $(FOLDER)

doctest: $(STAMP)/dev
	$(BIN)/pytest -q --doctest-modules $(addprefix src/klartext/,$(PACKAGES)) --ignore-glob='*/migrations/*'

lock: $(STAMP)/dev  ## resolve the newest versions into requirements/*.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade --no-header --no-annotate --no-emit-index-url pyproject.toml -o requirements/runtime.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade --no-header --no-annotate --no-emit-index-url --group dev --extra interactive --extra spark --extra postgres pyproject.toml -c requirements/runtime.txt -o requirements/dev.txt

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis klartext-demo
