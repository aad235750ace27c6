# Everything runs in .venv, which `install` creates. Nothing is installed outside of it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo

# The families of materials that the demo is evaluated on, one per class. It does not train on them, and no mixed texture
# contains them.
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

.PHONY: help install demo test test-slow test-commands test-faults soak fuzz check bench constraints clean
.DEFAULT_GOAL := help

help:  ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

install: $(VENV)/.installed  ## Create .venv with the pinned versions and compiled bytecode

$(VENV)/.installed: constraints.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"Makefile: got Python {sys.version.split()[0]}; expected 3.11 or newer. Run make PYTHON=python3.12 install.")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --compile --require-hashes -r constraints.txt
	$(BIN)/python -m pip install --quiet --no-deps -e .
	touch $@

demo: install  ## Generate materials, train all six networks, evaluate and convert: takes minutes on two cores
	rm -rf $(DEMO)
	@echo "pbr prepare: 340 materials for training, 14 of other families for validation"
	@$(BIN)/pbr prepare "$(TRAIN_SOURCE)" "$(TEST_SOURCE)" --out $(DEMO)/shards --val-share 0 \
	  $(addprefix --hold-out ,$(HELD_OUT))
	$(BIN)/pbr train configs/smoke/demo.yaml --data $(DEMO)/shards --runs $(DEMO)/runs --runtime configs/runtime/cpu.yaml
	@$(BIN)/pbr bake "$(TEST_SOURCE)" --out $(DEMO)/old
	$(BIN)/pbr convert $(DEMO)/runs/model $(DEMO)/old $(DEMO)/new
	@sed -n '/^| map/,/^$$/p' $(DEMO)/runs/model/README.md
	@echo "Pictures: $(DEMO)/new/contact.png and $(DEMO)/runs/model/evaluation/*.png"

test: install  ## Run the tests that take seconds, in two processes
	$(BIN)/pytest -n 2 --dist loadgroup --durations 10

test-slow: install  ## Run the tests that take minutes; one of them needs the program prometheus
	$(BIN)/pytest -m slow --ignore tests/faults --ignore tests/commands/test_every_line.py

test-commands: install  ## Run every command line of README, docs/ and configs/ on generated data: takes 30 to 60 minutes
	$(BIN)/pytest tests/commands/test_every_line.py -m slow -v --durations 0

test-faults: install  ## Run the tests that kill processes and nodes during training: takes 60 to 90 minutes
	$(BIN)/pytest tests/faults $(FAULTS_OF_ONE_NODE) -m "slow or not slow" -s -v

soak: install  ## Train the smoke ladder with a random fault every 20 to 60 s during the first 30 minutes
	$(BIN)/python -m tests.faults.soak

fuzz: install  ## Fuzz the texture reader and the tile codec with a million hostile files
	$(BIN)/python -m tests.fuzz.run

check: install  ## Check format, lint, types and import layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: install  ## Run all benchmarks and print their tables: takes about 50 minutes
	for script in benchmarks/*.py; do $(BIN)/python $$script; done

constraints:  ## Pin the newest versions that pyproject.toml allows (needs uv)
	uv pip compile --universal --generate-hashes --no-header --no-emit-index-url --python-version 3.11 \
	  --extra dev --extra fuzz --extra mlflow --extra wandb pyproject.toml -o constraints.txt

clean:  ## Remove everything that make created, including .venv
	rm -rf $(VENV) $(DEMO) *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .fuzz
