# `make run` and `make test` set up .venv by themselves; PYTHON names the interpreter it is made from (3.11 or newer).
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
export OMP_WAIT_POLICY := PASSIVE

.DEFAULT_GOAL := help
.PHONY: help setup run test lint types docs report clean

help:
	@echo "make run     evaluate the shipped models (suite quick) into .run, then show table and figure"
	@echo "make test    lint, types, documentation and tests"
	@echo "make docs    build the documentation in site/"
	@echo "make report  rebuild reports/ from results/"
	@echo "make clean   remove .venv, .venv-docs, .run and site"

.venv/base: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.12 ..." if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "setting up .venv (a minute or two) ..."
	@$(PIP) --editable .
	@touch $@

.venv/dev: .venv/base
	@$(PIP) --editable '.[dev,onnx,page,robustbench,minimum-norm]'
	@touch $@

setup: .venv/base

run: .venv/base
	@$(BIN)/harness run --suite quick --store .run/results --reports .run/reports --compare results

test: lint types docs
	@$(BIN)/python -m pytest --quiet --numprocesses 2 --dist loadfile

lint: .venv/dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .

types: .venv/dev
	@$(BIN)/mypy

.venv-docs/ready: docs/requirements.txt
	@test -x .venv-docs/bin/python || $(PYTHON) -m venv .venv-docs
	@.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --requirement docs/requirements.txt
	@touch $@

docs: .venv-docs/ready
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --quiet

report: .venv/base
	@$(BIN)/harness report --store results --out reports --suite full --suite epsilon

clean:
	rm -rf .venv .venv-docs .run site
