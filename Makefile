# Every target does the set-up it needs: Python environment, engines, base image, the real CLI.
# What is fetched comes from the package clients as this machine has them configured.

PYTHON ?=
VENV_PYTHON := .venv/bin/python
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup venv demo test quick matrix steady lint fmt bench fuzz crash soak limits \
	cli-matrix mutations stop clean

help: ## what can be made
	@sed -n 's/^\([a-z-]*\):.*## /make \1\t/p' Makefile | expand -t 17

venv:
	@PYTHON='$(PYTHON)' tools/setup/bootstrap.sh

setup: venv ## everything that demo and test need, and nothing more
	@$(VENV_PYTHON) -m tools.setup all

demo: venv ## hand off a plan to a box, against a scripted model; LIVE=1 uses your own login
	@$(VENV_PYTHON) -m tools.setup demo $(if $(filter 1 yes true,$(LIVE)),--live)

test: venv ## lint, types, direction of imports, all tests; ARGS='-k harvest' narrows them
	@$(VENV_PYTHON) -m tools.setup test $(ARGS)

quick: venv ## lint, types, unit and git tests: the inner loop, without engines
	@$(VENV_PYTHON) -m tools.check quick $(ARGS)

matrix: venv ## all tests, each engine with each version of the CLI
	@PLANDOCK_TEST_MATRIX=full $(VENV_PYTHON) -m tools.setup test $(ARGS)

steady: setup ## all tests N times with the cores kept busy; ARGS='--rounds 3 tests/crash'
	@$(VENV_PYTHON) -m tools.steady $(ARGS)

lint: venv ## ruff, mypy, direction of imports
	@$(VENV_PYTHON) -m tools.check

fmt: venv ## format, and mend what ruff can mend
	@$(VENV_PYTHON) -m ruff check --quiet --fix . ; $(VENV_PYTHON) -m ruff format .

bench: setup ## one JSON object of ratios, measured side by side
	@$(VENV_PYTHON) -m tools.bench $(ARGS)

fuzz: venv ## the parsers and matchers, for longer than in test
	@HYPOTHESIS_PROFILE=fuzz $(VENV_PYTHON) -m pytest -n 2 --timeout 3600 tests/unit $(ARGS)
	@case "$$(uname)" in Linux) mkdir -p .setup/fuzz && $(VENV_PYTHON) tests/fuzz/gateway_head.py \
	    -max_total_time=600 -max_len=4096 -dict=tests/fuzz/gateway_head.dict \
	    -artifact_prefix=.setup/fuzz/ ;; esac

crash: setup ## supervisor killed at every step and 3 times inside each, engine at every step; ARGS='-k podman'
	@CRASH_POINTS=3 CRASH_SHARES=2 $(VENV_PYTHON) -m pytest -s tests/crash $(ARGS)

soak: setup ## twenty acceptances at once; 200 runs through the queue, and what they leave; ARGS='--runs 40 --engine podman'
	@PLANDOCK_TEST_MATRIX=full $(VENV_PYTHON) -m pytest tests/e2e/test_queue.py
	@$(VENV_PYTHON) -m tools.soak $(ARGS)

limits: setup ## whole runs through limits and failures with both CLIs; prints what each cost
	@PLANDOCK_TEST_LIMITS=all $(VENV_PYTHON) -m pytest -s tests/e2e/test_limits.py $(ARGS)

cli-matrix: venv ## what each version of the CLI tells its hooks; ARGS='2.1.197 latest' names them
	@$(VENV_PYTHON) -m tools.setup programs && $(VENV_PYTHON) -m tools.cli_matrix $(ARGS)

mutations: setup ## rules broken on purpose, each to be caught by a test; ARGS='NAME…', ARGS=--list
	@$(VENV_PYTHON) -m tools.mutations $(ARGS)

stop: venv ## stop the Docker daemon, if set-up started it
	@$(VENV_PYTHON) -m tools.setup stop

clean: ## everything that was made here; engines and images stay
	@if [ -x $(VENV_PYTHON) ]; then $(VENV_PYTHON) -m tools.setup stop; fi
	rm -rf .venv .setup build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
