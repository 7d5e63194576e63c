# The commands of this project; `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VALUES ?= values/local.yaml
WORKFLOW ?= examples/tiles
RELEASE ?= pdgrun
TESTBED := PYTHONPATH=tests $(BIN)/python -m testbed
IMAGE ?= k8s-parsl:dev

.PHONY: help run test check check-cluster faults bench cluster cluster-down image push generate format clean

help: ## List these commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

run: $(VENV)/.runs ## Run examples/tiles on this machine, without a cluster (VALUES=file, WORKFLOW=folder of its code)
	@$(BIN)/k8s-parsl run $(foreach file,$(VALUES),-f $(file)) --path $(WORKFLOW)

test: $(VENV)/.tests ## Run every test that this machine allows (REQUIRE_CLUSTER=1: a missing cluster is a failure)
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadgroup $(PYTEST_ARGS)

check: $(VENV)/.tests ## Lint, types, and the order of the modules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

check-cluster: $(VENV)/.runs ## What would be missing for a release of VALUES=file, as KUBECONFIG's user (RELEASE=name NAMESPACE=name)
	@$(BIN)/k8s-parsl check $(RELEASE) $(foreach file,$(VALUES),-f $(file)) $(if $(NAMESPACE),--namespace $(NAMESPACE))

faults: $(VENV)/.tests ## Give a run every fault there is on that cluster, and Parsl's own provider too; writes docs/faults.md (hours)
	@FAULTS_ALONE=1 PYTHONPATH=tests $(BIN)/python -m cluster.faults

bench: $(VENV)/.tests ## Measure status() of 1,000 blocks, and what an idle run asks of that cluster's API (TEST_IMAGE=...)
	@PYTHONPATH=tests $(BIN)/python benchmarks/status.py
	@PYTHONPATH=tests $(BIN)/python benchmarks/idle_traffic.py

cluster: $(VENV)/.tests ## Bring up a real two-node cluster on this machine (needs root and Go)
	@$(TESTBED) up

cluster-down: $(VENV)/.tests ## End that cluster, and undo all it did to this machine
	@$(TESTBED) down

image: $(VENV)/.tests ## Build the launcher's image (IMAGE=name:tag)
	@$(BIN)/python launcher/image.py build --tag $(IMAGE)

push: $(VENV)/.tests ## Build and publish it (IMAGE=registry/name:tag)
	@$(BIN)/python launcher/image.py push --to $(IMAGE)

generate: $(VENV)/.tests ## Write what is generated: values schema, values reference, golden renders
	$(BIN)/python -m k8s_parsl.schema --write
	$(BIN)/python -m pytest -q tests/chart --update-golden

format: $(VENV)/.tests ## Format the code
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

clean: ## Remove what these commands made, apart from a running cluster and results
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'make: $(PYTHON) is older than 3.11 (PYTHON=... names another)' >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo 'make: $(PYTHON) cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }

$(VENV)/.runs: pyproject.toml examples/tiles/requirements.txt | $(BIN)/python
	@echo 'Installing the packages into $(VENV) ...'
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e . -r examples/tiles/requirements.txt
	@touch $@

$(VENV)/.tests: $(VENV)/.runs
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	@touch $@
