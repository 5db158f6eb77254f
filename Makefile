# What each target does: `make help`. `make demo` needs python3 (3.11 to 3.13, as TensorFlow does) and nothing else.
FITS := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11,$(shell $(p) -c '$(FITS)' 2>/dev/null && echo $(p))))
PY := .venv/bin/python
STAMP := .venv/.installed
# npm writes this file last.
CHARTS := app/page/node_modules/.package-lock.json
COMPILE := uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header --no-annotate --quiet

# Many tests wait rather than compute: two more processes have work while the others' tests wait.
PROCESSES := 4
PYTEST := pytest --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder
# The tests of `make quick`: search, API, the store on SQLite, and the worker's loop with fake training.
QUICK := tests/search tests/store tests/api tests/worker/test_runner.py tests/test_docs.py tests/test_architecture.py

.PHONY: help install demo test lint types tests quick coverage bench chaos openapi requirements

help:
	@echo "make install       .venv with everything, from hashed requirements"
	@echo "make demo          the example grid search from start to end, with a progress bar"
	@echo "make test          lint, types and all tests; make lint, make types and make tests are its parts"
	@echo "make quick         lint, types and the fast tests, in under a minute"
	@echo "make coverage      all tests, and the lines that none of them reaches"
	@echo "make bench         what is measured, not tested"
	@echo "make chaos         the long tests that kill things"
	@echo "make openapi       write openapi.json anew"
	@echo "make requirements  write requirements/*.txt anew (needs uv)"

install: $(STAMP) $(CHARTS)

$(STAMP): requirements/dev.txt pyproject.toml client/pyproject.toml
	@$(or $(PYTHON),python3) -c '$(FITS)' 2>/dev/null || \
		{ echo "Tunewell needs Python 3.11, 3.12 or 3.13: TensorFlow has no other. Name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PY) -c '' 2>/dev/null || $(PYTHON) -m venv --clear .venv || \
		{ echo "Could not make .venv. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "Installing into .venv (TensorFlow is large: this takes a few minutes the first time)"
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e ./client -e .
	@touch $@

# With the machine's own npm, if it is new enough to check the lock file's hashes, or else with the one in .venv.
# Without npm's registry everything but the charts works, and the next `make install` tries again.
$(CHARTS): app/page/package-lock.json $(STAMP)
	@npm=npm; case "$$(npm --version 2>/dev/null)" in 9.*|[1-9][0-9].*) ;; *) npm="$$PWD/.venv/bin/npm";; esac; \
		cd app/page && PATH="$$PWD/../../.venv/bin:$$PATH" $$npm ci --ignore-scripts --silent && touch ../../$@ || \
		echo "The page's charts and tables could not be installed from npm's registry: the page works without them" >&2

demo: install
	@$(PY) -m app.cli demo

test: lint types tests

lint: install
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	.venv/bin/lint-imports

types: install
	$(PY) -m mypy

# Each step of the arithmetic is tested as on a small processor, too.
tests: install
	$(PY) -m $(PYTEST)
	ONEDNN_MAX_CPU_ISA=SSE41 TF_ENABLE_ONEDNN_OPTS=0 $(PY) -m pytest --numprocesses 2 -m "not slow" tests/training/test_numerics.py

quick: lint types
	$(PY) -m $(PYTEST) --numprocesses 2 -m "not slow and not system" $(QUICK)

# Apart from `make tests`, because tracing doubles their time; the report is printed even if a test fails.
coverage: install
	$(PY) -m coverage erase
	-$(PY) -m coverage run -m $(PYTEST)
	$(PY) -m coverage combine --quiet
	$(PY) -m coverage report --show-missing

bench: install
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.txt || \
		echo "The peers could not be installed: the table will say which are missing" >&2
	$(PY) -m benchmarks $(BENCH)

chaos: install
	$(PY) -m tests.chaos

openapi: install
	$(PY) -c "import json; from app.main import app; print(json.dumps(app.openapi(), indent=1, ensure_ascii=False))" \
		> openapi.json.new
	mv openapi.json.new openapi.json

requirements:
	$(COMPILE) --extra api --extra cli --extra worker --extra local --extra onnx --extra dev -o requirements/dev.txt
	$(COMPILE) --extra api --extra cli -c requirements/dev.txt -o requirements/api.txt
	$(COMPILE) --extra worker -c requirements/dev.txt -o requirements/worker.txt
	$(COMPILE) --extra worker --extra bench -c requirements/dev.txt -o requirements/bench.txt
