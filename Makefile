# What one does with this repository. Needs make and Python 3.11 or newer; all else is installed below .venv/,
# one virtual environment for each interpreter, in the versions that constraints.txt names.

.PHONY: help run test check autobahn bench build clean
.NOTPARALLEL:

help:
	@echo "make run        serve the example chat on http://127.0.0.1:8301"
	@echo "make test       all tests, on the oldest and on the newest supported Python found (PYTEST_ARGS=...)"
	@echo "make check      ruff, formatting, mypy --strict"
	@echo "make autobahn   Autobahn's 517 cases against the asyncio transport, both codecs (CASES=..., COMP_COUNT=...)"
	@echo "make bench      measure against other servers and codecs (BENCH_ARGS=...)"
	@echo "make build      wheel and sdist in dist/"
	@echo "make clean      remove all that make has made, virtual environments included"
	@echo "VERSIONS='3.12' chooses other interpreters than the oldest and newest found"

# Interpreters are looked for only when a target needs one.
ifneq ($(filter-out help clean,$(MAKECMDGOALS)),)
ifndef VERSIONS
VERSIONS := $(shell sh .ci/find_python)
endif
ifeq ($(strip $(VERSIONS)),)
$(error no usable Python, see above)
endif
endif

OLDEST := $(firstword $(VERSIONS))
NEWEST := $(lastword $(VERSIONS))
VENV := .venv/py$(OLDEST)
TESTS := $(sort $(OLDEST:%=test-%) $(NEWEST:%=test-%))

# By variables, which pip hands on to the environment in which it builds (how, depends on its version), and with a
# relative path, for pip splits their values at spaces.
PIP_SETTINGS := PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1

# $(call install,3.11,[dev]): the virtual environment where it is missing (pip comes last into a new one), then us.
define install
	@if ! test -x .venv/py$(1)/bin/pip; then \
		echo "making .venv/py$(1)"; \
		python=$$(sh .ci/find_python $(1)) && "$$python" -m venv --clear .venv/py$(1); \
	fi
	@echo "installing wireroom$(2) into .venv/py$(1)"
	@$(PIP_SETTINGS) .venv/py$(1)/bin/python -m pip install --quiet -e '.$(2)'
	@touch $@
endef

.venv/py%/installed-run: pyproject.toml constraints.txt
	$(call install,$*,)

.venv/py%/installed-dev: pyproject.toml constraints.txt
	$(call install,$*,[dev])

.venv/py%/installed-bench: pyproject.toml constraints.txt
	$(call install,$*,[bench])

run: $(VENV)/installed-run
	@exec $(VENV)/bin/python docs/examples/chat/server.py

test: $(TESTS)

$(TESTS): test-%: .venv/py%/installed-dev
	@echo "== tests on Python $*"
	@.venv/py$*/bin/pytest $(PYTEST_ARGS)

# The benchmarks are type-checked too, so their libraries have to be there.
check: $(VENV)/installed-dev $(VENV)/installed-bench
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

autobahn: $(VENV)/installed-run
	@exec $(VENV)/bin/python tests/conformance/autobahn/run.py

bench: $(VENV)/installed-bench
	@exec $(VENV)/bin/python tests/benchmarks/run.py $(BENCH_ARGS)

build: $(VENV)/installed-dev
	@rm -rf dist
	@$(VENV)/bin/python -m build --no-isolation --outdir dist .

clean:
	rm -rf .venv build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find core transports tests docs -name __pycache__ -type d -prune -exec rm -rf {} +
