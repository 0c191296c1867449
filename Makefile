# Everything a newcomer or CI calls. Each target makes the environment it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test test-demo check bench clean

demo: $(VENV)/demo.done
	$(BIN)/abliterate demo --out build/demo --force

test: $(VENV)/test.done
	$(BIN)/python -m pytest -m "not demo"

test-demo: $(VENV)/test.done
	$(BIN)/python -m pytest -m demo

check: $(VENV)/dev.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/demo.done
	$(BIN)/python -m benchmarks.help
	$(BIN)/python -m benchmarks.capture
	$(BIN)/python -m benchmarks.hooks
	$(BIN)/python -m benchmarks.requantise
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
