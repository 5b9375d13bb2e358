# setup · demo · test · cluster-test · gpu-audit · fuzz · lint · bench · coverage · docs — CI, the README and pre-commit call these and nothing else.
#
#   make demo                          made-up scans through the whole pipeline, in minutes
#   make test                          everything that can be tested on this machine
#   make setup PYTHON=python3.12       another interpreter
#   make setup TORCH='torch --index-url https://…/cpu'      another build of PyTorch (empty: what pyproject.toml allows)

SHELL       := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
TORCH  ?= torch==2.13.0
VENV   ?= .venv
INPUTS ?= 1000
SEED   ?= $(shell date +%s)
BIN    := $(VENV)/bin

# PyO3 and maturin look here for the interpreter; pip has nothing to ask anybody.
export VIRTUAL_ENV := $(abspath $(VENV))
export PYO3_PYTHON := $(abspath $(BIN)/python)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
unexport CONDA_PREFIX

RUST := Cargo.toml Cargo.lock $(shell find rust -name '*.rs' -o -name 'Cargo.toml')

.PHONY: help setup demo test cluster-test gpu-audit fuzz lint bench coverage docs clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/make \1\t\2/' | expand -t 14

setup: $(VENV)/.built ## an environment in .venv with everything, the Rust core built for this machine

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) was not found; install Python 3.10 or newer, or name one: make PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "make: $(PYTHON) is older than 3.10; name a newer one: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# PyTorch first and alone, so that its version (or its index) binds what follows.
$(VENV)/.torch: | $(BIN)/python
	$(if $(strip $(TORCH)),$(BIN)/python -m pip install --quiet $(TORCH))
	@touch $@

$(VENV)/.built: pyproject.toml $(RUST) | $(VENV)/.torch
	@command -v cargo >/dev/null || { echo "make: cargo was not found; install Rust 1.89 or newer (rustup.rs)"; exit 1; }
	$(BIN)/python -m pip install --quiet 'maturin>=1.9,<2'
	PIP_QUIET=1 $(BIN)/maturin develop --release --extras dev --quiet
	@touch $@

demo: setup ## made-up scans: check, plan, preprocess, train, predict, evaluate; a table, a picture, a report
	$(BIN)/nnunet-rs demo -o demo

test: setup ## Python and Rust tests
	$(BIN)/python -m pytest
	cargo test --quiet --release

cluster-test: setup ## trainings and scans through a real SLURM and a real Ray on this machine, where they can be started; minutes
	$(BIN)/python -m pip install --quiet 'submitit>=1.5' 'ray>=2.30'
	CLUSTER_TESTS=1 $(BIN)/python -m pytest tests/cluster

gpu-audit: setup ## training and prediction on a pretended GPU, where PyTorch is a build for CUDA: errors, launches, waits; minutes
	$(BIN)/python tests/gpu/audit.py

fuzz: setup ## many damaged files and odd arguments: INPUTS of each kind (1000), SEED to repeat a run
	FUZZ_INPUTS=$(INPUTS) $(BIN)/python -m pytest tests/fuzz --hypothesis-seed=$(SEED)

lint: setup ## formatting, types, layers, clippy, the stub against the module
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m mypy.stubtest nnunet_rs._kernels --concise --ignore-missing-stub --ignore-disjoint-bases
	cargo fmt --all --check
	cargo clippy --quiet --workspace --all-targets -- -D warnings

bench: setup ## kernels beside scipy, skimage and numpy; rewrites the table in docs/benchmarks.md
	NNUNET_RS_PYTHON=$(abspath $(BIN)/python) cargo bench

coverage: setup ## how much of the Python side the tests run; fails below 90 %
	$(BIN)/python -m pytest --cov --cov-report=term

docs: setup ## the site in site/, from docs/ and the docstrings; opens without a network
	$(BIN)/python -m pip install --quiet 'mkdocs-material>=9.6' 'mkdocstrings[python]>=0.29'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean: ## remove what was built
	rm -rf $(VENV) target demo dist site python/nnunet_rs/*.so
