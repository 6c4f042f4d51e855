# Two commands on a fresh machine with Python 3.11: `make demo` and `make test`.
# Each makes the virtual environment .venv from pinned requirements first.

PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: demo test test-slow lint clean

# XLA asks for its memory anew at every step on CPUs: what is freed is kept, in huge pages
M = glibc.malloc
KEEP_PAGES = $(M).hugetlb=1:$(M).mmap_threshold=4294967296:$(M).trim_threshold=8589934592

demo: .venv/demo.stamp
	GLIBC_TUNABLES=$(KEEP_PAGES) $(BIN)/python -m ktn_jax.demo --out demo_out

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
