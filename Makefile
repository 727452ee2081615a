# For users: `make demo` trains on the demo's pictures, `make test` runs the tests. Both first install a copy of the package
# into .venv. For developers: `make dev` makes the install in .venv an editable one; `make fast` checks a change in two
# minutes.
PYTHON ?= python3
VENV ?= .venv
MINUTES ?= 3
SOURCES := $(shell git ls-files fastgan csrc 2>/dev/null)
CXX_SOURCES = $(shell find csrc tests/helpers/cuda_emulator -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' -o -name '*.h' -o -name '*.inc')

# One environment, one of two installs: $(VENV)/installed stands for a copy, which is stale after any change and then made
# again, and $(VENV)/editable for an editable one, of which only the extension can be stale. `make dev` replaces the first
# by the second, and all targets then use it; `rm -r .venv` is the way back.
ifneq ($(wildcard $(VENV)/editable),)
INSTALL := dev
DEVELOP := dev
else
INSTALL := $(VENV)/installed
DEVELOP := $(if $(wildcard $(VENV)/installed),$(VENV)/installed,dev)
endif

.PHONY: demo test dev fast lint format bench

demo: $(INSTALL)
	$(VENV)/bin/fastgan train --content demo --style demo --size 128 --minutes $(MINUTES) --out runs/demo

# Threads that spin for work take the other process's core: 82 tests of training took 140 s with them and 65 s so.
test: $(INSTALL)
	OMP_WAIT_POLICY=PASSIVE $(VENV)/bin/pytest -n 2 --dist loadfile

# Compiles what has changed in csrc/; a change in Python needs nothing.
dev: $(VENV)/editable
	$(VENV)/bin/python setup.py --quiet build_ext --inplace

fast: lint
	OMP_WAIT_POLICY=PASSIVE $(VENV)/bin/pytest -n 2 --dist loadfile -m "not slow"

lint: $(DEVELOP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/clang-format --dry-run -Werror $(CXX_SOURCES)

format: $(DEVELOP)
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/clang-format -i $(CXX_SOURCES)

bench: $(DEVELOP)
	$(VENV)/bin/fastgan bench all --report runs/bench

$(VENV)/installed: pyproject.toml setup.py $(SOURCES)
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install ".[dev]"
	touch $@

# Without build isolation the compiler's command is the same each time, as an incremental build needs.
$(VENV)/editable: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['build-system']['requires'])" \
		| xargs $(VENV)/bin/pip install
	$(VENV)/bin/pip install --no-build-isolation -e ".[dev]"
	rm -f $(VENV)/installed
	touch $@
