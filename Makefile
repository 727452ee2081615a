# `make demo` trains on the demo's pictures, `make test` runs the tests; both install into .venv first.
PYTHON ?= python3
VENV ?= .venv
MINUTES ?= 3
SOURCES := $(shell git ls-files fastgan csrc 2>/dev/null)

.PHONY: demo test

demo: $(VENV)/installed
	$(VENV)/bin/fastgan train --content demo --style demo --size 128 --minutes $(MINUTES) --out runs/demo

# Threads that spin for work take the other process's core: 82 tests of training took 140 s with them and 65 s so.
test: $(VENV)/installed
	OMP_WAIT_POLICY=PASSIVE $(VENV)/bin/pytest -n 2 --dist loadfile

$(VENV)/installed: pyproject.toml setup.py $(SOURCES)
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install ".[dev]"
	touch $@
