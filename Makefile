# Two commands are enough on a fresh machine with Python >= 3.11 and make:
#   make demo   train three methods on ten tasks of real images; then print a comparison and the widths
#   make test   check formatting, lint and types, and run all tests
# Before a release:
#   make docs          build the site below site/, warnings as errors; make test builds it too
#   make test-lowest   run the tests against the lowest versions that pyproject.toml promises
#   make wheel-check   install the wheel into empty environments, pinned and lowest, and try it there
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test format docs test-lowest wheel-check clean

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[data,dev,docs]'
	touch $@

demo: .venv/installed
	$(BIN)/python experiments/demo.py

test: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -n auto

docs: .venv/installed
	$(BIN)/mkdocs build --strict

.venv-lowest/installed: pyproject.toml constraints-lowest.txt
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --constraint constraints-lowest.txt --editable '.[data,dev]'
	touch $@

test-lowest: .venv-lowest/installed
	.venv-lowest/bin/pytest -n auto

wheel-check: .venv/installed
	$(BIN)/python experiments/tooling/wheel_check.py --constraint constraints.txt
	$(BIN)/python experiments/tooling/wheel_check.py --constraint constraints-lowest.txt

format: .venv/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv .venv-lowest site runs .mypy_cache .pytest_cache .ruff_cache .hypothesis
