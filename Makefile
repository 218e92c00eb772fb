# Everything is installed into .venv by whichever verb comes first, and again when the
# requirements change.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DOCS_STAMP := $(VENV)/.installed-docs
# Test processes.
WORKERS ?= 2

# Nothing is fetched at run time; the encoder of the demo comes from a package.
export HF_HUB_OFFLINE := 1

.PHONY: demo test lint types docs wheel wheelhouse bench faults fuzz clean
# The seed of `make faults`.
SEED ?= 0

# The model that the demo goes on from: a model folder, such as RUN/model. The demo trains one from
# nothing where there is none, or with FROM_SCRATCH=1.
MODEL ?= $(firstword $(wildcard plugins/demo/voxella_demo/phantom))
CONTINUED = $(if $(FROM_SCRATCH),,$(MODEL))
# A learned autoencoder is taken with its model; one without weights has no such file.
PARTS = backbone,conditioner$(if $(wildcard $(MODEL)/autoencoder/model.safetensors),$(comma)autoencoder)
comma := ,

demo: $(STAMP)  ## phantom data to generated volumes, in minutes on two cores
ifneq ($(CONTINUED),)
	$(BIN)/voxella run $(MODEL)/recipe.yaml --profile recipes/profiles/continued.yaml --set init.from=$(abspath $(MODEL)) --set 'init.parts=[$(PARTS)]' --out runs/demo
else
	$(BIN)/voxella run recipes/ccella.yaml --profile demo --out runs/demo
endif

# One thread per process: tiny tensors gain nothing from more, and some tests start two processes.
test: export OMP_NUM_THREADS := 1
test: lint types  ## everything that has to hold; builds a wheel too and checks its files
	$(BIN)/pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

docs: export NO_MKDOCS_2_WARNING := true
# Never --quiet: a warning that is not logged does not count, and a broken link passes.
docs: $(DOCS_STAMP)  ## the documentation as a site, site/index.html; every link and anchor is checked
	$(BIN)/python -m mkdocs build --strict --clean

wheel: $(STAMP)  ## dist/*.whl, of the files that tests/test_packaging.py expects
	$(BIN)/python -m build --wheel --no-isolation

# DeepSpeed has a source package only: it is built here, and a wheel there.
wheelhouse: export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
wheelhouse: $(STAMP)  ## wheelhouse/: all that an installation without a network needs, for this Python and system
	rm -rf wheelhouse
	$(BIN)/python -m pip wheel --wheel-dir wheelhouse \
	  $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	$(BIN)/python -m pip wheel --wheel-dir wheelhouse --find-links wheelhouse '.[demo,histology,mlflow,notebook,view]'
	cp -r recipes wheelhouse/recipes
	@du -sh wheelhouse
	@echo "there: python3 -m venv .venv && .venv/bin/python -m pip install --no-index --find-links wheelhouse 'voxella[demo]'"

# Two threads: the figures that are kept are of two cores.
bench: export OMP_NUM_THREADS ?= 2
bench: export GLIBC_TUNABLES := glibc.malloc.hugetlb=1
bench: $(STAMP)  ## our training and sampling steps beside the plain published way; 15 minutes on two cores
	$(BIN)/python bench/side_by_side.py --json bench/results/side_by_side-2cores.json

faults: N ?= 200
faults: export OMP_NUM_THREADS := 1
faults: $(STAMP)  ## kill, fill, limit and damage a smoke run N times; an hour for 200
	$(BIN)/python tests/faults/reliability.py --trials $(N) --seed $(SEED) \
	  --write docs/reference/results/reliability.md

fuzz: N ?= 10000
fuzz: export OMP_NUM_THREADS := 1
fuzz: $(STAMP)  ## N spoilt inputs of every kind, each taken or refused in one message; N=10000
	$(BIN)/python tests/fuzz/run.py --count $(N) --workers $(WORKERS) --write docs/reference/results/inputs.md

clean:
	rm -rf dist build site .mypy_cache .ruff_cache .pytest_cache .hypothesis

# Torch goes first and alone, so that no open range of another package can choose its build.
# TORCH_INDEX may name another index for it, such as PyTorch's own for CPU builds: the default Linux
# build brings several gigabytes of CUDA.
# DeepSpeed is built from its source package, apart from this environment and without torch (it
# compiles nothing then); PIP_CONSTRAINT holds there, too.
$(STAMP): export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "voxella needs Python 3.11 or newer: make PYTHON=python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --constraint constraints.txt \
	  $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[dev,demo,histology,lora,mlflow,notebook,view]'
	touch $@

$(DOCS_STAMP): export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[docs]'
	touch $@
