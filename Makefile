# The commands people type. `make` alone lists them.
VENV    := .venv
PYTHON  := python3
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
DOCKER  := docker
# The folder in which `make demo` runs; its models stay there.
DEMO    := demo-out
# Figures that docs/performance.md is made of.
KEPT    := docs/performance
BIN     := $(abspath $(VENV))/bin

.DEFAULT_GOAL := help
.PHONY: help demo test unit dist controlplane chart e2e bench performance lint format verify generate lock images tools venv clean

help: ## List these commands
	@sed -n 's/^\([a-z0-9 ]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "  make %-30s %s\n", $$1, $$2}'

demo: venv ## Train three models on 336,776 flights with four local workers each; no cluster needed
	@mkdir -p $(DEMO)
	cd $(DEMO) && $(BIN)/python ../manifests/samples/data/flights.py .scalejob/data/flights.parquet
	cd $(DEMO) && $(BIN)/scalejob run ../manifests/samples/flights-linear.yaml --workers 4
	cd $(DEMO) && $(BIN)/scalejob run ../manifests/samples/flights-svm.yaml --workers 4
	cd $(DEMO) && $(BIN)/scalejob run ../manifests/samples/flights-kmeans.yaml --workers 4
	@echo "The models are scikit-learn estimators: scaletrain.load('$(DEMO)/.scalejob/models/flights-linear')"

test: venv tools ## All tests that need no cluster: the tiers unit, dist, controlplane and chart
	$(BIN)/pytest

unit dist controlplane chart: venv ## One tier of the tests
	$(BIN)/pytest tests/$@

e2e: venv ## The tests on a real cluster, the one of KUBECONFIG, that has the images
	$(BIN)/pytest tests/e2e

bench: venv ## Figures of speed beside those of peers; minutes
	$(BIN)/python -m tests.bench

performance: venv ## Measure all that docs/performance.md shows but the fault runs, and write it; a quarter of an hour, root
	@mkdir -p $(KEPT)
	-$(BIN)/python -m tests.bench --json $(KEPT)/bench.json
	-$(BIN)/python -m tests.bench.operator --json $(KEPT)/operator.json
	-$(BIN)/python -m tests.bench.larger_than_memory --json $(KEPT)/larger_than_memory.json
	-$(BIN)/python -m tests.bench.quality --json $(KEPT)/quality.json
	-$(BIN)/python -m tests.bench.sha_matrix --json $(KEPT)/sha_matrix.json
	$(BIN)/python -m tests.bench.report

lint: venv ## Style, types and the directions of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: venv ## Format the code, and repair what can be repaired
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

verify: venv ## Fail if a generated file is out of date
	$(BIN)/python -m scalejob.api.generate --check
	$(BIN)/python -m charts.dashboard --check
	$(BIN)/python -m charts.plain_manifest --check
	$(BIN)/python -m tests.bench.report --check

generate: venv ## Write the CRD, its copy in the chart, the reference, the dashboard, manifests/operator.yaml and docs/performance.md
	$(BIN)/python -m scalejob.api.generate
	$(BIN)/python -m charts.dashboard
	$(BIN)/python -m charts.plain_manifest
	$(BIN)/python -m tests.bench.report

lock: venv ## Pin the packages of the images anew
	PATH="$(BIN):$$PATH" docker/lock

images: ## Build scalejob/operator and scalejob/trainer
	$(DOCKER) build --target operator --tag scalejob/operator:$(VERSION) .
	$(DOCKER) build --target trainer --tag scalejob/trainer:$(VERSION) .

tools: venv ## Compile what the test tiers need and this machine lacks (etcd, kube-apiserver, helm, ...); minutes, once
	@$(BIN)/python -m tests.tools build

venv: $(VENV)/.installed ## The virtual environment with everything, in .venv

# The stamp is younger than pyproject.toml when the environment is up to date.
$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed; $(PYTHON) is %d.%d. Name another one: make PYTHON=python3.12" % sys.version_info[:2])'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV): torch and its libraries are several gigabytes, so the first time takes minutes."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

clean: ## Remove what the commands above have made, but not the virtual environment
	rm -rf $(DEMO) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find operator trainer tests -name __pycache__ -type d -exec rm -rf {} +
