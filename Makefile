.DEFAULT_GOAL := help
PYTHON ?= python3
PYTHONS := 3.11 3.12 3.13
VENV ?= .venv
BIN := $(VENV)/bin
UNITS := Tanh GRU LSTM
FUZZ_SECONDS ?= 300
N ?= 3
FAST := tests/leaderboard tests/datamodules tests/seqbench/cells tests/seqbench/model tests/seqbench/test_cli.py

.PHONY: help setup run test test-fast pythons fuzz repeats recheck lint docs site format leaderboard bench clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(VENV)/installed  ## .venv with the pinned packages and the project

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("seqbench needs Python 3.11 or newer: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,docs,ray]'
	@touch $@

run: setup  ## train tanh, GRU and LSTM on Bach chorales (no download), build the leaderboard: a minute or two
	@for unit in $(UNITS); do \
	  $(BIN)/seqbench fit -c bach -c chung2014 -c quick --model.cell $$unit --run.overwrite true || exit $$?; \
	done
	$(BIN)/seqbench leaderboard build --records runs --out runs/leaderboard

test: setup lint docs  ## lint, the site, then all tests; SEQBENCH_MIRROR=DIR for those on the canonical sets
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal --durations 15

test-fast: setup  ## what takes no long training: a minute or so
	$(BIN)/python -m pytest -m "not slow and not browser" $(FAST)

pythons:  ## the fast tests under each of Python 3.11, 3.12 and 3.13 that uv or the PATH has
	@missing=; for version in $(PYTHONS); do \
	  python=$$(uv python find --no-python-downloads $$version 2>/dev/null) || \
	  python=$$(python$$version -c 'import sys; print(sys.executable)' 2>/dev/null) || \
	  { missing="$$missing $$version"; continue; }; \
	  echo "Python $$version: $$python"; \
	  $(MAKE) --no-print-directory VENV=.venv-$$version PYTHON=$$python test-fast || exit $$?; \
	done; \
	[ -z "$$missing" ] || echo "not installed, so not tried: Python$$missing"

fuzz: setup  ## five minutes (FUZZ_SECONDS=N) of made-up configs, records, recordings and .mat files: nothing may break
	$(BIN)/python -P tests/fuzz.py $(FUZZ_SECONDS)

repeats: setup  ## a quarter of an hour: runs killed, repeated and trained in company must be the same to the bit
	$(BIN)/python -P tests/repeats.py

recheck: setup  ## N=3 published runs drawn (SEED=S: as before) and trained again at their own commits: minutes to hours each
	$(BIN)/python -P tests/recheck.py $(N) $(SEED)

lint: setup  ## ruff, mypy, and the directions of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/mypy benchmarks
	$(BIN)/lint-imports --no-cache --no-logo

docs: setup  ## build the documentation, every warning an error: build/site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

site: docs  ## documentation and board in one folder for any static host: build/site
	cp -R leaderboard/records leaderboard/leaderboard.csv leaderboard/figures build/site/leaderboard/
	@printf '{"commit": "%s", "date": "%s"}\n' "$$(git rev-parse HEAD)" "$$(git log -1 --format=%cI)" > build/site/made.json
	@echo build/site/index.html

format: setup  ## rewrite the code in ruff's style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

leaderboard: setup  ## regenerate leaderboard/ and the tables of README.md from leaderboard/records
	$(BIN)/seqbench leaderboard build

bench: setup  ## check and time the kernels, write the tables of benchmarks/README.md: about 3 minutes
	$(BIN)/seqbench bench --into benchmarks/README.md

clean:  ## remove the environments and caches; runs stay
	rm -rf .venv .venv-* build/site .pytest_cache .mypy_cache .ruff_cache *.egg-info
