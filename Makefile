# Two commands are enough on a fresh machine with Python >= 3.11 and make:
#   make demo   train three methods on ten tasks of real images; then print a comparison and the widths
#   make test   check formatting, lint and types, and run all tests
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test format clean

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[data,dev]'
	touch $@

demo: .venv/installed
	$(BIN)/python experiments/demo.py

test: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -n auto

format: .venv/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv runs .mypy_cache .pytest_cache .ruff_cache .hypothesis
