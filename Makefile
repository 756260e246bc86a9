# make run    set up a virtual environment once, then start: make run ARGS="--portrait me.jpg"
# make test   the tests, all but the slow ones of tests/e2e, which make e2e runs
# make devices  cameras and virtual cameras on real drivers, in a guest (Linux, root); see tests/e2e/v4l2
# make page   tests and types of the page's modules, with Node.js
# make check  lint, types and tests
# make coverage  coverage by package of the last make test COVERAGE=1
# make wheel  build the wheel, install it into a clean environment elsewhere and run it there
# make bench  how late the picture is, stage by stage; make costs measures what the program costs

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
bin := $(VENV)/bin
pip := $(bin)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt

.DEFAULT_GOAL := run
.PHONY: run test page e2e devices lint types check coverage wheel bench costs assets doctor clean

run: $(VENV)/base.stamp
	@exec $(bin)/python run.py $(ARGS)

test: $(VENV)/dev.stamp
	@$(bin)/python $(if $(COVERAGE),-m coverage run) -m pytest --ignore=tests/e2e $(ARGS)

page:
	@if ! command -v node > /dev/null; then echo "skipped: Node.js is not on the path (sudo apt install nodejs)"; exit 0; fi; \
	node --test tests/page/*.test.js || exit 1; \
	if ! command -v npm > /dev/null; then echo "types skipped: npm is not on the path"; exit 0; fi; \
	[ -x tests/page/node_modules/.bin/tsc ] || npm install --prefix tests/page --no-package-lock --no-audit --no-fund --silent || exit 1; \
	tests/page/node_modules/.bin/tsc -p tests/page

e2e: $(VENV)/dev.stamp
	@$(bin)/python -m pytest tests/e2e --ignore=tests/e2e/v4l2 $(ARGS)

devices: $(VENV)/dev.stamp
	@$(bin)/python -m pytest -rsP tests/e2e/v4l2 $(ARGS)

lint: $(VENV)/dev.stamp
	@$(bin)/ruff check .
	@$(bin)/ruff format --check --quiet .

types: $(VENV)/dev.stamp
	@$(bin)/mypy
	@$(bin)/mypy docs/examples/*.py

check: lint types test

coverage: $(VENV)/dev.stamp
	@$(bin)/python -m coverage json -q -o .coverage.json
	@$(bin)/python .ci/coverage.py .coverage.json

wheel: $(VENV)/dev.stamp
	@.ci/wheel $(bin)/python $(ARGS)

bench: $(VENV)/base.stamp
	@$(bin)/python -m tools.bench_latency stages --markdown $(ARGS)

costs: $(VENV)/base.stamp
	@$(bin)/python -m tools.bench_costs $(ARGS)

doctor: $(VENV)/base.stamp
	@$(bin)/python -m tools.doctor $(ARGS)

assets: $(VENV)/base.stamp
	@$(bin)/python -m tools.render_assets portraits $(ARGS)
	@$(bin)/python -m tools.render_assets performer

clean:
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage* build dist ./*.egg-info
	@find realtime engines tools tests -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "reenact needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)."; \
	  echo "Name another one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "No virtual environment could be made; on Debian and Ubuntu: sudo apt install python3-venv"; exit 1; }

$(VENV)/base.stamp: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Setting up $(VENV), once; this takes a minute or two."
	@$(pip) --editable . || { echo "The installation failed; see above. Try again with: make $(MAKECMDGOALS)"; exit 1; }
	@touch $@

$(VENV)/dev.stamp: $(VENV)/base.stamp
	@echo "Adding what the tests need."
	@$(pip) --editable '.[dev]' || { echo "The installation failed; see above. Try again with: make $(MAKECMDGOALS)"; exit 1; }
	@touch $@
