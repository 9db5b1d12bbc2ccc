# Everything happens in a virtual environment of this folder; every target sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RECIPE ?= copy-cpu
SEED ?= 0
PYTEST = $(BIN)/python -m pytest --numprocesses auto --dist worksteal
DOCS = NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
RUN := runs/$(RECIPE)-seed$(SEED)

.PHONY: demo test test-all check docs results dist bench faults soak format clean

# Train the recipe, measure the result on 1,000 unseen prompts of each difficulty, draw the picture.
# Installs what that needs and no more. A run that was interrupted goes on where it was.
demo: $(VENV)/.base
	@echo "== Training $(RECIPE), seed $(SEED); Ctrl-C stops it, and make demo goes on from there"
	@if [ -f $(RUN)/manifest.json ]; then $(BIN)/easy2hard resume $(RUN); \
	else $(BIN)/easy2hard run $(RECIPE) --seed $(SEED) --out $(RUN); fi
	@echo "== Measuring exact match on 1,000 unseen prompts of each difficulty"
	@$(BIN)/easy2hard eval $(RUN) --examples 1000
	@echo "== Drawing the chart"
	@$(BIN)/easy2hard plot $(RUN) --out $(RUN)/accuracy.png
	@echo "== Done. To go on, copy these lines:"
	@echo ". $(BIN)/activate"
	@echo "easy2hard report $(RUN)"
	@echo "easy2hard audit $(RUN)"
	@echo "easy2hard recipes"

# A worker for each core; a worker that has nothing left to do takes tests from another one.
test: $(VENV)/.installed
	$(PYTEST) -m "not slow"

# The same, and what is left out there because another test of its kind is in.
test-all: $(VENV)/.installed
	$(PYTEST)

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@$(DOCS)

# The site, into site/; a broken link or a page that is not in the navigation is an error.
docs: $(VENV)/.installed
	$(DOCS)

# The tables of RESULTS.md and docs/results, from the records of runs in docs/results/data.
results: $(VENV)/.base
	$(BIN)/python -m studies.tables

# A run killed at 40 moments of its life, 1,000 damaged copies of one, and 10,000 command lines; `make test` tries a
# sample.
faults: $(VENV)/.installed
	FAULTS=$(or $(FAULTS),40) CORRUPTIONS=1000 COMMAND_LINES=10000 $(BIN)/python -m pytest tests/faults tests/runs/test_integrity.py

# Two hours of a run killed and resumed again and again; digests must agree and memory must not grow.
soak: $(VENV)/.installed
	$(BIN)/python -m studies.soak $(RECIPE) --minutes 120 --seed $(SEED) --out runs/soak/$(RECIPE).json

# A wheel and a source distribution, into dist/, with their metadata checked.
dist: $(VENV)/.installed
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*

# Side by side with transformers, on an idle machine; writes benchmarks/results.json.
bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks.bench

format: $(VENV)/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build dist *.egg-info

# What easy2hard itself needs, and its loops compiled.
$(VENV)/.base: pyproject.toml constraints.txt
	@echo "== Installing easy2hard and what it needs into $(VENV); torch is the largest download, and unpacking takes a minute"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable .
	@echo "== Compiling the training loops, once, for about half a minute (a run of the recipe smoke)"
	@trial=$$(mktemp -d) && $(BIN)/easy2hard run smoke --out $$trial/smoke && rm -rf $$trial
	@touch $@

# The same, and what tests, checks, docs and benchmarks need.
$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "== Installing easy2hard and all that its tests need into $(VENV), for a minute or two"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@
