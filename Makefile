# make demo    environment, install, and the whole road on the bundled sample: pretrain, embed, finetune, evaluate
# make test    environment, install, style, types and the quick tests
# Another Python: make demo PYTHON=python3.12

PYTHON ?= python3
VENV ?= .venv
VENV_LOWEST ?= .venv-lowest
DEMO ?= demo
SIZE ?= tiny
BATCH ?= 128
PRETRAIN_STEPS ?= 200
FINETUNE_STEPS ?= 150
TEST_PROCESSES ?= 2

BIN := $(VENV)/bin
TOOL := $(BIN)/ssl-jets
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev

.PHONY: help demo docs test test-all test-lowest lint clean
.DELETE_ON_ERROR:

help:
	@echo "make demo      pretrain, embed, finetune and evaluate on the bundled sample (under $(DEMO)/)"
	@echo "make test      style, types and the quick tests"
	@echo "make test-all  the same with the slow tests"
	@echo "make test-lowest  quick tests of files and commands with the lowest versions that pyproject.toml allows"
	@echo "make docs      build the site of the documentation (site/), and fail on a dead link"
	@echo "make lint      style and types only"
	@echo "make clean     remove the environment, the demo and all caches"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else "error: Python 3.11 or newer is needed\n  found:   %s, Python %d.%d\n  try:     make PYTHON=python3.12" % (sys.executable, v[0], v[1]))'
	$(PYTHON) -m venv $(VENV)

# Installed in place (-e): a change of the sources needs no second installation, a change of these two files does.
$(INSTALLED): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install -c constraints.txt -e .
	@touch $@

$(INSTALLED_DEV): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install -c constraints.txt -e ".[dev]"
	@touch $@ $(INSTALLED)

demo: $(INSTALLED)
	@mkdir -p $(DEMO)
	$(TOOL) pretrain --method mae --size $(SIZE) --steps $(PRETRAIN_STEPS) --batch-size $(BATCH) --out $(DEMO)/mae --force
	$(TOOL) embed --model $(DEMO)/mae --out $(DEMO)/z.root --keep jet_pt --keep jet_sdmass --force
	$(TOOL) finetune --model $(DEMO)/mae --mode full --steps $(FINETUNE_STEPS) --batch-size $(BATCH) --out $(DEMO)/tagger --force
	$(TOOL) evaluate --model $(DEMO)/tagger --force
	@echo
	@echo "report: $(DEMO)/tagger/evaluation/report.html"

docs: $(INSTALLED_DEV)
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

lint: $(INSTALLED_DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# One thread a process: the tests are small, and the processes share the cores.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(TEST_PROCESSES) -m "not slow"

test-all: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(TEST_PROCESSES) -m ""

# What reads and writes files, and the command line: an old version shows there first.
test-lowest:
	$(PYTHON) -m venv $(VENV_LOWEST)
	$(VENV_LOWEST)/bin/python -m pip install -c constraints-lowest.txt -e . pytest hypothesis
	OMP_NUM_THREADS=1 $(VENV_LOWEST)/bin/python -m pytest tests/data tests/cli tests/zfile

clean:
	rm -rf $(VENV) $(VENV_LOWEST) $(DEMO) build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests benchmarks data -name __pycache__ -type d -prune -exec rm -rf {} +
