# Every target sets up what it needs on a machine that has Python >= 3.11 and make, and is quick the second time.
# Knobs: PYTHON=/path/to/python3, VENV=.venv, ARGS="extra arguments of the tool" (for tests, say, "-n 0 -x tests/core").

VENV ?= .venv
BIN := $(VENV)/bin
AGENT := .venv-agent
PHOENIX := .venv-phoenix
export LITELLM_LOCAL_MODEL_COST_MAP := True

DSPY := 3.2.1 3.3.1 3.4.1
.PHONY: help demo test test-dspy dspy-suite lint format types bench lock wheel phoenix clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.ready  ## first LM calls as a trace, as rows and as money; no key, no network
	@$(BIN)/lmtrace demo $(ARGS)

test: $(VENV)/.ready $(AGENT)/.ready  ## the quick suite; ARGS="-m slow" for the other one
	$(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

test-dspy: $(DSPY:%=.venv-dspy-%/.ready)  ## the tests of DSPy programs, on each version that is supported
	@set -e; for version in $(DSPY); do echo "== DSPy $$version"; .venv-dspy-$$version/bin/python -m pytest -W ignore::pytest.PytestUnraisableExceptionWarning $(ARGS) tests/with_dspy; done

SUITE := .venv-dspy-suite-$(lastword $(DSPY))
dspy-suite: $(SUITE)/.ready  ## DSPy's own tests, with lmtrace and without: DSPY=3.4.1 CHECKOUT=a clone of that version
	@test -d "$(CHECKOUT)/tests" || { $(SUITE)/bin/python .ci/dspy_suite.py --help; exit 2; }
	$(SUITE)/bin/python .ci/dspy_suite.py "$(CHECKOUT)" $(ARGS)

lint: $(VENV)/.lint  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.lint  ## let ruff repair what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.lint  ## mypy --strict on the package, pyright on the public interface
	$(BIN)/mypy
	$(BIN)/mypy tests/typing/api.py
	$(BIN)/pyright --pythonpath $(BIN)/python

bench: $(VENV)/.ready  ## what recording costs, beside a bare call; some minutes
	@set -e; for script in benchmarks/[!_]*.py; do echo "== $$script"; $(BIN)/python "$$script" $(ARGS); done

lock:  ## resolve requirements/*.txt anew (needs uv)
	uv pip compile $(LOCK) --group test pyproject.toml -o requirements/test.txt
	uv pip compile $(LOCK) --group lint -c requirements/test.txt -o requirements/lint.txt
	uv pip compile $(LOCK) requirements/agent.in -o requirements/agent.txt
	uv pip compile $(LOCK) requirements/phoenix.in -o requirements/phoenix.txt
	for version in $(DSPY); do \
		printf "dspy==$$version\nnumpy\noptuna\n" | uv pip compile $(LOCK) --group test -c requirements/test.txt pyproject.toml - \
			-o requirements/dspy-$$version.txt || exit 1; done
LOCK := --quiet --no-config --universal --python-version 3.11 --generate-hashes --no-annotate --no-header $(ARGS)

wheel: $(VENV)/.ready  ## build dist/*.whl
	rm -rf dist
	$(BIN)/python -m hatchling build -t wheel

phoenix: $(PHOENIX)/.ready  ## the Arize Phoenix that one slow test reads spans back from (600 MB)

clean:  ## remove environments, caches and builds
	rm -rf .venv .venv-agent .venv-phoenix .venv-dspy-* dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/.ready: requirements/test.txt pyproject.toml .ci/venv
	@echo "setting up $(VENV) …"
	@.ci/venv $(VENV) requirements/test.txt -e .
	@touch $@

$(VENV)/.lint: requirements/lint.txt $(VENV)/.ready
	@.ci/venv $(VENV) requirements/lint.txt
	@touch $@

$(AGENT)/.ready: requirements/agent.txt .ci/venv
	@.ci/venv $(AGENT) requirements/agent.txt
	@touch $@

.venv-dspy-%/.ready: requirements/dspy-%.txt pyproject.toml .ci/venv
	@.ci/venv .venv-dspy-$* requirements/dspy-$*.txt -e .
	@touch $@

.venv-dspy-suite-%/.ready: requirements/dspy-%.txt requirements/dspy-suite.in pyproject.toml .ci/venv
	@.ci/venv .venv-dspy-suite-$* requirements/dspy-$*.txt -e . -u requirements/dspy-suite.in
	@touch $@

$(PHOENIX)/.ready: requirements/phoenix.txt .ci/venv
	@.ci/venv $(PHOENIX) requirements/phoenix.txt
	@touch $@
