# Needs make and Python 3.11 or later; another interpreter: make setup PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin
UV := $(BIN)/uv
RUN_STAMP := .venv/.installed-to-run
STAMP := .venv/.installed
WORKERS ?= 2

SCENE := src/mdetr/assets/demo/shapes.png
CAPTION := two purple metal balls and a red cube

.PHONY: help setup demo app docs miniature test lint format lock wheel audit reproducible clean
.DEFAULT_GOAL := help

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## set up .venv with the locked dependencies and this package

# What running the package needs, at the locked versions.
$(RUN_STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; found %s. Name one: make setup PYTHON=python3.12" % sys.version.split()[0])'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	test -x $(UV) || $(BIN)/python -m pip install -q uv
	$(UV) pip install -q --python $(BIN)/python --compile-bytecode --constraints requirements.lock -e .
	$(BIN)/python -m compileall -q src
	@touch $@

# What training, tests and linters need in addition.
$(STAMP): $(RUN_STAMP)
	$(UV) pip install -q --python $(BIN)/python --compile-bytecode -r requirements.lock
	@touch $@

demo: $(RUN_STAMP) ## ground texts in a photo and in a scene (sets up only what this needs)
	@mkdir -p demo
	$(BIN)/mdetr ground --example --output demo/photo.png
	$(BIN)/mdetr ground $(SCENE) "$(CAPTION)" --model clevr-tiny --output demo/scene.png

app: setup ## open the web page at http://127.0.0.1:7860/
	$(BIN)/mdetr app --open

# NO_MKDOCS_2_WARNING: without the theme's announcement of its successor.
docs: setup ## build the documentation site into site/, and fail on a broken link
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

miniature: setup ## show the paper's claims at a small size, overnight; a single one: make miniature CLAIM=protocols
	$(BIN)/python -m tools.miniature $(CLAIM)

# Side by side, each with a thread of its own: two threads of one process make a test but little faster.
test: setup ## run the tests, two at a time; others: make test WORKERS=8 TESTS=tests/cli
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(TESTS)

lint: setup ## check style, types, the direction of imports and docstrings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pydoclint -q src/mdetr

format: setup ## format the code, and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# One file for every system and Python version.
lock: $(UV) ## choose the versions of all dependencies anew (requirements.lock)
	$(UV) pip compile pyproject.toml --universal --python-version 3.11 \
		--extra dev --extra clevr --extra masks --no-emit-index-url --no-emit-find-links \
		--custom-compile-command "make lock" -q -o requirements.lock

$(UV):
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q uv

wheel: $(UV) ## build the wheel and the source distribution into dist/
	rm -rf dist
	$(UV) build -q --out-dir dist

# Tools in environments of their own; pip-audit asks the registry about the locked versions.
audit: $(UV) ## look for dangerous calls in the code, and for known vulnerabilities of the dependencies
	$(UV) tool run --from "bandit>=1.8,<2" bandit --quiet --configfile pyproject.toml --recursive src tools
	$(UV) tool run --from "pip-audit>=2.9,<3" pip-audit --requirement requirements.lock --no-deps --disable-pip

# The time of the last commit stands in for the time of the build.
reproducible: $(UV) ## build the wheel and the source distribution twice, and compare every byte
	rm -rf build/first build/second
	for name in first second; do \
		SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(UV) build -q --out-dir build/$$name || exit 1; \
	done
	diff -r build/first build/second

clean: ## remove what these targets have made, except .venv
	rm -rf demo dist build site .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache .coverage
