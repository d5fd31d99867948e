# make setup   a virtual environment with the locked dependencies and this package
# make demo    find what texts mention in a photo and in a generated scene (sets up only what this needs)
# make test    the tests, two at a time; more on a larger machine, or some: make test WORKERS=8 TESTS=tests/cli
# make lint    style, types and the layers of the package
# Needs make and Python 3.11 or later; another interpreter: make setup PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin
UV := $(BIN)/uv
RUN_STAMP := .venv/.installed-to-run
STAMP := .venv/.installed
WORKERS ?= 2

SCENE := src/mdetr/assets/demo/shapes.png
CAPTION := two purple metal balls, a red cube and the tiny cyan block

.PHONY: setup demo test lint format lock clean

setup: $(STAMP)

# What it takes to run the package, at the locked versions.
$(RUN_STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; found %s. Name one: make setup PYTHON=python3.12" % sys.version.split()[0])'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	test -x $(UV) || $(BIN)/python -m pip install -q uv
	$(UV) pip install -q --python $(BIN)/python --compile-bytecode --constraints requirements.lock -e .
	$(BIN)/python -m compileall -q src
	@touch $@

# And what it takes to train, test and check it.
$(STAMP): $(RUN_STAMP)
	$(UV) pip install -q --python $(BIN)/python --compile-bytecode -r requirements.lock
	@touch $@

demo: $(RUN_STAMP)
	@mkdir -p demo
	$(BIN)/mdetr ground --example --output demo/photo.png
	$(BIN)/mdetr ground $(SCENE) "$(CAPTION)" --model clevr-tiny --output demo/scene.png

# Side by side, each with a thread of its own: two threads of one process make a test but little faster.
test: setup
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(TESTS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Chosen once for every system and Python, and written down.
lock: $(UV)
	$(UV) pip compile pyproject.toml --universal --python-version 3.11 \
		--extra dev --extra clevr --extra eval --no-emit-index-url --no-emit-find-links \
		--custom-compile-command "make lock" -q -o requirements.lock

$(UV):
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q uv

clean:
	rm -rf demo dist build .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache .coverage
