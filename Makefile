# Everything runs in .venv, which `install` makes; nothing else on the machine is touched.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo

# The demo is measured on families of materials that it does not train on, one a class; none of them is part of
# a mixed texture either.
HELD_OUT := ceramic/painted fabric/plaid ground/leaves leather/scaled metal/hammered stone/marble wood/floor
TRAINED := ceramic/square ceramic/hexagon ceramic/mosaic ceramic/roof fabric/plain fabric/twill fabric/knit \
  fabric/burlap ground/gravel ground/soil ground/grass ground/mud leather/pebbled leather/cracked \
  leather/stitched leather/creased metal/plate metal/brushed metal/tread metal/chainmail stone/brick \
  stone/cobble stone/ashlar stone/rock wood/plank wood/bark wood/veneer wood/shingle mixed/strapped \
  mixed/overgrown mixed/studded mixed/broken mixed/patched mixed/framed
empty :=
plus = $(subst $(empty) $(empty),+,$(strip $(1)))
TRAIN_SOURCE := generated:count=340,size=256,seed=1,families=$(call plus,$(TRAINED))
TEST_SOURCE := generated:count=14,size=256,seed=9,families=$(call plus,$(HELD_OUT))

FAULTS_OF_ONE_NODE := $(addprefix tests/ray/test_,retries.py fallback.py starting.py)

.PHONY: help install demo test test-slow test-faults soak fuzz check bench constraints clean
.DEFAULT_GOAL := help

help:  ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

install: $(VENV)/.installed  ## Make .venv with the pinned versions, bytecode compiled

$(VENV)/.installed: constraints.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 install")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --compile --require-hashes -r constraints.txt
	$(BIN)/python -m pip install --quiet --no-deps -e .
	touch $@

demo: install  ## Generate materials, train all six networks, evaluate, convert: minutes on two cores
	rm -rf $(DEMO)
	@echo "pbr prepare: 340 materials to train on, 14 of other families to measure by"
	@$(BIN)/pbr prepare "$(TRAIN_SOURCE)" "$(TEST_SOURCE)" --out $(DEMO)/shards --val-share 0 \
	  $(addprefix --hold-out ,$(HELD_OUT))
	$(BIN)/pbr train configs/smoke/demo.yaml --data $(DEMO)/shards --runs $(DEMO)/runs --runtime configs/runtime/cpu.yaml
	@$(BIN)/pbr bake "$(TEST_SOURCE)" --out $(DEMO)/old
	$(BIN)/pbr convert $(DEMO)/runs/model $(DEMO)/old $(DEMO)/new
	@sed -n '/^| map/,/^$$/p' $(DEMO)/runs/model/README.md
	@echo "Pictures: $(DEMO)/new/contact.png and $(DEMO)/runs/model/evaluation/*.png"

test: install  ## Run the tests that take seconds, in two processes
	$(BIN)/pytest -n 2 --dist loadgroup --durations 10

test-slow: install  ## Run the tests that take minutes; one of them needs prometheus installed
	$(BIN)/pytest -m slow --ignore tests/faults

test-faults: install  ## Kill processes and nodes of real clusters while they train: an hour to an hour and a half
	$(BIN)/pytest tests/faults $(FAULTS_OF_ONE_NODE) -m "slow or not slow" -s -v

soak: install  ## Train the smoke ladder under a random fault every 20 to 60 s, for half an hour and to its end
	$(BIN)/python -m tests.faults.soak

fuzz: install  ## Try the texture reader and the tile codec with a million hostile files
	$(BIN)/python -m tests.fuzz.run

check: install  ## Format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: install  ## Side-by-side measurements, printed as tables
	for script in benchmarks/*.py; do $(BIN)/python $$script; done

constraints:  ## Pin the newest versions that pyproject.toml admits (needs uv)
	uv pip compile --universal --generate-hashes --no-header --no-emit-index-url --python-version 3.11 \
	  --extra dev --extra fuzz --extra mlflow --extra wandb pyproject.toml -o constraints.txt

clean:  ## Remove what make made, .venv too
	rm -rf $(VENV) $(DEMO) *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .fuzz
