# make demo        the demonstration, on a fresh machine too
# make test        linters, types, layers and the quick tests: minutes
# make test-slow   whole models and accuracy: needs the folder of models beside the checkout
# make lint        linters, types and layers alone
# make clean       remove what was built, the environment included
#
# PYTHON=python3.12 chooses the interpreter, TORCH_INDEX=https://download.pytorch.org/whl/cpu a
# PyTorch without GPU libraries, VENV another place for the environment.

VENV ?= .venv
BIN := $(VENV)/bin
export VENV PYTHON TORCH_INDEX

.PHONY: demo test test-slow lint environment environment-dev clean

demo: environment
	$(BIN)/hyq-tvm demo

test: lint
	$(BIN)/python -m pytest -m "not slow"

test-slow: environment-dev
	$(BIN)/python -m pytest -m slow

lint: environment-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

environment:
	@scripts/set_up_environment.sh

environment-dev:
	@scripts/set_up_environment.sh dev

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis hyq-tvm-report.html
