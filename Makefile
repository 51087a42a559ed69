# `make demo` runs the main job to its end, `make test` proves everything. Both set up what they
# need in .venv, once: a stamp file stands for each step that has been done.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
# Set by hand when the right one is not found: make demo PYTHON=/opt/python3.12/bin/python3
PYTHON ?=
# What goes to `wm demo`: make demo INPUT=events.csv OUT=results ARGS='--splitting run'
INPUT ?=
OUT ?= out
ARGS ?=
DEMO = $(BIN)/wm demo --output '$(OUT)' $(if $(INPUT),--input '$(INPUT)') $(ARGS)
# What goes to pytest: make test TESTS=tests/test_config.py
TESTS ?= tests

help: ## Show this.
	@echo 'make demo [INPUT=events.csv] [OUT=out] [ARGS=...]  the dimuon workload, to its end'
	@echo 'make up   [the same]                               and stay up until Ctrl-C'
	@echo 'make test [TESTS=tests]                            lint, types and all tests'
	@echo 'make bench [ARGS="--runs 1 w1"]                    how fast the bus is on this machine'
	@echo 'make lint                                          ruff and mypy'
	@echo 'make clean                                         remove what the others have made'

demo: $(VENV)/demo.stamp
	@$(DEMO)

up: $(VENV)/demo.stamp
	@$(DEMO) --stay

test: lint $(VENV)/system.stamp
	@$(BIN)/python -m pytest --numprocesses auto $(TESTS)

bench: $(VENV)/demo.stamp
	@$(BIN)/python -m benchmarks $(ARGS)

lint: $(VENV)/test.stamp
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -rf _trial_temp* var/demo out twisted/plugins/dropin.cache
	find wmtwisted tests twisted -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/python.stamp: .ci/python
	@.ci/python '$(VENV)' '$(PYTHON)'
	@touch $@

$(VENV)/demo.stamp: $(VENV)/python.stamp setup.cfg pyproject.toml
	@echo 'installing wmtwisted into $(VENV)'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo]'
	@touch $@

$(VENV)/test.stamp: $(VENV)/demo.stamp setup.cfg pyproject.toml
	@echo 'installing what the tests need into $(VENV)'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo,test]'
	@touch $@

$(VENV)/system.stamp: .ci/packages $(VENV)/python.stamp
	@.ci/packages mariadbd=mariadb-server-core mariadb=mariadb-client-core chromium=chromium
	@touch $@

.PHONY: help demo up test bench lint clean
