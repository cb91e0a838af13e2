# Everything a fresh machine with Python >= 3.10, make and a pip registry needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Processes that run tests: one more than cores, since some tests wait for a process or a page; at most eight, since each
# takes more than a gigabyte. `make test JOBS=1`.
JOBS ?= $(shell $(PYTHON) -c "import os; print((os.cpu_count() or 1) + 1)")
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --maxprocesses 8 --dist worksteal

# Python keeps what it compiles: otherwise each process of the suite, of which there are many, compiles 300 files again.
unexport PYTHONDONTWRITEBYTECODE

# For the page of exported recognisers (`fsar export`); 12 MB that stay out of the repository. A wheel built after that
# holds them.
WEB := src/fsar/export/onnxruntime-web
WEB_VERSION := 1.20.1
WEB_FILES := ort.wasm.min.js ort-wasm-simd-threaded.mjs ort-wasm-simd-threaded.wasm

.PHONY: demo test test-quick check docs format clean web

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[lite0,dev]'
	touch $@

demo: $(VENV)/.installed  ## the main job, offline: demo/report.html
	$(BIN)/fsar demo

test: $(VENV)/.installed  ## the whole suite
	$(PYTEST)

# What a developer wants to see all the time: structure, contract of the methods, numbers, reader, evaluation, a
# recogniser, checkpoints, results and the command line on the files of an older version.
QUICK := test_structure test_files test_config test_old_files alignment/test_alignment results/test_results \
  cli/test_describe evaluation/test_episodes methods/test_entries methods/test_methods methods/test_golden \
  methods/test_gradients video/test_reading video/test_sampling
QUICK := $(QUICK:%=tests/%.py)
LEFT := $(filter-out $(QUICK),$(sort $(shell find tests -name "test_*.py")))

test-quick: $(VENV)/.installed  ## the tests to run all the time
	@echo "left out: tests marked slow or of half precision, and $(words $(LEFT)) files: $(LEFT:tests/%.py=%)"
	$(PYTEST) -m "not slow" -k "not half_precision" $(QUICK)

check: $(VENV)/.installed  ## lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed  ## the documentation: site/index.html; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

web: $(WEB)/$(firstword $(WEB_FILES))  ## onnxruntime-web, by npm

$(WEB)/$(firstword $(WEB_FILES)):
	mkdir -p $(WEB)
	cd $(WEB) && npm pack --silent onnxruntime-web@$(WEB_VERSION)
	cd $(WEB) && tar xzf *.tgz --strip-components=2 $(WEB_FILES:%=package/dist/%) && rm *.tgz

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) demo
