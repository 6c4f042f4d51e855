# Two commands on a fresh machine with Python 3.11: `make demo` and `make test`.
# Each makes the virtual environment .venv from pinned requirements first.

PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: demo test test-slow lint clean

demo: .venv/demo.stamp
	$(BIN)/python -m ktn_jax.demo --out demo_out

test: .venv/test.stamp
	$(BIN)/python -m pytest

test-slow: .venv/test.stamp
	$(BIN)/python -m pytest -m slow

lint: .venv/test.stamp
	$(BIN)/ruff format --check . && $(BIN)/ruff check .

.venv/demo.stamp: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	touch $@

.venv/test.stamp: requirements.txt requirements-pretrained.txt requirements-video.txt requirements-dev.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements-dev.txt
	touch $@

clean:
	rm -rf .venv demo_out
