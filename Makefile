# Both targets work on a fresh machine with Python 3.11 or newer: they build .venv first.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip install -qq --disable-pip-version-check -c constraints.txt

.PHONY: demo test

# The whole story on built-in worlds: record, train, calibrate, watch. CPU only.
demo: .venv/ready
	$(BIN)/python examples/demo.py --out demo

test: .venv/ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pytest -n 2 --dist loadscope

# torch first and alone: nothing that comes after may choose another build of it.
.venv/ready: pyproject.toml constraints.txt
	@echo "Setting up .venv: about 1.5 GB, a minute or more"
	$(PYTHON) -m venv .venv
	$(PIP) torch
	$(PIP) -e ".[dev]"
	touch $@
