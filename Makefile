# Everything a fresh machine with Python >= 3.10, make and a pip registry needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-quick check format clean

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[lite0,dev]'
	touch $@

demo: $(VENV)/.installed  ## the main job, offline: demo/report.html
	$(BIN)/fsar demo

test: $(VENV)/.installed  ## the whole suite
	$(BIN)/python -m pytest -n 2 --dist worksteal

# What a developer wants to see all the time: structure, contract of the methods, numbers, reader, evaluation, a
# recogniser, checkpoints, results and the command line on the files of an older version.
QUICK := structure.py files.py config.py old_files.py
QUICK := $(QUICK:%=tests/test_%) tests/alignment tests/results tests/cli/test_describe.py \
  tests/evaluation/test_episodes.py tests/methods/test_entries.py tests/methods/test_methods.py \
  tests/methods/test_golden.py tests/methods/test_gradients.py tests/video/test_reading.py tests/video/test_sampling.py

test-quick: $(VENV)/.installed  ## the tests to run all the time
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow" -k "not half_precision" $(QUICK)

check: $(VENV)/.installed  ## lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) demo
