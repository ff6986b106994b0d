# Plumbline. `make help` lists what there is; every target sets up what it needs.
SHELL := /bin/sh
.DEFAULT_GOAL := help
PY := .venv/bin/python
BIN := .venv/bin
SOURCES := plumbline servicekit feature_service registry_service serving trainer examples tests deploy benchmarks
# What the local stack serves: an environment file, see docs/operations.md.
STACK_ENV ?= examples/flights/stack.env
export STACK_ENV
# Tests run in as many processes as there are cores, but no more than four.
WORKERS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); [ $$n -gt 4 ] && n=4; echo $$n)

.PHONY: help
help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2} /^## / {printf "\n%s\n", substr($$0, 4)}' Makefile

## The product
.PHONY: setup demo stack stack-status stack-logs stack-down clean-state apply train
setup: ## make .venv what requirements.lock says (every target does this first)
	@sh deploy/local/bootstrap.sh

demo: setup ## run the main job on real flights, from nothing to live predictions
	@$(PY) -m examples.flights.demo

stack: setup ## start feature_service, registry_service and serving on this machine
	@$(PY) -m deploy.local.stack up

stack-status: setup ## what runs, where, and how it feels
	@$(PY) -m deploy.local.stack status

stack-logs: setup ## follow the logs of the stack (Ctrl-C stops following)
	@$(PY) -m deploy.local.stack logs

stack-down: setup ## stop what `make stack` or `make demo` started
	@$(PY) -m deploy.local.stack down

clean-state: setup ## stop the stack and remove .plumbline (data, models, registry, logs)
	@$(PY) -m deploy.local.stack clean

apply: setup ## register the Feast definitions of the stack's feature repo
	@$(PY) -m deploy.local.stack apply

train: setup ## run the trainer on the flights example against the running stack
	@$(PY) -m deploy.local.stack run $(PY) -m trainer --config examples/flights/training.yaml

## Checks
.PHONY: test test-spark check format lint types imports protos protos-check lock lock-spark bench-lock
test: check ## every check and every test; those of Spark where there is Java
	@$(PY) -m pytest -q -n $(WORKERS) --dist loadgroup
	@if why=$$(sh deploy/local/java.sh); then $(MAKE) -s test-spark; else echo "tests/spark skipped: $$why"; fi

test-spark: setup ## the tests of Spark alone, in an environment of their own (needs Java 17)
	@why=$$(sh deploy/local/java.sh) || { echo "tests/spark: $$why" >&2; exit 1; }
	@python=$$(sh deploy/local/spark_env.sh) && TZ=America/New_York $$python -m pytest -q tests/spark

check: setup lint types imports protos-check ## format, lint, types, import rules, contracts

format: setup ## format the code and the contracts
	@$(BIN)/ruff check -q --fix $(wildcard $(SOURCES)); $(BIN)/ruff format -q $(wildcard $(SOURCES)); cd protos && ../$(BIN)/buf format -w

lint: setup
	@$(BIN)/ruff check -q $(wildcard $(SOURCES))
	@$(BIN)/ruff format --check -q $(wildcard $(SOURCES)) || { echo "formatting differs: run make format"; exit 1; }
	@echo "lint        ok"

types: setup
	@$(BIN)/mypy --no-error-summary && echo "types       ok"

imports: setup
	@out=$$($(BIN)/lint-imports --no-cache 2>&1) && echo "imports     ok" || { echo "$$out"; exit 1; }

protos: setup ## generate the Python contracts from protos/
	@sh protos/generate.sh .

protos-check: setup
	@cd protos && ../$(BIN)/buf lint && ../$(BIN)/buf format -d --exit-code >/dev/null || { echo "protos: run make format"; exit 1; }
	@sh protos/check.sh
	@echo "contracts   ok"

bench-%: setup
	@$(PY) -m benchmarks.$(subst -,_,$*)

bench-lock: setup ## resolve the peers' environments anew
	@for n in benchmarks/peers/*.in; do $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --upgrade $$n -o $${n%.in}.txt; done

lock: setup ## resolve pyproject.toml anew into requirements.lock
	@$(BIN)/uv pip compile -q --universal --generate-hashes --extra all --no-header --upgrade pyproject.toml -o requirements.lock
	@$(MAKE) -s lock-spark

lock-spark: setup ## resolve the extra [spark] into requirements-spark.lock, beside requirements.lock
	@$(BIN)/uv pip compile -q --universal --generate-hashes --extra spark --extra dev -c requirements.lock --no-header pyproject.toml -o requirements-spark.lock

## Containers
.PHONY: bento container
bento: setup ## build the Bento of serving
	@sh deploy/docker/build_bento.sh

container: setup ## build the container images (docker, podman or buildah)
	@sh deploy/docker/build_images.sh
