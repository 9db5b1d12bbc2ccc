# Everything happens in a virtual environment of this folder; every target sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RECIPE ?= copy-cpu
SEED ?= 0
PYTEST = $(BIN)/python -m pytest --numprocesses auto --dist worksteal
DOCS = NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
RUN := runs/$(RECIPE)-seed$(SEED)

.PHONY: demo test test-all check docs bench faults soak format clean

# Train the recipe, measure the result on 1,000 unseen prompts of each difficulty, draw the picture.
# A run that was interrupted goes on where it was.
demo: $(VENV)/.installed
	@if [ -f $(RUN)/manifest.json ]; then $(BIN)/easy2hard resume $(RUN); \
	else $(BIN)/easy2hard run $(RECIPE) --seed $(SEED) --out $(RUN); fi
	@$(BIN)/easy2hard eval $(RUN) --examples 1000
	@$(BIN)/easy2hard plot $(RUN) --out $(RUN)/accuracy.png

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

# A run killed at 40 moments of its life, and 1,000 damaged copies of one; `make test` tries a sample.
faults: $(VENV)/.installed
	FAULTS=40 CORRUPTIONS=1000 $(BIN)/python -m pytest tests/faults tests/runs/test_integrity.py

# Two hours of a run killed and resumed again and again; digests must agree and memory must not grow.
soak: $(VENV)/.installed
	$(BIN)/python -m studies.soak $(RECIPE) --minutes 120 --seed $(SEED) --out runs/soak/$(RECIPE).json

# Side by side with transformers, on an idle machine; writes benchmarks/results.json.
bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks.bench

format: $(VENV)/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build dist *.egg-info

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@
