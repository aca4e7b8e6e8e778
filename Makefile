# Everything runs from one virtual environment, built once from one hash-locked file.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# The tests start hundreds of processes: each would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run demo test served chaos planted-bugs soak check lint types layers bench lock wheel clean

run: $(INSTALLED)
	@$(BIN)/bagbot run

demo: $(INSTALLED)
	@$(BIN)/bagbot demo

# The kernel is compiled once, not by every worker for itself.
test: $(INSTALLED)
	@$(BIN)/bagbot warmup
	$(BIN)/python -m pytest -n 4 --dist loadfile

# Write the table of what the paper exchange serves, from what third-party clients make it do.
served: $(INSTALLED)
	BAGBOT_WRITE_SERVED=1 $(BIN)/python -m pytest bagbot/tests/simulator/test_*_peer.py bagbot/tests/simulator/test_served.py

# The order path crashed everywhere, in pretended time (docs/RELIABILITY.md); SEED=n replays one.
SEEDS ?= 2000
chaos: $(INSTALLED)
	@$(BIN)/python -m bagbot.tests.chaos $(if $(SEED),--seed $(SEED),--seeds $(SEEDS) $(if $(TABLE),--table))

# Thousands of orders through a bagbot that is killed now and then, on a failing exchange.
SOAK ?=
soak: $(INSTALLED)
	@$(BIN)/python -m bagbot.tests.soak $(SOAK)

planted-bugs: $(INSTALLED)
	@$(BIN)/python -m bagbot.tests.chaos.plant

check: lint types layers test wheel

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

layers: $(INSTALLED)
	$(BIN)/lint-imports

bench: $(INSTALLED)
	$(BIN)/python benchmarks/order_path.py
	$(BIN)/python benchmarks/simulator.py
	$(BIN)/python benchmarks/journal.py
	$(BIN)/python benchmarks/journal.py --recovery
	$(BIN)/python benchmarks/backtest.py $(if $(PEERS),--peers $(PEERS))

# The wheel is built, installed into an empty environment, and asked for its command.
wheel: $(INSTALLED)
	$(BIN)/python -m bagbot.tests.check_wheel

# Write requirements.lock anew. Needs `uv` on the PATH; no registry's address may be in the file.
lock:
	uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-header --no-annotate -o requirements.lock

clean:
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "bagbot needs Python 3.11 or later; $(PYTHON) is older. Try: make PYTHON=python3.12" >&2; exit 1; }
	@echo "Setting up $(VENV) (once; a minute or two) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index --editable .
	@touch $@
