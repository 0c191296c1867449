# Everything a newcomer or CI calls. Each target makes the environment it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test test-demo test-report check bench clean

demo: $(VENV)/demo.done
	$(BIN)/abliterate demo --out build/demo --force

test: $(VENV)/test.done
	$(BIN)/python -m pytest -m "not demo"

test-demo: $(VENV)/test.done
	$(BIN)/python -m pytest -m demo

# The page in a headless Chromium, with axe-core. What cannot be had is named, and the tests that need it are skipped.
test-report: $(VENV)/test.done
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null \
	  || { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium chromium-driver; } >/dev/null 2>&1 \
	  || echo "test-report: no Chromium (Debian: apt-get install chromium chromium-driver)"
	@$(PIP) "selenium>=4.20" || echo "test-report: no selenium from the package index"
	@test -f build/axe/node_modules/axe-core/axe.min.js \
	  || npm install --silent --no-audit --no-fund --prefix build/axe "axe-core@4" \
	  || echo "test-report: no axe-core (needs npm and its registry)"
	$(BIN)/python -m pytest tests/reports/test_browser.py -rs

check: $(VENV)/dev.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/demo.done
	$(BIN)/python -m benchmarks.help
	$(BIN)/python -m benchmarks.capture
	$(BIN)/python -m benchmarks.hooks
	$(BIN)/python -m benchmarks.requantise
	$(BIN)/python -m benchmarks.inspect
	$(BIN)/python -m benchmarks.architectures
	$(BIN)/python -m benchmarks.architectures image-text --keep build/image-text.jsonl
	$(BIN)/python -m benchmarks.measure

# torch first and by itself: an index that holds a CPU build serves that one, without gigabytes of CUDA.
$(VENV)/torch.done: constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch
	touch $@

$(VENV)/%.done: $(VENV)/torch.done pyproject.toml
	$(PIP) --editable ".[$*]"
	touch $@

clean:
	rm -rf $(VENV) build
