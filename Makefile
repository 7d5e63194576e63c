# The commands of this project; `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VALUES ?= values/local.yaml
WORKFLOW ?= examples/tiles
RELEASE ?= pdgrun
TESTBED := PYTHONPATH=tests $(BIN)/python -m testbed
IMAGE ?= k8s-parsl:dev
SBOM ?= k8s-parsl.cdx.json
# Not among the tests' packages: with it comes one that kubernetes, and so Parsl, imports where it is there, for two seconds.
CYCLONEDX := cyclonedx-bom==7.5.0
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
  --custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade)
# What pip installs, a line for each package as it comes; what is there already is no news.
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off
SHORT := sed -un -e 's/^Collecting \([^ ;]*\).*/  \1/p' -e 's/^  *Downloading [^ ]* (\(.*\))$$/    \1/p' -e 's/^Installing collected.*/  unpacking all of it .../p'
# make itself ends with 2, whatever a command has ended with.
SAY_CODE := { code=$$?; echo "exit code $$code (docs/user/troubleshooting.md says what it means; make itself ends with 2)" >&2; exit $$code; }
LOCKED := launcher/requirements.txt runtime/requirements.txt

.PHONY: help run test check check-cluster faults argocd external-secrets bench mutation cluster cluster-down image push generate lock sbom
.PHONY: audit format clean

help: ## List these commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

run: $(VENV)/.runs ## Run examples/tiles on this machine, without a cluster (VALUES=file, WORKFLOW=folder of its code)
	@$(if $(and $(filter-out examples/tiles,$(WORKFLOW)),$(wildcard $(WORKFLOW)/requirements.txt)),echo '$(WORKFLOW)/requirements.txt is not installed into $(VENV): laptop.python names an environment of its own (docs/user/own-workflow.md)')
	@$(BIN)/k8s-parsl run $(foreach file,$(VALUES),-f $(file)) --path $(WORKFLOW) || $(SAY_CODE)

test: $(VENV)/.tests ## Run every test that this machine allows (REQUIRE_CLUSTER=1: a missing cluster is a failure)
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 $(PYTEST_ARGS)

check: $(VENV)/.tests ## Lint, types, and the order of the modules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

check-cluster: $(VENV)/.checks ## What would be missing for a release of VALUES=file, as KUBECONFIG's user (RELEASE=name NAMESPACE=name)
	@$(BIN)/k8s-parsl check $(RELEASE) $(foreach file,$(VALUES),-f $(file)) $(if $(NAMESPACE),--namespace $(NAMESPACE)) || $(SAY_CODE)

faults: $(VENV)/.tests ## Give a run every fault there is on that cluster, and Parsl's own provider too; writes reports/faults.md (hours)
	@FAULTS_ALONE=1 PYTHONPATH=tests $(BIN)/python -m cluster.faults

argocd: $(VENV)/.tests ## Give deploy/argocd to a real Argo CD on that cluster (compiled the first time, some ten minutes)
	@$(BIN)/python -m pytest -m slow tests/cluster/test_argocd.py

external-secrets: $(VENV)/.tests ## Let a real External Secrets Operator bring the Ceph key there (compiled the first time, some five minutes)
	@$(BIN)/python -m pytest -m slow tests/cluster/test_cephfs.py

bench: $(VENV)/.tests ## Measure status() of 1,000 blocks, a run's memory, and what it asks of that cluster's API (TEST_IMAGE=...)
	@PYTHONPATH=tests $(BIN)/python benchmarks/status.py
	@PYTHONPATH=tests $(BIN)/python benchmarks/idle_traffic.py
	@PYTHONPATH=tests $(BIN)/python benchmarks/memory.py

mutation: $(VENV)/.tests ## Change chart and settings in one place at a time: do tests notice? Writes reports/mutation.md (hours)
	@$(BIN)/python tools/mutation.py --jobs 2 --write

cluster: $(VENV)/.tests ## Bring up a real two-node cluster on this machine (needs root and Go)
	@$(TESTBED) up

cluster-down: $(VENV)/.tests ## End that cluster, and undo all it did to this machine
	@$(TESTBED) down

image: $(VENV)/.tests ## Build the image (IMAGE=name:tag)
	@$(BIN)/python tools/image.py build --tag $(IMAGE)

push: $(VENV)/.tests ## Build and publish it (IMAGE=registry/name:tag)
	$(if $(filter file,$(origin IMAGE)),$(error where to? make push IMAGE=registry/name:tag))
	@$(BIN)/python tools/image.py push --to $(IMAGE)

generate: $(VENV)/.tests ## Write what is generated: values schema, values reference, golden renders
	PYTHONPATH=tools $(BIN)/python -m values_schema --write
	$(BIN)/python -m pytest -q tests/chart --update-golden

# Both of the image's environments get the same version of what is in both: one bill of materials, one list to watch.
lock: $(VENV)/.tests ## Lock the image's packages to versions and hashes, after a change of pyproject.toml (UPGRADE=1: to the newest)
	$(BIN)/$(LOCK) pyproject.toml -o launcher/requirements.txt
	$(BIN)/$(LOCK) runtime/pyproject.toml -c launcher/requirements.txt -o runtime/requirements.txt
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
	  | $(BIN)/$(LOCK) - -o launcher/requirements-build.txt

sbom: $(VENV)/.tests ## Write the image's bill of materials, k8s-parsl.cdx.json (CycloneDX; its Python packages)
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT \
	  && $(BIN)/uv venv --quiet --python $(BIN)/python "$$scratch" \
	  && $(BIN)/uv pip sync --quiet --require-hashes --python "$$scratch/bin/python" $(LOCKED) \
	  && $(BIN)/uv tool run --quiet --from $(CYCLONEDX) cyclonedx-py environment "$$scratch" --pyproject pyproject.toml --output-reproducible -o $(SBOM)
	@echo $(SBOM)

audit: $(VENV)/.tests ## Look the image's packages up among the known vulnerabilities (asks the package index)
	@$(BIN)/pip-audit --strict --disable-pip --require-hashes $(addprefix -r ,$(LOCKED))

format: $(VENV)/.tests ## Format the code
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

clean: ## Remove what these commands made, apart from a running cluster and results
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'make: $(PYTHON) is older than 3.11 (PYTHON=... names another)' >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo 'make: $(PYTHON) cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }

# The launcher's own packages: of the runtime its module `shared` alone, which needs none.
$(VENV)/.checks: pyproject.toml runtime/pyproject.toml | $(BIN)/python
	@echo 'Installing the launcher and its packages into $(VENV) ...'
	@$(INSTALL) --no-deps -e runtime | $(SHORT)
	@$(INSTALL) -e . | $(SHORT)
	@touch $@

$(VENV)/.runs: $(VENV)/.checks examples/tiles/requirements.txt
	@echo 'Installing Parsl and what examples/tiles needs into $(VENV) ...'
	@$(INSTALL) -e runtime -r examples/tiles/requirements.txt | $(SHORT)
	@touch $@

$(VENV)/.tests: $(VENV)/.runs
	@echo 'Installing what the tests need into $(VENV) ...'
	@$(INSTALL) -e '.[dev]' | $(SHORT)
	@touch $@
