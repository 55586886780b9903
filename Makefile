# Stillframe. `make` alone prints this help.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

VENV := .venv
PY := $(VENV)/bin/python
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
PYTEST := pytest -q
# Two cores: files are spread over workers only where tests share nothing.
SHELL_SCRIPTS = .ci/run examples/demo proto/generate $(shell grep -lE '^\#!.*(ba)?sh' tests/cluster/* tests/crashers/* tests/s3/* deploy/helm/* 2>/dev/null)
C_FILES = $(shell git ls-files 'preload/*.[ch]' 'tests/*.[ch]' 'tests/*.cc' 'tests/*.cpp' 'examples/*.c' 'examples/*.cpp')
CLUSTER_NAME ?= sftest

.PHONY: help
help: ## This help
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- set-up ---------------------------------------------------------------------
.PHONY: packages venv build generate generate-reports
packages: ## Install the Debian packages that building and testing need (says which)
	@tests/cluster/install-packages

venv: $(VENV)/.installed ## Virtual environment with the pinned, hashed dependencies
$(VENV)/.installed: requirements-dev.lock pyproject.toml
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Stillframe needs Python 3.11 or newer; this is " + sys.version.split()[0])'
	@echo "installing the Python dependencies into $(VENV)"
	@test -x $(PY) || python3 -m venv $(VENV)
	@$(VENV)/bin/pip install -q --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(VENV)/bin/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

build: packages venv ## The preload library, the crashers and the examples
	@$(MAKE) --no-print-directory -s -C preload ARCH=x86_64
	@$(MAKE) --no-print-directory -s -C preload ARCH=aarch64
	@$(MAKE) --no-print-directory -s -C tests/crashers
	@$(MAKE) --no-print-directory -s -C examples

generate: venv ## Everything generated: protocol, CRDs, note table, coverage, rendered chart
	proto/generate
	crds/generate
	preload/generate-note
	tests/integration/preload/matrix/generate-coverage
	deploy/helm/render-examples

generate-reports: build ## docs/reference/examples.md, from crashes of the examples on a real cluster
	UPDATE_EXAMPLES=1 $(PYTEST) tests/e2e/test_languages.py

lock: venv ## Pin the dependencies anew
	uv pip compile -q --generate-hashes --no-emit-index-url --no-header --extra agent --extra operator pyproject.toml -o requirements.lock
	uv pip compile -q --generate-hashes --no-emit-index-url --no-header --all-extras -c requirements.lock pyproject.toml -o requirements-dev.lock

# --- checks ---------------------------------------------------------------------
.PHONY: format lint type chart
format: venv ## Format Python and C
	ruff format .
	ruff check --fix -q .
	clang-format -i $(C_FILES)

type: venv ## mypy --strict
	mypy src/stillframe agent/stillframe_agent operator/stillframe_operator tests/cluster tests/support
	mypy --scripts-are-modules crds/generate preload/fuzz/make-corpus preload/generate-note tests/integration/preload/matrix/generate-coverage

lint: packages venv type ## Style, types, layers, C, shell, chart, generated files up to date
	ruff format --check .
	ruff check .
	lint-imports
	clang-format --dry-run -Werror $(C_FILES)
	$(MAKE) --no-print-directory -s -C preload tidy ARCH=x86_64
	$(MAKE) --no-print-directory -s -C preload tidy ARCH=aarch64
	shellcheck $(SHELL_SCRIPTS)
	crds/generate --check
	preload/generate-note --check
	tests/integration/preload/matrix/generate-coverage --check
	$(PY) -m bench.performance --check
	deploy/helm/render-examples --check
	PATH="$$(tests/cluster/cluster bin):$$PATH" helm lint --strict deploy/helm/stillframe

# --- tests ----------------------------------------------------------------------
.PHONY: test test-unit test-integration test-preload test-agent test-api test-e2e ci
.PHONY: fuzz-preload fuzz-agent soak-preload chaos-agent
test: lint build test-unit fuzz-preload fuzz-agent test-integration soak-preload chaos-agent test-api test-e2e ## Everything we claim (long runs shortened)

test-unit: venv build ## Unit and property tests: need nothing
	$(PYTEST) tests/unit tests/property

test-integration: venv build ## Real crashes on this kernel, gdb and drgn as oracles (root)
	@tests/s3/build > /dev/null
	$(PYTEST) tests/integration

test-preload: venv build ## The library: the crash matrix, which it prints, and runtimes that must not notice it
	$(PYTEST) tests/integration/preload tests/integration/runtimes
	tests/integration/preload/matrix/generate-coverage --print

test-agent: venv build ## Capture, analysis, the agent and local mode, of the tests above
	$(PYTEST) tests/{unit,integration}/{agent,analysis,capture,cli} tests/property/{analysis,capture,corefile}

test-api: venv packages ## A real etcd and kube-apiserver: CRDs, webhook, RBAC, Lease, kopf
	tests/cluster/build
	$(PYTEST) tests/api

test-e2e: venv build ## A real two-node Kubernetes
	@tests/s3/build > /dev/null
	$(PYTEST) tests/e2e

ci: test ## What CI runs

# --- long runs; `make test` makes short ones of them -----------------------------
MINUTES ?= 0
N ?= 200

fuzz-preload: packages ## Fuzz the library's pure parts with sanitizers (MINUTES=0: 5 s each)
	@$(MAKE) --no-print-directory -s -C preload/fuzz MINUTES=$(MINUTES)

fuzz-agent: venv ## Fuzz what reads hostile bytes in the agent (MINUTES=0: 5 s each)
	$(PY) -m tests.fuzz --minutes $(MINUTES)

soak-preload: venv build ## N crashes, 64 at once, against an agent killed at random (SEED=n)
	$(PY) -m tests.soak.preload --crashes $(N) $(if $(SEED),--seed $(SEED))

chaos-agent: N = 50
chaos-agent: venv build ## N crashes; agents killed at every line of their work on them (SEED=n)
	$(PY) -m tests.soak.chaos --crashes $(N) $(if $(SEED),--seed $(SEED))

# --- the main job ---------------------------------------------------------------
.PHONY: demo demo-down images bench bench-preload bench-agent bench-report
demo: ## The main job on a real cluster (CLUSTER=own|kind|current)
	@examples/demo up

demo-down: ## Remove what `make demo` left up
	@examples/demo down

images: build ## Build the container images
	tests/cluster/images build

BENCH_PRELOAD := preload.runtime preload.run
BENCH_AGENT := hold.run core.run storm.run analysis.run
bench: bench-preload bench-agent ## Every benchmark that needs no cluster, with its peers

bench-preload: BENCHES := $(BENCH_PRELOAD)
bench-agent: BENCHES := $(BENCH_AGENT)
bench-report: BENCHES := report.run
bench-preload bench-agent bench-report: venv build
	@failed=; for b in $(BENCHES); do echo "== $$b"; $(PY) -m bench.$$b || failed="$$failed $$b"; done; \
	$(PY) -m bench.performance; test -z "$$failed" || { echo "a promise is not kept:$$failed"; exit 1; }

.PHONY: clean
clean: ## Remove what was built here (not the cache of cluster binaries)
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
