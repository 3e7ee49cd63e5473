.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
UNITS := Tanh GRU LSTM

.PHONY: help setup run test lint docs format leaderboard bench clean

help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: .venv/installed  ## .venv with the pinned packages and the project

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("seqbench needs Python 3.11 or newer: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,docs,ray]'
	@touch $@

run: setup  ## train tanh, GRU and LSTM on Bach chorales (no download), build the leaderboard: a minute or two
	@for unit in $(UNITS); do \
	  $(BIN)/seqbench fit -c configs/bach.yaml -c configs/chung2014.yaml -c configs/quick.yaml \
	    --model.cell $$unit --run.overwrite true || exit $$?; \
	done
	$(BIN)/seqbench leaderboard build --records runs --out runs/leaderboard

test: setup lint docs  ## lint, the site, then all tests; SEQBENCH_MIRROR=DIR for those on the canonical sets
	$(BIN)/python -m pytest

lint: setup  ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: setup  ## build the documentation, every warning an error: build/site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

format: setup  ## rewrite the code in ruff's style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

leaderboard: setup  ## regenerate leaderboard/ and the first table of README.md from leaderboard/records
	$(BIN)/seqbench leaderboard build

bench: setup  ## check and time the kernels, write the tables of benchmarks/README.md: about 3 minutes
	$(BIN)/seqbench bench --into benchmarks/README.md

clean:  ## remove .venv and caches; runs stay
	rm -rf .venv build/site .pytest_cache .mypy_cache .ruff_cache *.egg-info
