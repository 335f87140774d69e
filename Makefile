# Everything a developer runs. Needs Python 3.11 or newer and make; uv is fetched when missing.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup quickstart quickstart-s3 s3 test check format lint types lock smoke chart
.PHONY: manifests dev docs observe bench clean

UV := $(or $(shell command -v uv 2>/dev/null),.tools/bin/uv)
BIN := .venv/bin
STAMP := .venv/.synced

# uv does not read pip's variables: a local folder of wheels or a mirror named there counts here too.
comma := ,
space := $(subst ,, )
ifneq ($(PIP_FIND_LINKS),)
export UV_FIND_LINKS ?= $(subst $(space),$(comma),$(strip $(PIP_FIND_LINKS)))
endif
ifneq ($(PIP_INDEX_URL),)
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif

help:  ## list these commands
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(STAMP)  ## install the project and its tools into .venv

# Not `uv sync`: it resolves for every platform at once and so passes over local wheels that are
# made for this one, such as a torch without CUDA. Bytecode is compiled here: where Python may not
# write it later (PYTHONDONTWRITEBYTECODE, a read-only image), each start would take 20 s longer.
$(STAMP): pyproject.toml | $(UV)
	$(UV) venv --quiet --allow-existing .venv
	$(UV) pip install --quiet --compile-bytecode --python .venv \
	  --editable '.[plots]' --group dev
	$(BIN)/python -m compileall -q naics_job
	@touch $@

.tools/bin/uv:
	python3 -m venv .tools
	.tools/bin/python -m pip install --quiet 'uv>=0.9'

quickstart: setup  ## train, evaluate and export on the whole taxonomy, without any network
	$(BIN)/naics-embedder train --profile quickstart

smoke: setup  ## the same on 60 codes, in a minute or so
	$(BIN)/naics-embedder train --profile smoke

s3: setup  ## an S3 server on this machine until Ctrl-C; prints the variables that lead to it
	$(BIN)/python tests/support/s3_server.py

quickstart-s3: setup  ## the quickstart with data, checkpoints and results in such a server
	$(BIN)/python tests/support/s3_server.py --port 0 -- $(BIN)/naics-embedder train \
	  --profile quickstart dirs.data_dir=s3://naics/data dirs.output_dir=s3://naics/outputs \
	  dirs.checkpoint_dir=s3://naics/checkpoints

test: setup  ## unit and integration tests
	$(BIN)/pytest -m "not e2e and not gpu"

.PHONY: test-cluster
test-cluster: setup  ## a run on the cluster of KUBECONFIG, from install to uninstall; IMAGE=a CPU image
	NAICS_E2E_IMAGE=$(IMAGE) $(BIN)/pytest -n0 -m e2e tests/e2e

check: lint types lock-check manifests-check  ## every static check of the CI

lint: setup  ## style, format, import layers, YAML
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/yamllint --strict .

types: setup  ## mypy, strict
	$(BIN)/mypy

format: setup  ## put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Hashes are those of the public registry: a local folder of wheels must not leak into the lock.
COMPILE = env -u UV_FIND_LINKS $(UV) pip compile --quiet --upgrade --generate-hashes \
	--python-version 3.11 --python-platform x86_64-manylinux_2_28 \
	--no-emit-index-url --no-annotate --no-header

lock: setup  ## renew requirements.lock and that of the image's build (Linux x86-64, Python 3.11)
	$(COMPILE) pyproject.toml --output-file requirements.lock
	$(COMPILE) image/build-requirements.in --output-file image/build-requirements.lock
	$(BIN)/python .ci/lock.py --stamp

.PHONY: lock-check
lock-check: setup
	$(BIN)/python .ci/lock.py

chart: setup  ## tests of the Helm chart and of k8s/, without a cluster
	$(BIN)/pytest tests/unit/chart

manifests: setup  ## renew k8s/ and the table of values in the chart's README
	$(BIN)/python .ci/chart.py

.PHONY: manifests-check
manifests-check: setup
	$(BIN)/python .ci/chart.py --check

# Needs Docker, Skaffold, Helm, kubectl and a kind or minikube cluster as the current context. Ctrl-C
# removes the run again. Metrics of the pods are at http://localhost:9400/metrics meanwhile.
dev:  ## build the CPU image and run it on kind or minikube with a development S3
	skaffold dev --profile dev --port-forward=pods

docs: setup  ## renew docs/metrics.md from the catalogue of metrics
	$(BIN)/python -m naics_job.observability.document > docs/metrics.md

.PHONY: dashboards
dashboards: setup  ## renew the dashboards that the chart ships from dashboards/
	$(BIN)/python -m dashboards

observe: setup  ## the quickstart under a Prometheus; draws the dashboards to docs/img
	$(BIN)/python -m dashboards.observe docs/img -- \
	  $(BIN)/naics-embedder train --profile quickstart metrics.linger_s=5

bench: setup  ## every benchmark of benchmarks/
	set -e; for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script; done

CHAOS := all
.PHONY: chaos
chaos: setup  ## break runs on purpose and count what is lost; CHAOS=sigkill COUNT=20 for a part
	$(BIN)/python benchmarks/chaos/run.py $(CHAOS) $(if $(COUNT),--count $(COUNT)) $(CHAOS_OPTIONS)

include image/image.mk

clean:  ## remove what was built and cached; data, logs, outputs and checkpoints stay
	rm -rf .venv .tools build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	rm -rf .import_linter_cache uv.lock
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
