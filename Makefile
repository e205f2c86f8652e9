# The only commands a newcomer needs. Everything is installed into .venv, nothing outside the checkout.

PYTHON ?= python3
PORT   ?= 8000
# Models that a new database begins with, other than the configuration's: a folder of models/,
# exported from the weights of its name unless it is there. MODEL=sface.
MODEL  ?=
VENV   := .venv
BIN    := $(VENV)/bin
# Installs pinned packages, each checked by its hash; PyTorch from TORCH_INDEX first.
INSTALL := requirements/install $(BIN)/python
PINNED  := $(VENV)/.project requirements/install requirements/torch.txt requirements/torch-cuda.txt
ifdef TORCH_INDEX
export TORCH_INDEX
endif

# The folder that MODEL needs; default and compatible are in models/ itself.
OTHER_MODEL := $(patsubst %-compatible,%,$(filter-out default compatible,$(MODEL)))

# In the order that tests/conftest.py puts them in: what takes long begins first.
# Half of the time a worker waits, for a service that starts or a timeout that passes.
PYTEST := $(BIN)/pytest --numprocesses 6 --dist loadgroup --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup run test test-slow lint bench drill peers gpu export lock audit clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-9s %s\n", $$1, $$2 }'

run: setup ## set up, export the models if needed, and serve on 127.0.0.1:PORT (PORT=8000, MODEL=sface)
	@$(if $(OTHER_MODEL),$(BIN)/python -m export --if-stale --models-dir models/$(OTHER_MODEL) \
		$(if $(wildcard models/$(OTHER_MODEL)/manifest.json),,--weights $(OTHER_MODEL)),:)
	@$(BIN)/facette init
	@exec $(if $(MODEL),env FACETTE_INFERENCE_MODEL=$(MODEL) )$(BIN)/facette serve --host 127.0.0.1 --port $(PORT)

setup: $(VENV)/.installed ## create .venv and export the models if they are missing or stale
	@$(BIN)/python -m export --if-stale

test: setup $(VENV)/.installed-test ## set up and run the tests, six at a time, but for the slow ones
	$(PYTEST) -m "not slow" $(ARGS)

test-slow: setup $(VENV)/.installed-test ## run the slow ones: whole benches, drills and exports
	$(PYTEST) -m slow $(ARGS)

lint: $(VENV)/.installed $(VENV)/.installed-test ## ruff, mypy --strict and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

export: $(VENV)/.installed ## export and verify the models again
	$(BIN)/python -m export

bench: setup $(VENV)/.installed-test ## run the benches of speed (some 15 minutes) and render the figures
	$(BIN)/python -m bench all
	$(BIN)/python -m bench report

drill: setup $(VENV)/.installed-test ## kill service and PostgreSQL 55 times under load and see what survives (some 10 minutes)
	$(BIN)/python -m bench kills $(ARGS)

peers: setup $(VENV)/.installed-test .venv-peers/.installed .venv-pytriton/.installed ## compare embedding over HTTP with other servers (some 25 minutes)
	$(BIN)/python -m bench peers

gpu: .venv-gpu/.installed ## on a machine with an NVIDIA GPU: measure on it, from a build of its own (some 10 minutes)
	.venv-gpu/bin/python -m export --if-stale
	.venv-gpu/bin/python -m bench gpu --rounds 3
	.venv-gpu/bin/python -m bench http --only embed,insert,overload --rounds 2

lock: .venv-tools/.installed ## pin every dependency anew, in requirements/
	.venv-tools/bin/python requirements/refresh.py .venv-tools/bin/uv

audit: .venv-tools/.installed ## ask the index's advisories about every pinned package
	.venv-tools/bin/pip-audit --strict --require-hashes --disable-pip --requirement requirements/test.txt \
		--requirement requirements/torch.txt --requirement requirements/tools.txt

clean: ## remove the environments and the exported models; data and config.toml stay
	rm -rf $(VENV) .venv-peers .venv-pytriton .venv-gpu .venv-tools models/*.onnx models/*.npz models/manifest.json
	rm -f models/*/*.onnx models/*/*.npz models/*/manifest.json

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Facette needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

# What of pyproject.toml an installation is made of; written when it changes, and not when the
# settings of a tool do.
define PROJECT
import json, pathlib, sys, tomllib
told = tomllib.loads(pathlib.Path("pyproject.toml").read_text())
text = json.dumps([told["build-system"], told["project"], told["tool"]["setuptools"]])
path = pathlib.Path(sys.argv[1])
if not path.exists() or path.read_text() != text:
    path.write_text(text)
endef
export PROJECT

$(VENV)/.project: pyproject.toml | $(VENV)/bin/python
	@$(BIN)/python -c "$$PROJECT" $@

$(VENV)/.installed: $(PINNED) requirements/setup.txt | $(VENV)/bin/python
	@echo "Installing Facette into $(VENV) (about two minutes the first time)"
	@$(INSTALL) setup --editable
	@touch $@

$(VENV)/.installed-test: $(PINNED) requirements/test.txt | $(VENV)/.installed
	@echo "Installing what tests and benches need"
	@$(INSTALL) test --editable
	@touch $@

.venv-tools/.installed: requirements/tools.txt
	@$(PYTHON) -m venv .venv-tools
	@.venv-tools/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	@touch $@

# The builds of ONNX Runtime install the same module: the one for CUDA takes the place of the other.
.venv-gpu/.installed: $(PINNED) requirements/test.txt
	@echo "Installing Facette with ONNX Runtime for CUDA into .venv-gpu"
	@$(PYTHON) -m venv --clear .venv-gpu
	@requirements/install .venv-gpu/bin/python test --editable
	@.venv-gpu/bin/pip uninstall --quiet --yes onnxruntime
	@.venv-gpu/bin/pip install --quiet --disable-pip-version-check 'onnxruntime-gpu[cuda,cudnn]>=1.31'
	@touch $@

.venv-peers/.installed: bench/peers/requirements.txt
	@echo "Installing the peers into .venv-peers"
	@$(PYTHON) -m venv .venv-peers
	@.venv-peers/bin/pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

# PyTriton's backend loads the shared libpython of a distribution's Python; where that cannot be
# had, the bench goes without it.
.venv-pytriton/.installed: bench/peers/requirements-pytriton.txt
	@echo "Installing PyTriton into .venv-pytriton"
	@/usr/bin/python3 -m venv .venv-pytriton && \
	.venv-pytriton/bin/pip install --quiet --disable-pip-version-check --requirement $< && \
	touch $@ || { rm -rf .venv-pytriton; echo "PyTriton cannot be installed here: left out"; }
