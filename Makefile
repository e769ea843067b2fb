# What one does with this repository. Needs make and Python 3.11 or newer; all else is installed below .venv/,
# one virtual environment for each interpreter, in the versions that constraints.txt names.

.PHONY: help run test test-compiled check autobahn bench build clean
# Only the tests on two Pythons may run side by side: make -j2 test
ifneq ($(MAKECMDGOALS),test)
.NOTPARALLEL:
endif

help:
	@echo "make run        serve the example chat on http://127.0.0.1:8301"
	@echo "make test       all tests, on the oldest and on the newest supported Python found (PYTEST_ARGS=...)"
	@echo "make test-compiled  the core's tests and asyncio's, of the compiled wheel, on the oldest (needs a C compiler)"
	@echo "make check      ruff, formatting, mypy --strict"
	@echo "make autobahn   Autobahn's 517 cases against every transport, and wsproto's codec (SERVERS=..., CASES=..., COMP_COUNT=...)"
	@echo "make bench      measure against other servers and codecs (BENCH_ARGS=...)"
	@echo "make build      sdist and wheels in dist/: a plain one and, with a C compiler, a compiled one"
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
WHEEL_VENV := .venv/wheel$(OLDEST)
SOURCES := $(shell find core transports -name '*.py')
TESTS := $(sort $(OLDEST:%=test-%) $(NEWEST:%=test-%))

# By variables, which pip hands on to the environment in which it builds (how, depends on its version), and with a
# relative path, for pip splits their values at spaces.
PIP_SETTINGS := PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1

# An editable install is never compiled, and so needs nothing that compiles.
# $(call install,3.11,[dev]): the virtual environment where it is missing (pip comes last into a new one), then us.
define install
	@if ! test -x .venv/py$(1)/bin/pip; then \
		echo "making .venv/py$(1)"; \
		python=$$(sh .ci/find_python $(1)) && "$$python" -m venv --clear .venv/py$(1); \
	fi
	@echo "installing wireroom$(2) into .venv/py$(1)"
	@$(PIP_SETTINGS) WIREROOM_PURE=1 .venv/py$(1)/bin/python -m pip install --quiet -e '.$(2)'
	@touch $@
endef

.venv/py%/installed-chat: pyproject.toml constraints.txt
	$(call install,$*,[chat])

.venv/py%/installed-dev: pyproject.toml constraints.txt
	$(call install,$*,[dev])

.venv/py%/installed-bench: pyproject.toml constraints.txt
	$(call install,$*,[bench])

# The secret of the tokens is kept, so that who was logged in stays so when the chat is restarted.
run: $(VENV)/installed-chat
	@mkdir -p -m 700 .chat
	@test -s .chat/jwt_secret || (umask 077 && \
		$(VENV)/bin/python -c 'import secrets; print(secrets.token_urlsafe(48))' >.chat/jwt_secret)
	@JWT_SECRET="$${JWT_SECRET:-$$(cat .chat/jwt_secret)}" exec $(VENV)/bin/python docs/examples/chat/server.py

test: $(TESTS)

$(TESTS): test-%: .venv/py%/installed-dev
	@echo "== tests on Python $*"
	@.venv/py$*/bin/pytest $(PYTEST_ARGS)

# The wheel as `pip install` builds it, in an environment of its own where no source can be imported in its place.
.venv/wheel%/installed: $(SOURCES) hatch_build.py pyproject.toml constraints.txt | .venv/py%/installed-dev
	@rm -rf build/wheel$*
	@.venv/py$*/bin/python -m build --wheel --no-isolation --outdir build/wheel$* .
	@test -x .venv/wheel$*/bin/pip || .venv/py$*/bin/python -m venv --clear .venv/wheel$*
	@echo "installing the wheel into .venv/wheel$*"
	@$(PIP_SETTINGS) .venv/wheel$*/bin/python -m pip install --quiet --force-reinstall --no-deps build/wheel$*/*.whl
	@wheel=$$(echo build/wheel$*/*.whl) && \
		$(PIP_SETTINGS) .venv/wheel$*/bin/python -m pip install --quiet "$$wheel[dev,bench]"
	@touch $@

COMPILED_TESTS := tests/unit tests/simulation tests/purity tests/conformance/test_conformance.py \
	tests/conformance/test_asyncio_transport.py tests/conformance/test_asyncio_sockets.py -m 'not slow' \
	-k 'unit or not (anyio or uvloop or blocking)'

test-compiled: $(WHEEL_VENV)/installed
	@$(WHEEL_VENV)/bin/python -P -c 'import wireroom.core; assert wireroom.core.compiled, "the wheel is plain"'
	@echo "== tests on Python $(OLDEST), compiled"
	@$(WHEEL_VENV)/bin/pytest $(if $(PYTEST_ARGS),$(PYTEST_ARGS),$(COMPILED_TESTS))

# The benchmarks are type-checked too, so their libraries have to be there.
check: $(VENV)/installed-dev $(VENV)/installed-bench
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

autobahn: $(VENV)/installed-dev
	@exec $(VENV)/bin/python tests/conformance/autobahn/run.py

bench: $(WHEEL_VENV)/installed
	@exec $(WHEEL_VENV)/bin/python tests/benchmarks/run.py $(BENCH_ARGS)

build: $(VENV)/installed-dev
	@rm -rf dist
	@WIREROOM_PURE=1 $(VENV)/bin/python -m build --no-isolation --outdir dist .
	@$(VENV)/bin/python -m build --wheel --no-isolation --outdir dist .

clean:
	rm -rf .venv build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find core transports tests docs -name __pycache__ -type d -prune -exec rm -rf {} +
