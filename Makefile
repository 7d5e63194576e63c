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
BENCHMARKS := PYTHONPATH=tests:benchmarks $(BIN)/python -m bench
IMAGE ?= k8s-parsl:dev
SBOM ?= k8s-parsl.cdx.json
# Not one of the tests' packages: it brings a package that kubernetes, and so Parsl, imports if installed, for two seconds.
CYCLONEDX := cyclonedx-bom==7.5.0
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
  --custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade)
# Shows what pip installs, one line per package; packages that are installed already are not shown.
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off
SHORT := sed -un -e 's/^Collecting \([^ ;]*\).*/  \1/p' -e 's/^  *Downloading [^ ]* (\(.*\))$$/    \1/p' -e 's/^Installing collected.*/  unpacking all of it .../p'
# make itself ends with 2, for every exit code of the command.
SAY_CODE := { code=$$?; echo "exit code $$code (see docs/user/results.md; make itself ends with 2)" >&2; exit $$code; }
LOCKED := launcher/requirements.txt runtime/requirements.txt

.PHONY: help run test check check-cluster faults data-safety argocd external-secrets bench bench-page mutation cluster cluster-down image push generate lock sbom
.PHONY: audit format clean

help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

run: $(VENV)/.runs ## Run examples/tiles on this machine, without a cluster (VALUES=file WORKFLOW=folder run another workflow; FRESH=1: take over nothing of a run that failed)
	@$(if $(and $(filter-out examples/tiles,$(WORKFLOW)),$(wildcard $(WORKFLOW)/requirements.txt)),echo '$(WORKFLOW)/requirements.txt is not installed into $(VENV): name an environment that has it in laptop.python (docs/user/own-workflow.md)')
	@$(BIN)/k8s-parsl run $(foreach file,$(VALUES),-f $(file)) --path $(WORKFLOW) $(if $(FRESH),--fresh) || $(SAY_CODE)

test: $(VENV)/.tests ## Run every test that this machine can run (REQUIRE_CLUSTER=1: fail if there is no cluster)
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 $(PYTEST_ARGS)

check: $(VENV)/.tests ## Check style, types and the order of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

check-cluster: $(VENV)/.checks ## List what is missing in your cluster for an install of VALUES=file (RELEASE=name NAMESPACE=name)
	@$(BIN)/k8s-parsl check $(RELEASE) $(foreach file,$(VALUES),-f $(file)) $(if $(NAMESPACE),--namespace $(NAMESPACE)) || $(SAY_CODE)

faults: $(VENV)/.tests ## Test every fault on the test cluster, also with Parsl's own provider; write reports/faults.md (hours)
	@FAULTS_ALONE=1 PYTHONPATH=tests $(BIN)/python -m cluster.faults

data-safety: $(VENV)/.tests ## Test what faults cost the data, also with Parsl alone; write reports/data-safety.md (30 minutes, needs root)
	@PYTHONPATH=tests $(BIN)/python -m data_safety $(DATA_SAFETY)

argocd: $(VENV)/.tests ## Test deploy/argocd with a real Argo CD on the test cluster (5 minutes, 10 the first time)
	@$(BIN)/python -m pytest -m slow tests/cluster/test_argocd.py

external-secrets: $(VENV)/.tests ## Test the Ceph key by a real External Secrets Operator on the test cluster (5 minutes the first time)
	@$(BIN)/python -m pytest -m slow tests/cluster/test_cephfs.py

bench: $(VENV)/.tests ## Measure how fast it is (ONLY=names of benchmarks; BENCH="--size full --publish" writes docs/performance.md)
	@$(BENCHMARKS) $(foreach name,$(ONLY),--only $(name)) $(BENCH)

bench-page: $(VENV)/.tests ## Write docs/performance.md and its plots again, from docs/performance.json
	@$(BENCHMARKS) --page

mutation: $(VENV)/.tests ## Change chart and settings in one place at a time and run the tests; write reports/mutation.md (hours)
	@$(BIN)/python tools/mutation.py --jobs 2 --write

cluster: $(VENV)/.tests ## Start a real two-node test cluster on this machine (needs root and Go)
	@$(TESTBED) up

cluster-down: $(VENV)/.tests ## Stop the test cluster and undo all its changes to this machine
	@$(TESTBED) down

image: $(VENV)/.tests ## Build k8s-parsl's image (IMAGE=name:tag)
	@$(BIN)/python tools/image.py build --tag $(IMAGE)

push: $(VENV)/.tests ## Build and publish k8s-parsl's image (IMAGE=registry/name:tag)
	$(if $(filter file,$(origin IMAGE)),$(error IMAGE is not set: make push IMAGE=registry/name:tag))
	@$(BIN)/python tools/image.py push --to $(IMAGE)

generate: $(VENV)/.tests ## Write the generated files: values schema, values reference, golden files
	PYTHONPATH=tools $(BIN)/python -m values_schema --write
	$(BIN)/python -m pytest -q tests/chart --update-golden

# Packages in both of the image's environments get one version, so there is one bill of materials.
lock: $(VENV)/.tests ## Lock the image's packages to versions and hashes after a change of pyproject.toml (UPGRADE=1: newest versions)
	$(BIN)/$(LOCK) pyproject.toml -o launcher/requirements.txt
	$(BIN)/$(LOCK) runtime/pyproject.toml -c launcher/requirements.txt -o runtime/requirements.txt
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
	  | $(BIN)/$(LOCK) - -o launcher/requirements-build.txt

sbom: $(VENV)/.tests ## Write a bill of materials of the image's Python packages, k8s-parsl.cdx.json (CycloneDX)
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT \
	  && $(BIN)/uv venv --quiet --python $(BIN)/python "$$scratch" \
	  && $(BIN)/uv pip sync --quiet --require-hashes --python "$$scratch/bin/python" $(LOCKED) \
	  && $(BIN)/uv tool run --quiet --from $(CYCLONEDX) cyclonedx-py environment "$$scratch" --pyproject pyproject.toml --output-reproducible -o $(SBOM)
	@echo $(SBOM)

audit: $(VENV)/.tests ## Look for known vulnerabilities in the image's packages (asks the package index)
	@$(BIN)/pip-audit --strict --disable-pip --require-hashes $(addprefix -r ,$(LOCKED))

format: $(VENV)/.tests ## Format the code
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

clean: ## Remove what these commands created, except a running cluster and results
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'make: $(PYTHON) is older than 3.11 (name another with PYTHON=...)' >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo 'make: $(PYTHON) cannot create a virtual environment; on Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }

# The launcher's packages. Of the runtime it uses only `shared`, which needs no packages.
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
