# `make help` lists the targets. A fresh machine needs python3 (3.10 or newer) and make; all else goes into .venv.
PYTHON ?= python3
# Any TensorFlow wheel will do: `make test TENSORFLOW=tensorflow`.
TENSORFLOW ?= tensorflow-cpu
# Which rows of the matrix: `make matrix ROWS="oldest newest"`; empty means all.
ROWS ?=
# Options of benchmarks/cpu.py, and of the other benchmarks below.
BENCH ?=
# Options of scripts/make_reports.py, and which models.
REPORTS ?=

# Two files of tests at a time: most of a test is waiting for a process of one thread to import TensorFlow.
PARALLEL ?= -n 2 --dist loadfile

BIN := .venv/bin
READY := .venv/.ready
PIP_INSTALL := $(BIN)/python -m pip install -q --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help reports bench bench-accuracy bench-build bench-concurrency bench-gpu bench-models demo docs docs-serve faults test test-all lint format matrix clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY)  ## convert two models, build, save, load in a second process, check the answers, print latencies
	$(BIN)/python -m beforehand demo

test: $(READY)  ## the tests that need neither a GPU nor minutes each
	$(BIN)/python -m pytest tests $(PARALLEL) --durations=15

test-all: $(READY)  ## the slow tests too
	$(BIN)/python -m pytest tests $(PARALLEL) --durations=30 -m "not gpu"

bench: $(READY)  ## speed, conversion and memory on this CPU, into benchmarks/RESULTS.md; BENCH="--models ResNet50" for some
	$(PIP_INSTALL) -c constraints.txt --no-build-isolation -e ".[bench]"
	$(BIN)/python benchmarks/cpu.py $(BENCH)

bench-accuracy: $(READY)  ## what each precision does to trained models' accuracy, into benchmarks/RESULTS.md; BENCH="--models trained_cnn"
	$(BIN)/python benchmarks/accuracy.py $(BENCH)

bench-concurrency: $(READY)  ## 1 and 4 callers against bare OpenVINO, and what counting costs, into benchmarks/RESULTS.md
	$(BIN)/python benchmarks/concurrency.py $(BENCH)

bench-build: $(READY)  ## what is lost without build(), in fresh processes, into benchmarks/RESULTS.md
	$(BIN)/python benchmarks/what_build_gains.py $(BENCH)

bench-gpu: $(READY)  ## calls on a GPU beside TensorRT's own API and torch.compile, which must be installed, into benchmarks/RESULTS.md
	$(BIN)/python benchmarks/gpu.py $(BENCH)

bench-models: $(READY)  ## the table of models, into benchmarks/RESULTS.md; BENCH="--models vit", BENCH=--slow
	$(BIN)/python benchmarks/models.py $(BENCH)

reports: $(READY)  ## docs/reports/: the reports of four models, measured here (minutes; on a quiet machine); REPORTS="--no-timings" where it is not
	$(BIN)/python scripts/make_reports.py $(REPORTS)

faults: $(READY)  ## make every fault of a build happen, and print what each is told as
	$(BIN)/python -m tests.faults.fault_table

docs: $(READY)  ## the site of the documentation, into build/site; a broken link or anchor fails it
	$(BIN)/python scripts/make_docs build/docs
	$(BIN)/zensical build --strict --clean

docs-serve: docs  ## the same, at http://localhost:8000
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory build/site 8000

lint: $(READY)  ## ruff (rules and format), mypy strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(READY)  ## rewrite the code in ruff's format and apply its safe fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

matrix:  ## the installed wheel against oldest, newest and pre-release TensorFlow; ROWS="oldest newest" for some
	bash scripts/matrix.sh $(ROWS)

clean:  ## remove environments, caches and packages
	rm -rf .venv .matrix .cache build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests examples scripts benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# The pins hold for Python 3.11 and 3.12; on others pip chooses. --no-build-isolation makes them hold for the build backend too.
# tf_keras, for tests of legacy models, without its dependency: that is the large TensorFlow wheel, over the CPU one.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	    { echo "beforehand needs Python 3.10 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Try: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv .venv
	@set -e; \
	if $(BIN)/python -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))'; \
	then pins="-c constraints.txt"; echo "installing the pinned versions into .venv (minutes, the first time)"; \
	else pins=""; echo "constraints.txt is for Python 3.11 and 3.12, this is $$($(BIN)/python -V): installing without pins"; fi; \
	$(PIP_INSTALL) $$pins hatchling editables; \
	$(PIP_INSTALL) $$pins --no-build-isolation -e '.[convert,dev]' $(TENSORFLOW); \
	$(PIP_INSTALL) $$pins --no-deps tf_keras
	@touch $@
