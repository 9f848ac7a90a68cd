# Two commands do everything from a fresh clone: `make demo` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
OUT    ?= demo
# Coverage is measured of these folders of src/blemish by the tests of the same names: of all it would
# cost a quarter of the tests' time.
CORE   := backbones bundle detectors graphs imaging inspector verdict

.PHONY: demo test check unit numerics extras docs clean

# The main job on made-up parts, or on one's own: make demo GOOD=dir TEST=dir
demo: $(VENV)/base
	$(BIN)/blemish demo --out "$(OUT)" $(if $(GOOD),--good "$(GOOD)") $(if $(TEST),--test "$(TEST)")

# Everything CI checks on one Python: style, types, layers, tests.
test: check unit

check: $(VENV)/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# What the station's tests run for real is installed where it may be; the last line says what skipped.
unit: $(VENV)/dev
	.ci/services || true
	$(BIN)/pytest --numprocesses auto $(CORE:%=--cov=src/blemish/%) --cov-report=
	@echo "coverage: $$($(BIN)/coverage report --format=total) % of the lines of $(CORE), by their own tests"

# Where numbers are added up, as other processors would: fewer lanes, one thread and two.
numerics: $(VENV)/dev
	.ci/numerics $(BIN)

# Each extra alone in a fresh environment; the whole main job must run with no PyTorch at all.
extras:
	PYTHON=$(PYTHON) sh .ci/extras

clean:
	rm -rf $(VENV) .venv-extra-* demo

$(VENV)/base: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/dev: $(VENV)/base
	$(BIN)/pip install --quiet --editable '.[train,dev]'
	touch $@
