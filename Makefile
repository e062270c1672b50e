# `make demo`, `make test` and `make docs`. Each makes the environment first, from the pinned versions.
#
#   make demo PYTHON=python3.12                      another interpreter
#   make demo VENV_FLAGS=--system-site-packages      use the torch (a GPU build, say) that you have
#   make test WORKERS=8                              on as many cores (2 by default, about 1.5 GB each)
PYTHON ?= python3
VENV ?= .venv
VENV_FLAGS ?=
DEMO ?= demo
WORKERS ?= 2
BIN = $(VENV)/bin
READY = $(VENV)/.ready

.PHONY: demo test fast lint slow bench docs notebook clean
.DELETE_ON_ERROR:

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV_FLAGS) $(VENV)
	# A torch that is there already stays: never swap a GPU build for another one.
	$(BIN)/python -c 'import torch' 2>/dev/null || $(BIN)/pip install --quiet --constraint constraints.txt torch
	grep -v '^torch==' constraints.txt > $(VENV)/constraints.txt
	$(BIN)/python -c 'import importlib.metadata as m; print("torch==" + m.version("torch"))' >> $(VENV)/constraints.txt
	$(BIN)/pip install --quiet --constraint $(VENV)/constraints.txt --editable '.[log,test,lint]'
	touch $@

demo: $(READY)
	$(BIN)/distangle demo --out $(DEMO)

test: lint fast

lint: $(READY)
	$(BIN)/ruff check src tests benchmarks docs
	$(BIN)/ruff format --check src tests benchmarks docs
	$(BIN)/mypy

fast: $(READY)
	$(BIN)/pytest -q -m "not slow" -n $(WORKERS) --dist loadfile

slow: $(READY)
	$(BIN)/pytest -q -m slow

bench: $(READY)
	$(BIN)/pip install --quiet --constraint $(VENV)/constraints.txt --editable '.[log,test,lint,bench]'
	$(BIN)/python benchmarks/together.py

# Warnings are errors: a broken link, anchor or docstring fails the build.
docs: $(READY)
	$(BIN)/pip install --quiet --constraint $(VENV)/constraints.txt --editable '.[log,test,lint,docs]'
	$(BIN)/sphinx-build -b html -E -W --keep-going -q docs docs/_build/html
	@echo docs/_build/html/index.html

# Runs the cells of docs/notebook.ipynb and stores their outputs in it; no Jupyter is needed.
notebook: $(READY)
	$(BIN)/python docs/_ext/notebook_page.py

clean:
	rm -rf $(VENV) $(DEMO) build docs/_build docs/reference/generated *.egg-info src/*.egg-info
