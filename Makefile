# Every target sets up what it needs; `make demo` and `make test` work as the very first command.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help demo test check format bench dist clean
help:
	@echo "make demo    run the examples with their recorded replies: no API key, no network"
	@echo "make test    run all tests"
	@echo "make check   lints, types, layers"
	@echo "make format  format the code"
	@echo "make bench   speed and memory, in ms and as ratios"
	@echo "make dist    build the wheel"

$(VENV)/.demo: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[demo]"
	@touch $@

$(VENV)/.dev: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo
	@mkdir -p build
	@set -e; for notebook in example_notebooks/*.ipynb; do \
		echo; echo "== $$notebook"; \
		$(BIN)/codeact run "$$notebook" --again --model recorded -o "build/$${notebook##*/}"; \
	done

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto --dist loadfile

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks

dist: $(VENV)/.dev
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean:
	rm -rf $(VENV) build dist
