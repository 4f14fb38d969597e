# Two commands for a newcomer: `make demo` and `make test`. Each builds the environment first.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# As a variable and not as an option, the constraints hold for the build environment too.
PIP = PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check
# PyTorch is pinned apart: the CPU build is enough for the examples and tests, and is taken where it is on offer.
TORCH := torch==2.13.0

.PHONY: help install demo run test check format browser results clean

help:
	@echo "make install   the environment in .venv, every version pinned by constraints.txt"
	@echo "make demo      a day of real prices in four minutes, three real training jobs"
	@echo "make run       the daemon on http://127.0.0.1:8787"
	@echo "make test      everything: lint, types, layers, unit, property, API, crash, scenario, console"
	@echo "make check     lint, types and layers alone"
	@echo "make results   docs/results/simulation.* from the data in WATTMILL_DATA, in about ten minutes"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) $(TORCH)
	$(PIP) -e '.[dev,postgres,examples,results]'
	touch $@

demo: install
	$(BIN)/wattmill demo

run: install
	$(BIN)/wattmill serve

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy -p wattjob
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Real Chromium for the console's tests, from the distribution's packages.
browser:
	command -v chromium >/dev/null || (apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium)

test: check browser
	$(BIN)/python -m pytest -m "not live" -n 2
	$(BIN)/python -m pytest -m live

# The data are found beside the project, or where WATTMILL_DATA says.
results: install
	$(BIN)/python -m benchmarks.simulation

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
