# make demo   environment, then the bundled clip through the network, errors against the truth, a picture, a page
# make test   environment with the tools of development, then the tests
# make lint   ruff, mypy, import-linter
#
# PYTHON=python3.12 picks the interpreter, VENV=/elsewhere the environment, PIP_FLAGS="..." goes to pip
# (for instance an index with CPU-only builds of PyTorch), DEMO_OUT=folder takes the demo's result, WORKERS=8 tests
# with so many processes at once (some 2 GB each).

PYTHON ?= python3
VENV ?= .venv
DEMO_OUT ?= demo_out
WORKERS ?= 2
PIP_FLAGS ?=
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet $(PIP_FLAGS) -c constraints.txt

.PHONY: demo test lint clean

demo: $(VENV)/.installed
	$(BIN)/vdpm demo -o $(DEMO_OUT) --overwrite

test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) $(DEMO_OUT) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "vdpm needs Python 3.11 or newer, $(PYTHON) is older: make PYTHON=python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The stamps stand for what pip installed, so that nothing is installed again until the requirements change.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing vdpm into $(VENV) (a minute or two the first time)"
	$(INSTALL) -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing vdpm and its development tools into $(VENV) (a minute or two the first time)"
	$(INSTALL) -e '.[dev]'
	@touch $@ $(VENV)/.installed
