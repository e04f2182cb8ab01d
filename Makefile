# make demo   the main job on a fresh machine: cerebellum -> mean field in the catalog
# make test   the tests
# make help   everything else

PYTHON ?= python3
VENV   ?= .venv
RANKS  ?= 2
RUN    ?= runs/cerebellum
BIN    := $(VENV)/bin

export OMP_NUM_THREADS = 1
export OPENBLAS_NUM_THREADS = 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-nest-mpi lint machine benchmarks nest-mpi clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/.installed $(VENV)/.compiled ## install, compile the neuron model, run the main job on $(RANKS) ranks, print the table
	$(BIN)/mpiexec -n $(RANKS) $(BIN)/python -m mpi4py -m automfm_hpc run cerebellum --out $(RUN)

test: $(VENV)/.installed-test $(VENV)/.compiled ## the tests, NEST and mpiexec included, on two cores
	@echo "compiling the neuron model once for all tests (a minute; nothing to do the next time)"
	@$(BIN)/automfm doctor --compile 4 >/dev/null & $(BIN)/automfm doctor --compile 1 2 >/dev/null; wait
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: $(VENV)/.installed-test $(VENV)/.compiled ## the tests that take minutes to hours
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.installed-dev ## ruff and mypy
	$(BIN)/ruff check automfm_hpc tests benchmarks
	$(BIN)/mypy

benchmarks: $(VENV)/.installed ## the figures of the README, one JSON document each
	$(BIN)/python benchmarks/tf_throughput.py --json
	$(BIN)/python benchmarks/mean_field.py --json
	$(BIN)/python benchmarks/ranks.py --json

machine: # says which Debian package is missing before anything starts
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 or newer is missing: apt-get install python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11; say make PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "Python cannot make virtual environments: apt-get install python3-venv"; exit 1; }
	@command -v $${CXX:-g++} >/dev/null || { echo "A C++ compiler is missing: apt-get install g++"; exit 1; }

$(BIN)/python: | machine
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip

# Compiled code is kept by the file it is in, and does not know when what it calls elsewhere has changed (a git pull).
$(VENV)/.compiled: $(shell find automfm_hpc -name '*.py') | $(BIN)/python
	@find automfm_hpc tests -name '*.nb[ic]' -delete
	@touch $@

$(VENV)/.installed: pyproject.toml $(BIN)/python | machine
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[all]'
	@touch $@

$(VENV)/.installed-test: pyproject.toml $(BIN)/python | machine
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-dev: pyproject.toml $(BIN)/python | machine
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ $(VENV)/.installed $(VENV)/.installed-test

nest-mpi: $(VENV)/.installed ## a second environment, .venv-mpi, with NEST built with MPI (about 16 minutes)
	@command -v mpicxx >/dev/null && command -v cmake >/dev/null && test -e /usr/include/gsl/gsl_errno.h -a -e /usr/include/ltdl.h -a -d /usr/include/boost || { \
	  echo "Missing Debian packages: apt-get install cmake libgsl-dev libltdl-dev libboost-dev libopenmpi-dev openmpi-bin"; exit 1; }
	$(PYTHON) -m venv .venv-mpi
	.venv-mpi/bin/python -m pip install --quiet --disable-pip-version-check --upgrade pip cython numpy
	CMAKE_BUILD_PARALLEL_LEVEL=$$(nproc) .venv-mpi/bin/python -m pip install --quiet --no-binary nest-simulator nest-simulator -C cmake.define.with-mpi=ON
	.venv-mpi/bin/python -m pip install --quiet --disable-pip-version-check mpi4py -e '.[nest,fit,library,plots]' pytest hypothesis

test-nest-mpi: nest-mpi $(VENV)/.installed-test ## networks and chunks over ranks of that NEST
	AUTOMFM_MPI_PYTHON=.venv-mpi/bin/python $(BIN)/python -m pytest -m slow tests/mpi/test_nest_mpi.py

clean: ## remove the environments and the demonstration run
	rm -rf $(VENV) .venv-mpi $(RUN)
