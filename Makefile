# Everything a fresh machine with Python >= 3.10, make and a pip registry needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check format clean

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[lite0,dev]'
	touch $@

demo: $(VENV)/.installed  ## the main job, offline: demo/report.html
	$(BIN)/fsar demo

test: $(VENV)/.installed  ## the whole suite
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: $(VENV)/.installed  ## lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) demo
